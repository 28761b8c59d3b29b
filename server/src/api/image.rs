//! ImageService: what is served of it.

use std::time::Duration;

use computedriver::v1::{self, image_service_server::ImageService};
use tonic::{Request, Response};

use super::{
    Api,
    convert::{self, Faults},
    page,
    status::status,
    work::{Reply, Streamed},
};
use crate::{
    action::{PruneImages, PullImage, RemoveImage, RemovedImages, WantedImage},
    error::Error,
    image::ListedImage,
    model::ImageSource,
};

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
}

/// The images that a request names.
fn wanted(
    faults: &mut Faults,
    image: Option<v1::remove_image_request::Image>,
) -> Option<WantedImage> {
    use v1::remove_image_request::Image;
    match image {
        Some(Image::ImageId(id)) if id.is_empty() => {
            faults.wrong("image_id", "must not be empty");
            None
        }
        Some(Image::ImageId(id)) => faults.text("image_id", id, 255).map(WantedImage::Id),
        Some(Image::Sha256(sha256)) => {
            let mut bytes = [0; 32];
            let read = hex::decode_to_slice(&sha256, &mut bytes);
            let read = read.map_err(|_| "must be 64 lower-case hexadecimal digits");
            faults.take("sha256", read.map(|()| WantedImage::Sha256(bytes)))
        }
        None => {
            faults.wrong("image", "is required, as image_id or sha256");
            None
        }
    }
}

#[tonic::async_trait]
impl ImageService for Api {
    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Streamed<v1::PullImageResponse> {
        let read = self.change(request, |faults, request| {
            convert::pull(faults, request.image)
        });
        let (key, source) = read.map_err(|e| status(&e))?;
        let pull = PullImage {
            source: source.clone(),
        };
        self.told(key, pull, move |api, _| {
            let source = source.clone();
            async move { api.cached(&source).await }
        })
        .await
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
        let read = self.change(request, |faults, request| wanted(faults, request.image));
        let (key, image) = read.map_err(|e| status(&e))?;
        let ended = self.done(key, RemoveImage { image }).await?;
        let removed: RemovedImages = ended.answer().map_err(|e| status(&e))?;
        Ok(Response::new(v1::RemoveImageResponse {
            freed_bytes: removed.freed.0,
        }))
    }

    async fn prune_images(
        &self,
        request: Request<v1::PruneImagesRequest>,
    ) -> Reply<v1::PruneImagesResponse> {
        let read = self.change(request, |faults, request| {
            let unused_for = request.unused_for.map(|unused| {
                faults.take(
                    "unused_for",
                    Duration::try_from(unused).map_err(|_| "must not be negative"),
                )
            });
            match unused_for {
                None => Some(None),
                Some(read) => read.map(Some),
            }
        });
        let (key, unused_for) = read.map_err(|e| status(&e))?;
        let ended = self.done(key, PruneImages { unused_for }).await?;
        let removed: RemovedImages = ended.answer().map_err(|e| status(&e))?;
        Ok(Response::new(v1::PruneImagesResponse {
            images: removed.images.iter().map(wire).collect(),
            freed_bytes: removed.freed.0,
        }))
    }
}
