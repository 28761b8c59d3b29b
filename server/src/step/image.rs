//! The image, and the kernel beside it, are had from the cache.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    host::Host,
    image::{Base, CachedImage, ImageProgress},
    model::{DirectKernel, ImageFile, ImageSource, InstanceId, Phase},
    task::{Cx, Step, cancelled},
};

/// Fetches what is not cached yet, and keeps it from being removed while the instance uses it.
#[derive(Debug, Serialize, Deserialize)]
pub struct FetchImage {
    /// For whom.
    pub instance: InstanceId,
    /// The root disk's image; none when that is a volume.
    pub image: Option<ImageSource>,
    /// Kernel and ramdisk, when QEMU loads them itself.
    pub kernel: Option<DirectKernel>,
    /// What its disks rest on already, and go on to when this is taken back.
    #[serde(default)]
    pub before: Vec<String>,
}

/// What was had.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// What the root disk begins as, when an image was asked for.
    pub base: Option<Base>,
    /// The cache's names of all that was had.
    pub keys: Vec<String>,
    /// The kernel's file.
    pub kernel: Option<PathBuf>,
    /// The ramdisk's file.
    pub ramdisk: Option<PathBuf>,
}

#[async_trait]
impl Step for FetchImage {
    type Output = Fetched;
    const NAME: &'static str = "fetch image";
    const PHASE: Phase = Phase::FetchImage;

    async fn apply(&self, cx: Cx<'_>) -> Result<Fetched> {
        // The cache goes on with a fetch that others wait for too; we only stop waiting.
        tokio::select! {
            biased;
            fetched = self.fetch(cx) => fetched,
            () = cx.cancel.cancelled() => Err(cancelled()),
        }
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        host.keeps_images(self.instance, &self.before);
        Ok(())
    }
}

impl FetchImage {
    async fn fetch(&self, cx: Cx<'_>) -> Result<Fetched> {
        let report = cx.report.clone();
        let mut converting = false;
        let show = move |progress: ImageProgress| {
            if progress.phase == Phase::ConvertImage && !converting {
                converting = true;
                report.end(Phase::FetchImage);
                report.begin(Phase::ConvertImage, "converting the image");
            }
            report.advance(progress.phase, "", Some(progress.amount));
        };
        let image = match &self.image {
            Some(image) => Some(cx.host.images.ensure(image, show).await?),
            None => None,
        };
        cx.report.end(Phase::ConvertImage);
        let (mut keys, mut beside) = (Vec::new(), Vec::new());
        if let Some(image) = &image {
            self.pin(cx, image);
            keys.push(image.key.to_string());
        }
        let kernel = self.kernel.as_ref().map(|direct| &direct.kernel);
        let ramdisk = self
            .kernel
            .as_ref()
            .and_then(|direct| direct.ramdisk.as_ref());
        let files: Vec<&ImageFile> = [kernel, ramdisk].into_iter().flatten().collect();
        for file in files {
            let cached = self.file(cx, file).await?;
            keys.push(cached.key.to_string());
            beside.push(cached.path.clone());
        }
        let mut beside = beside.into_iter();
        Ok(Fetched {
            base: image.map(|image| image.base()),
            keys,
            kernel: beside.next(),
            ramdisk: beside.next(),
        })
    }

    fn pin(&self, cx: Cx<'_>, image: &CachedImage) {
        cx.host.images.pin(&image.key, self.instance);
    }

    async fn file(&self, cx: Cx<'_>, file: &ImageFile) -> Result<Arc<CachedImage>> {
        let report = cx.report.clone();
        let show = move |progress: ImageProgress| {
            report.advance(progress.phase, "fetching the kernel", Some(progress.amount));
        };
        let cached = cx.host.images.ensure_file(file, show).await?;
        self.pin(cx, &cached);
        Ok(cached)
    }
}
