//! Disk images: fetched, inspected before any other program opens them, kept in a cache, and made into disks.
//!
//! ```text
//! ensure ──▶ in the cache? ── yes ──────────────────────────────────────────▶ CachedImage
//!               │ no, or nobody vouches for the content
//!               └──▶ fetch to .part ──▶ sha256 ──▶ inspect ──▶ convert ──▶ rename
//! ```
//!
//! However many ask for one image at once, it is fetched once. An image that failed leaves nothing. What was cached is
//! named by its content and never written again, so that disks can rest on it. A disk is made from a cached image
//! through the port [`ImageBackend`].

mod backend;
mod cache;
mod convert;
mod error;
mod fetch;
mod flight;
mod formatted;
pub mod inspect;
mod intake;
pub mod layer;
mod qcow2;
mod raw;
mod swap;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use backend::{Base, DiskContent, DiskRef, ImageBackend, NewDisk};
pub use cache::{CachedImage, ImageKey, ImageRecord, ListedImage};
pub use convert::flatten;
pub use error::ImageError;
pub use fetch::{FetchLimits, ImageProgress};
pub use formatted::Filesystem;
pub use qcow2::Qcow2;
pub use raw::Raw;

use self::{
    backend::blocking,
    cache::Cache,
    fetch::Fetcher,
    flight::Flights,
    intake::{Ended, Intake, Stages, Wanted},
};
use crate::{
    metrics::IMAGE_REQUESTS,
    model::{Bytes, ImageFile, ImageSource, InstanceId},
};

/// How images are kept.
#[derive(Clone, Debug)]
pub struct ImageSettings {
    /// The cache's folder; made if it is not there.
    pub folder: PathBuf,
    /// Whether every image is kept raw: larger, but quicker for the guest, and a base for raw disks.
    pub force_raw: bool,
    /// How long an image that nothing rests on is kept, unless said otherwise.
    pub unused_for: Duration,
    /// Where images may come from, and how much is waited for.
    pub limits: FetchLimits,
}

/// The cache of images. Clones share it.
#[derive(Clone, Debug)]
pub struct Images {
    unused_for: Duration,
    intake: Arc<Intake>,
    flights: Arc<Flights<Wanted, ImageProgress, Ended>>,
}

impl Images {
    /// Opens the cache: adopts what it holds, removes what a crash left in the making. Blocks.
    ///
    /// # Errors
    /// When its folder cannot be made or read.
    pub fn open(settings: ImageSettings) -> Result<Self, ImageError> {
        let cache =
            Cache::open(&settings.folder).map_err(|e| ImageError::storage("image cache", e))?;
        let intake = Intake {
            cache,
            fetcher: Fetcher::new(settings.folder, settings.limits),
            force_raw: settings.force_raw,
        };
        Ok(Self {
            unused_for: settings.unused_for,
            intake: Arc::new(intake),
            flights: Arc::new(Flights::new()),
        })
    }

    /// The disk image, in the cache; fetched if it is not there, or if nobody names its sha256 and its location has
    /// changed.
    ///
    /// # Errors
    /// Whatever is wrong with location, bytes or host; nothing is left of it then.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the fetch to the others who wait for it; with the last of them, the fetch ends.
    pub async fn ensure(
        &self,
        source: &ImageSource,
        progress: impl FnMut(ImageProgress),
    ) -> Result<Arc<CachedImage>, ImageError> {
        let (file, format) = (source.file.clone(), Some(source.format));
        self.obtain(Wanted { file, format }, progress).await
    }

    /// A kernel or ramdisk, in the cache: as [`Images::ensure`], without a look at its content.
    ///
    /// # Errors
    /// Whatever is wrong with location, bytes or host.
    pub async fn ensure_file(
        &self,
        file: &ImageFile,
        progress: impl FnMut(ImageProgress),
    ) -> Result<Arc<CachedImage>, ImageError> {
        let file = file.clone();
        self.obtain(Wanted { file, format: None }, progress).await
    }

    async fn obtain(&self, wanted: Wanted, progress: impl FnMut(ImageProgress)) -> Ended {
        let id = wanted.file.id.clone();
        if let Some(sha256) = wanted.file.sha256
            && let Some(image) = self
                .intake
                .find(wanted.key(sha256, self.intake.force_raw), &id)
                .await?
        {
            IMAGE_REQUESTS.of(["hit"]).increment();
            return Ok(image);
        }
        IMAGE_REQUESTS.of(["miss"]).increment();
        let work = |stages: Stages| self.intake.clone().fly(wanted.clone(), stages);
        let ended = self.flights.join(wanted.clone(), work, progress).await;
        ended.unwrap_or(Err(ImageError::Abandoned { image: id }))
    }

    /// An empty file system that ephemeral disks of this size begin as; made once. Its label has letters, digits, `-`
    /// and `_`.
    ///
    /// # Errors
    /// Those of the file system, and of the tool that makes it.
    pub async fn formatted(
        &self,
        filesystem: Filesystem,
        label: &str,
        size: Bytes,
    ) -> Result<Base, ImageError> {
        let folder = self.intake.cache.folder().join("formatted");
        formatted::formatted(&folder, filesystem, label, size).await
    }

    /// What a disk that rests on the image begins as; none when the cache does not have it.
    pub fn base(&self, key: &ImageKey) -> Option<Base> {
        self.intake.cache.base(key)
    }

    /// Notes that a disk of `instance` rests on an image, which stays from now on. Told again after a restart.
    pub fn pin(&self, key: &ImageKey, instance: InstanceId) {
        self.intake.cache.pin(key, instance);
    }

    /// Notes that the disks of `instance` rest on these images, and on no others any more.
    pub fn pin_only(&self, keys: &[ImageKey], instance: InstanceId) {
        self.intake.cache.pin_only(keys, instance);
    }

    /// Notes that no disk of `instance` exists any more.
    pub fn unpin(&self, instance: InstanceId) {
        self.intake.cache.unpin(instance);
    }

    /// All images, in the order of their keys, hence of their sha256.
    ///
    /// # Errors
    /// Only when the server is ending.
    pub async fn list(&self) -> Result<Vec<ListedImage>, ImageError> {
        let intake = self.intake.clone();
        blocking(move || Ok(intake.cache.list())).await
    }

    /// Removes an image; answers how many bytes that freed. One that is not there is as good.
    ///
    /// # Errors
    /// `InUse` while a disk rests on it or somebody is about to make one.
    pub async fn remove(&self, key: &ImageKey) -> Result<Bytes, ImageError> {
        let (intake, key) = (self.intake.clone(), key.clone());
        blocking(move || intake.cache.remove(&key)).await
    }

    /// Removes the images that were not used for so long, or for as long as such are kept here, and that nothing rests on;
    /// answers with them.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn prune(
        &self,
        unused_for: Option<Duration>,
    ) -> Result<Vec<ListedImage>, ImageError> {
        let unused_for = unused_for.unwrap_or(self.unused_for);
        let intake = self.intake.clone();
        let old = move |image: &ListedImage| {
            let age = SystemTime::now().duration_since(image.used);
            image.instances.is_empty() && age.is_ok_and(|age| age >= unused_for)
        };
        let prune = move || {
            let mut pruned = Vec::new();
            for image in intake.cache.list().into_iter().filter(old) {
                match intake.cache.remove(&image.key) {
                    Ok(_) => pruned.push(image),
                    Err(ImageError::InUse { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(pruned)
        };
        blocking(prune).await
    }

    /// Gives up all fetches and waits until they are gone; for the end of the server.
    pub async fn close(&self) {
        self.flights.close().await;
    }
}

#[cfg(test)]
mod tests;
