//! RemoveImage and PruneImages: images that nothing rests on leave the cache. What is removed can only be fetched again, so
//! both go forward only; one that was cut short is repeated.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    action::Action,
    error::Result,
    image::{ImageError, ListedImage},
    model::{Bytes, InstanceId, Verb},
    task::Task,
};

/// Removes an image.
#[derive(Clone, Debug)]
pub struct RemoveImage {
    /// Which one.
    pub image: Wanted,
}

/// Names images of the cache.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// By the id that they were last asked for by.
    Id(String),
    /// By their content.
    Sha256([u8; 32]),
}

impl Wanted {
    fn is(&self, image: &ListedImage) -> bool {
        match self {
            Self::Id(id) => image.record.id == *id,
            Self::Sha256(sha256) => image.record.sha256 == *sha256,
        }
    }
}

/// Removes images that were not used for a while.
#[derive(Clone, Debug)]
pub struct PruneImages {
    /// For how long; none is the host's own word.
    pub unused_for: Option<Duration>,
}

/// What was removed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RemovedImages {
    /// The images, as they were.
    pub images: Vec<ListedImage>,
    /// What that freed on the host.
    pub freed: Bytes,
}

impl RemovedImages {
    fn of(images: Vec<ListedImage>) -> Self {
        let freed = images.iter().map(|image| image.allocated.0).sum();
        Self {
            images,
            freed: Bytes(freed),
        }
    }
}

#[async_trait]
impl Action for RemoveImage {
    const VERB: Verb = Verb::RemoveImage;

    fn instance(&self) -> Option<InstanceId> {
        None
    }

    fn image(&self) -> Option<String> {
        Some(match &self.image {
            Wanted::Id(id) => id.clone(),
            Wanted::Sha256(sha256) => hex::encode(sha256),
        })
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let images = &task.host().images;
        let mut found = images.list().await?;
        found.retain(|image| self.image.is(image));
        // Before any of them goes: an id may have had several contents.
        if let Some(used) = found.iter().find(|image| !image.instances.is_empty()) {
            let image = used.record.id.clone();
            return Err(ImageError::InUse { image }.into());
        }
        for image in &found {
            images.remove(&image.key).await?;
        }
        task.answer(&RemovedImages::of(found))
    }
}

#[async_trait]
impl Action for PruneImages {
    const VERB: Verb = Verb::PruneImages;

    fn instance(&self) -> Option<InstanceId> {
        None
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let pruned = task.host().images.prune(self.unused_for).await?;
        task.answer(&RemovedImages::of(pruned))
    }
}
