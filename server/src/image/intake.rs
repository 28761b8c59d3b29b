//! From a location into the cache: fetched, checked against its hash, inspected, converted, put in its place.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::sync::watch;

use super::{
    backend::blocking,
    cache::{Cache, CachedImage, ImageKey, ImageRecord},
    convert,
    error::ImageError,
    fetch::{self, Fetched, Fetcher, ImageProgress, Outcome, Validator},
    flight::Stage,
    inspect::{Inspection, inspect},
};
use crate::{
    metrics::IMAGE_FETCHES,
    model::{Bytes, DiskFormat, ImageFile},
    sys::file::Part,
};

pub(super) type Ended = Result<Arc<CachedImage>, ImageError>;
pub(super) type Stages = watch::Sender<Stage<ImageProgress, Ended>>;

/// A file that somebody wants: as a disk of this format, or as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) file: ImageFile,
    pub(super) format: Option<DiskFormat>,
}

/// What makes images: the cache and the way into it.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) cache: Cache,
    pub(super) fetcher: Fetcher,
    pub(super) force_raw: bool,
}

impl Wanted {
    fn kept_as(&self, force_raw: bool) -> Option<DiskFormat> {
        self.format.map(|format| match format {
            // Both are sectors already.
            DiskFormat::Raw | DiskFormat::Iso => DiskFormat::Raw,
            _ if force_raw => DiskFormat::Raw,
            _ => DiskFormat::Qcow2,
        })
    }

    pub(super) fn key(&self, sha256: [u8; 32], force_raw: bool) -> ImageKey {
        ImageKey::new(sha256, self.format.zip(self.kept_as(force_raw)))
    }
}

impl Intake {
    pub(super) async fn find(
        self: &Arc<Self>,
        key: ImageKey,
        id: &str,
    ) -> Result<Option<Arc<CachedImage>>, ImageError> {
        let (intake, id) = (self.clone(), id.to_owned());
        blocking(move || Ok(intake.cache.find(&key, &id).map(Arc::new))).await
    }

    /// The one flight of an image.
    pub(super) async fn fly(self: Arc<Self>, wanted: Wanted, stages: Stages) -> Ended {
        let begun = Instant::now();
        let ended = self.obtain(wanted, stages).await;
        let outcome = if ended.is_ok() { "ok" } else { "failed" };
        IMAGE_FETCHES.of([outcome]).record(begun.elapsed());
        ended
    }

    async fn obtain(self: Arc<Self>, wanted: Wanted, stages: Stages) -> Ended {
        let report = move |progress| {
            stages.send_replace(Stage::Going(Some(progress)));
        };
        let formats = (wanted.format, wanted.kept_as(self.force_raw));
        // With a hash to check against, what the location held before is no help.
        let known = match wanted.file.sha256 {
            Some(_) => Vec::new(),
            None => self.cache.located_at(&wanted.file.location, formats),
        };
        let (keys, validators): (Vec<_>, Vec<_>) = known.into_iter().unzip();
        let file = &wanted.file;
        let mut outcome = self.fetcher.fetch(file, &validators, &report).await?;
        if let Outcome::Unchanged(state) = &outcome {
            let same = validators.iter().position(|known| known == state);
            if let Some(key) = same.and_then(|nth| keys.get(nth))
                && let Some(image) = self.find(key.clone(), &file.id).await?
            {
                return Ok(image);
            }
            // It was removed meanwhile.
            outcome = self.fetcher.fetch(file, &[], &report).await?;
        }
        match outcome {
            Outcome::Fetched(fetched) => self.settle(wanted, fetched, &report).await,
            Outcome::Unchanged(_) => Err(ImageError::Fetch {
                image: wanted.file.id,
                why: "the server speaks of a state that was never seen".to_owned(),
            }),
        }
    }

    /// Looks at what was fetched, and keeps it when it is good.
    async fn settle(
        self: Arc<Self>,
        wanted: Wanted,
        fetched: Fetched,
        report: fetch::Report<'_>,
    ) -> Ended {
        let Wanted { file, format } = &wanted;
        if let Some(expected) = file.sha256.filter(|expected| *expected != fetched.sha256) {
            let (expected, actual) = (hex::encode(expected), hex::encode(fetched.sha256));
            return Err(ImageError::Checksum {
                image: file.id.clone(),
                expected,
                actual,
            });
        }
        let key = wanted.key(fetched.sha256, self.force_raw);
        if let Some(image) = self.find(key.clone(), &file.id).await? {
            self.came_from(key, wanted.file, fetched.validator).await?;
            return Ok(image);
        }
        let kept_as = wanted.kept_as(self.force_raw);
        let (part, virtual_size) = match format.zip(kept_as) {
            Some(formats) => accept(&self.cache, file, fetched.part, formats, report).await?,
            None => (fetched.part, fetched.size),
        };
        let record = ImageRecord {
            id: file.id.clone(),
            location: file.location.clone(),
            sha256: fetched.sha256,
            source_format: *format,
            cached_format: kept_as,
            source_size: fetched.size,
            virtual_size,
            fetched: SystemTime::now(),
            validator: fetched.validator,
        };
        blocking(move || {
            let id = record.id.clone();
            let installed = self.cache.install(part, &key, record);
            installed.map_err(|e| ImageError::storage(format!("image {id}"), e))?;
            let found = self.cache.find(&key, &id).map(Arc::new);
            found.ok_or_else(|| ImageError::Fetch {
                image: id,
                why: "it was removed at once".to_owned(),
            })
        })
        .await
    }

    async fn came_from(
        self: &Arc<Self>,
        key: ImageKey,
        file: ImageFile,
        state: Validator,
    ) -> Result<(), ImageError> {
        let intake = self.clone();
        blocking(move || {
            let noted = intake.cache.came_from(&key, &file.location, &state);
            noted.map_err(|e| ImageError::storage(format!("image {}", file.id), e))
        })
        .await
    }
}

/// Refuses what is not harmless and as declared; converts the rest where it must be.
async fn accept(
    cache: &Cache,
    file: &ImageFile,
    part: Part,
    (declared, kept_as): (DiskFormat, DiskFormat),
    report: fetch::Report<'_>,
) -> Result<(Part, Bytes), ImageError> {
    let (part, found) = checked(file, part, declared).await?;
    let sectors = matches!(declared, DiskFormat::Raw | DiskFormat::Iso);
    if sectors || declared == kept_as {
        return Ok((part, Bytes(found.virtual_size)));
    }
    let storage = |e| ImageError::storage(format!("image {}", file.id), e);
    let target = Part::create(&cache.folder().join("converted")).map_err(storage)?;
    let from = (part.path(), declared, &found);
    convert::convert(&file.id, from, (target.path(), kept_as), report).await?;
    // Of its size QEMU's word counts: some formats say it twice.
    let (target, found) = checked(file, target, kept_as).await?;
    Ok((target, Bytes(found.virtual_size)))
}

async fn checked(
    file: &ImageFile,
    part: Part,
    format: DiskFormat,
) -> Result<(Part, Inspection), ImageError> {
    let image = file.id.clone();
    blocking(move || {
        let found =
            inspect(part.file()).map_err(|e| ImageError::storage(format!("image {image}"), e))?;
        match found.check(format) {
            Ok(()) => Ok((part, found)),
            Err(source) => Err(ImageError::Unacceptable { image, source }),
        }
    })
    .await
}
