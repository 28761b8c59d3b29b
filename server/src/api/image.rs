//! ImageService: what is served of it.

use computedriver::v1::{self, image_service_server::ImageService};
use futures::StreamExt;
use tonic::{Request, Response, Status};

use super::{
    Api, convert,
    operation::heartbeat,
    page,
    peer::caller,
    status::status,
    stream::{Answers, Seen, follow},
};
use crate::{
    action::PullImage,
    error::{Error, Kind},
    image::{ImageError, ListedImage},
    model::ImageSource,
    operation::RequestKey,
};

type Reply<T> = Result<Response<T>, Status>;

fn wire(image: &ListedImage) -> v1::CachedImage {
    let record = &image.record;
    let format = |format: Option<crate::model::DiskFormat>| {
        format.map_or(v1::DiskFormat::Unspecified, convert::format)
    };
    v1::CachedImage {
        image_id: record.id.clone(),
        sha256: hex::encode(record.sha256),
        location: record.location.clone(),
        source_format: format(record.source_format).into(),
        cached_format: format(record.cached_format).into(),
        source_bytes: record.source_size.0,
        virtual_bytes: record.virtual_size.0,
        allocated_bytes: image.allocated.0,
        fetched_time: Some(convert::timestamp(record.fetched)),
        used_time: Some(convert::timestamp(image.used)),
        instance_ids: image.instances.iter().map(ToString::to_string).collect(),
    }
}

impl Api {
    /// The image as the cache lists it.
    async fn cached(&self, source: &ImageSource) -> Result<v1::CachedImage, Error> {
        let listed = self.host.images.list().await?;
        let matches = |image: &&ListedImage| match source.file.sha256 {
            Some(sha256) => image.record.sha256 == sha256,
            None => image.record.location == source.file.location,
        };
        // The newest, when a location has had several contents.
        let newest = listed.iter().filter(matches).max_by_key(|image| image.used);
        newest
            .map(wire)
            .ok_or_else(|| Error::internal("the pulled image is not in the cache"))
    }

    async fn begin_pull(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<
        (
            ImageSource,
            tokio::sync::watch::Receiver<crate::task::Progress>,
        ),
        Error,
    > {
        let caller = caller(&request);
        let (request, source) = convert::pull(request.into_inner())?;
        let body = format!("{source:?}");
        let fingerprint = self
            .host
            .store
            .fingerprinter()
            .of(&[b"pull", body.as_bytes()]);
        let action = PullImage {
            source: source.clone(),
        };
        let progress = self
            .operations
            .begin(
                RequestKey {
                    request,
                    fingerprint,
                    caller,
                },
                action,
            )
            .await?;
        Ok((source, progress))
    }

    async fn remove(&self, request: v1::RemoveImageRequest) -> Result<u64, Error> {
        use v1::remove_image_request::Image;
        let wanted = request.image.ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                "INVALID_REQUEST",
                "image is required, as image_id or sha256",
            )
            .with("fields", "image")
        })?;
        let matches = |image: &&ListedImage| match &wanted {
            Image::ImageId(id) => image.record.id == *id,
            Image::Sha256(sha256) => hex::encode(image.record.sha256) == *sha256,
        };
        let listed = self.host.images.list().await?;
        if let Some(used) = listed
            .iter()
            .filter(matches)
            .find(|image| !image.instances.is_empty())
        {
            return Err(ImageError::InUse {
                image: used.record.id.clone(),
            }
            .into());
        }
        let mut freed = 0;
        for image in listed.iter().filter(matches) {
            freed += self.host.images.remove(&image.key).await?.0;
        }
        Ok(freed)
    }
}

#[tonic::async_trait]
impl ImageService for Api {
    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Reply<Answers<v1::PullImageResponse>> {
        use v1::pull_image_response::Event;
        let (source, progress) = self.begin_pull(request).await.map_err(|e| status(&e))?;
        let api = self.clone();
        let answers = follow(progress, self.drain.clone()).then(move |seen| {
            let (api, source) = (api.clone(), source.clone());
            async move {
                let event = match seen? {
                    Seen::Progress(event) => Event::Progress(convert::progress(*event)),
                    Seen::Heartbeat => Event::Heartbeat(heartbeat()),
                    Seen::Done => Event::Image(api.cached(&source).await.map_err(|e| status(&e))?),
                };
                Ok(v1::PullImageResponse { event: Some(event) })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Reply<v1::ListImagesResponse> {
        let request = request.into_inner();
        let size = page::size(request.page_size);
        let after = page::after("images", &request.page_token).map_err(|e| status(&e))?;
        let listed = self
            .host
            .images
            .list()
            .await
            .map_err(|e| status(&e.into()))?;
        let rest = listed.iter().filter(|image| {
            after
                .as_ref()
                .is_none_or(|after| image.key.to_string() > *after)
        });
        let mut page: Vec<_> = rest.take(size + 1).collect();
        let more = page.len() > size;
        page.truncate(size);
        let last = page
            .last()
            .filter(|_| more)
            .map(|image| page::token("images", &image.key.to_string()));
        let images = page.into_iter().map(wire).collect();
        Ok(Response::new(v1::ListImagesResponse {
            images,
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Reply<v1::RemoveImageResponse> {
        let freed_bytes = self
            .remove(request.into_inner())
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(v1::RemoveImageResponse { freed_bytes }))
    }
}
