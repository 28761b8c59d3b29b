//! ImageService: the host's cache of images.

use computedriver_client::v1::{self, remove_image_request::Image};
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

/// A hundred years.
const AGES: prost_types::Duration = prost_types::Duration {
    seconds: 100 * 365 * 24 * 3600,
    nanos: 0,
};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["ImageService/PullImage"],
        "an image is pulled once, and is the same when pulled again",
        pulled
    ),
    check!(
        ["ImageService/ListImages"],
        "the image that an instance rests on says so",
        listed
    ),
    check!(
        ["ImageService/RemoveImage"],
        "an image in use is not removed, an absent one is",
        removed
    ),
    check!(
        ["ImageService/PruneImages"],
        "a prune leaves what is used, and answers a repeat alike",
        pruned
    ),
];

fn wanted(bench: &Bench) -> Result<v1::Image, Fault> {
    let image = bench.template.image.clone();
    image.ok_or_else(|| Fault::Skipped("the instance is made from no image".to_owned()))
}

async fn pulled(bench: &Bench) -> Verdict {
    let pull = async || {
        let request = v1::PullImageRequest {
            image: Some(wanted(bench)?),
            ..Default::default()
        };
        Ok::<_, Fault>(bench.client.pull_image(request, |_| ()).await?)
    };
    let (first, again) = (pull().await?, pull().await?);
    hold!(
        first.sha256.len() == 64 && first.virtual_bytes > 0,
        "{first:?}"
    );
    let same = first.sha256 == again.sha256 && first.fetched_time == again.fetched_time;
    hold!(same, "it was fetched anew");
    Ok(())
}

/// The image that the instance rests on.
async fn used(bench: &Bench) -> Result<v1::CachedImage, Fault> {
    let id = bench.id()?;
    let mut all = bench.images().await?.into_iter();
    let used = all.find(|image| image.instance_ids.contains(&id));
    used.ok_or_else(|| Fault::Failed("no image is used by it".to_owned()))
}

async fn listed(bench: &Bench) -> Verdict {
    let (used, wanted) = (used(bench).await?, wanted(bench)?);
    let same = wanted.sha256.is_empty() || used.sha256 == wanted.sha256;
    hold!(same, "it is {}, not {}", used.sha256, wanted.sha256);
    Ok(())
}

async fn removed(bench: &Bench) -> Verdict {
    let used = used(bench).await?;
    let remove = async |image: Image| {
        let request = v1::RemoveImageRequest {
            image: Some(image),
            ..Default::default()
        };
        bench.client.images().remove_image(request).await
    };
    let outcome = remove(Image::Sha256(used.sha256)).await;
    refused(outcome, (Code::FailedPrecondition, "IMAGE_IN_USE"))?;
    let absent = remove(Image::ImageId(format!("absent-{}", nobody()))).await?;
    let freed = absent.into_inner().freed_bytes;
    hold!(freed == 0, "what is absent frees {freed} bytes");
    Ok(())
}

/// Other images of the host are none of this check's: those that go must have been unused for longer than there are hosts.
async fn pruned(bench: &Bench) -> Verdict {
    let used = used(bench).await?;
    let request = v1::PruneImagesRequest {
        unused_for: Some(AGES),
        request_id: nobody(),
    };
    let prune = async || {
        let mut images = bench.client.images();
        images.prune_images(request.clone()).await
    };
    let (first, again) = (prune().await?.into_inner(), prune().await?.into_inner());
    hold!(first == again, "a repeat answers otherwise: {again:?}");
    let gone = first.images.iter().any(|image| image.sha256 == used.sha256);
    hold!(!gone, "an image that an instance rests on was removed");
    let images = bench.images().await?;
    let there = images.iter().any(|image| image.sha256 == used.sha256);
    hold!(there, "it is not listed any more");
    Ok(())
}
