//! The folder of images that were fetched and found good, and who rests on them.
//!
//! ```text
//! <sha256>-<what it came as>.<what it is kept as>         the image, never written again
//! <sha256>-<what it came as>.<what it is kept as>.json    where it came from and when
//! ….part                                                  in the making; after a crash, rubbish
//! formatted/                                              empty file systems that ephemeral disks begin as
//! ```
//!
//! What disks rest on stays our own user's, mode 0644: QEMU's user must read it, and no guest that has taken over its
//! emulator may write what others rest on. Other users may pass through the folder but not list it (0711), and a name
//! in it tells nothing to who does not know the content's hash. All else is mode 0600.
//!
//! All of it blocks; call it off the runtime.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{backend::Base, error::ImageError, fetch::Validator, inspect::name};
use crate::{
    model::{Bytes, DiskFormat, InstanceId},
    sys::file::{self, Durable, PART, Part},
};

const RECORD: &str = "json";

/// Names an image in the cache: by its content, what it came as, and what it is kept as.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageKey(String);

impl ImageKey {
    /// `formats`: what it came as and is kept as; none for a file that is no disk.
    pub(super) fn new(sha256: [u8; 32], formats: Option<(DiskFormat, DiskFormat)>) -> Self {
        let sha256 = hex::encode(sha256);
        Self(match formats {
            Some((source, kept)) => format!("{sha256}-{}.{}", name(source), name(kept)),
            None => format!("{sha256}-file.file"),
        })
    }
}

impl ImageKey {
    /// Reads back a key as it was shown; none when it could not have been one.
    pub fn read(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        text.chars().all(plain).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an image in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The id by which it was last asked for.
    pub id: String,
    /// The location it was last fetched from.
    pub location: String,
    /// SHA-256 of the bytes as fetched.
    #[serde(with = "hex")]
    pub sha256: [u8; 32],
    /// What the bytes were; none for a kernel or ramdisk.
    pub source_format: Option<DiskFormat>,
    /// What the cached file is; none for a kernel or ramdisk.
    pub cached_format: Option<DiskFormat>,
    /// Bytes as fetched.
    pub source_size: Bytes,
    /// Bytes that a guest would see; those of the file for a kernel or ramdisk.
    pub virtual_size: Bytes,
    /// When it was fetched.
    pub fetched: SystemTime,
    /// The state of the location at that time.
    pub(super) validator: Validator,
}

/// An image in the cache. While one of these is held, the image stays.
#[derive(Clone, Debug)]
pub struct CachedImage {
    /// Its name in the cache.
    pub key: ImageKey,
    /// Its file.
    pub path: PathBuf,
    /// What is known of it.
    pub record: ImageRecord,
    _lease: Arc<()>,
}

/// An image as it is listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedImage {
    /// Its name in the cache.
    pub key: ImageKey,
    /// What is known of it.
    pub record: ImageRecord,
    /// Bytes that it takes on the host.
    pub allocated: Bytes,
    /// When it was last asked for.
    pub used: SystemTime,
    /// Instances whose disks rest on it.
    pub instances: Vec<InstanceId>,
}

impl CachedImage {
    /// What a disk can begin as.
    pub fn base(&self) -> Base {
        Base {
            path: self.path.clone(),
            format: self.record.cached_format.unwrap_or(DiskFormat::Raw),
            virtual_size: self.record.virtual_size,
        }
    }

    /// The size of a root disk: what is `asked` for, or the image's own.
    ///
    /// # Errors
    /// `DiskTooSmall` when the image is larger.
    pub fn root_size(&self, asked: Option<Bytes>) -> Result<Bytes, ImageError> {
        let needed = self.record.virtual_size;
        match asked {
            Some(asked) if asked < needed => Err(ImageError::DiskTooSmall {
                image: self.record.id.clone(),
                needed,
                asked,
            }),
            asked => Ok(asked.unwrap_or(needed)),
        }
    }
}

/// The folder and what it holds.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<ImageKey, Entry>,
    pins: BTreeMap<ImageKey, BTreeSet<InstanceId>>,
}

#[derive(Debug)]
struct Entry {
    record: ImageRecord,
    used: SystemTime,
    lease: Arc<()>,
}

impl Cache {
    /// Opens or makes the folder; removes what a crash left in the making.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        // Others may pass through, as QEMU's own user must, and list nothing.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711);
        builder.create(folder.join("formatted"))?;
        let cache = Self {
            folder: folder.to_owned(),
            state: Mutex::default(),
        };
        remove_parts(&folder.join("formatted"))?;
        remove_parts(folder)?;
        for found in fs::read_dir(folder)? {
            let path = found?.path();
            if path.extension().is_some_and(|ending| ending == RECORD) {
                cache.adopt(&path)?;
            }
        }
        Ok(cache)
    }

    fn adopt(&self, record_path: &Path) -> io::Result<()> {
        let path = record_path.with_extension("");
        let Some(key) = path.file_name().and_then(|key| key.to_str()) else {
            return Ok(());
        };
        match path.try_exists()? {
            // The record comes first and the image after it; a crash fell between them.
            false => file::remove(record_path),
            true => match serde_json::from_slice(&fs::read(record_path)?) {
                Ok(record) => {
                    let used = fs::metadata(record_path)?.modified()?;
                    let entry = Entry {
                        record,
                        used,
                        lease: Arc::default(),
                    };
                    self.state
                        .lock()
                        .images
                        .insert(ImageKey(key.to_owned()), entry);
                    Ok(())
                }
                // Disks may rest on it: it stays, and is fetched beside itself when it is asked for again.
                Err(e) => {
                    tracing::warn!(image = key, error = %e, "record of a cached image does not read");
                    Ok(())
                }
            },
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a disk that rests on the image begins as.
    pub(super) fn base(&self, key: &ImageKey) -> Option<Base> {
        let state = self.state.lock();
        let record = &state.images.get(key)?.record;
        Some(Base {
            path: self.folder.join(&key.0),
            format: record.cached_format.unwrap_or(DiskFormat::Raw),
            virtual_size: record.virtual_size,
        })
    }

    /// An image that is there, now used by somebody who calls it `id`.
    pub(super) fn find(&self, key: &ImageKey, id: &str) -> Option<CachedImage> {
        let path = self.folder.join(&key.0);
        let mut state = self.state.lock();
        let entry = state.images.get_mut(key)?;
        // Someone may have tidied by hand.
        if !path.is_file() {
            state.images.remove(key);
            return None;
        }
        entry.used = SystemTime::now();
        let (used, renamed) = (entry.used, entry.record.id != id);
        id.clone_into(&mut entry.record.id);
        let found = CachedImage {
            key: key.clone(),
            path,
            record: entry.record.clone(),
            _lease: entry.lease.clone(),
        };
        drop(state);
        self.note_use(&found, used, renamed);
        Some(found)
    }

    /// What a restart knows of the use depends on it, nothing else: a failure is told and forgotten.
    fn note_use(&self, image: &CachedImage, used: SystemTime, renamed: bool) {
        let note = || {
            if renamed {
                self.write_record(&image.key, &image.record, Durable::Lazily)?;
            }
            let record = File::options()
                .append(true)
                .open(self.record_path(&image.key))?;
            record.set_modified(used)
        };
        if let Err(e) = note() {
            tracing::debug!(image = %image.key, error = %e, "use of an image was not noted");
        }
    }

    /// Images that came from `location` in these formats, in whatever state it was.
    pub(super) fn located_at(
        &self,
        location: &str,
        formats: (Option<DiskFormat>, Option<DiskFormat>),
    ) -> Vec<(ImageKey, Validator)> {
        let state = self.state.lock();
        let fits = |record: &ImageRecord| {
            record.location == location && (record.source_format, record.cached_format) == formats
        };
        let images = state.images.iter().filter(|(_, entry)| fits(&entry.record));
        images
            .map(|(key, entry)| (key.clone(), entry.record.validator.clone()))
            .collect()
    }

    /// Puts a finished image in its place; one that is there already stays, with what rests on it.
    pub(super) fn install(
        &self,
        part: Part,
        key: &ImageKey,
        record: ImageRecord,
    ) -> io::Result<()> {
        let path = self.folder.join(&key.0);
        // A kernel or ramdisk is copied for each instance.
        if record.cached_format.is_some() {
            part.share()?;
        }
        self.write_record(key, &record, Durable::Synced)?;
        if let Err(e) = part.keep_unless_there(&path, Durable::Synced) {
            if !self.state.lock().images.contains_key(key) {
                file::remove(&self.record_path(key))?;
            }
            return Err(e);
        }
        let mut state = self.state.lock();
        let used = SystemTime::now();
        match state.images.get_mut(key) {
            Some(entry) => entry.record = record,
            None => {
                let entry = Entry {
                    record,
                    used,
                    lease: Arc::default(),
                };
                state.images.insert(key.clone(), entry);
            }
        }
        Ok(())
    }

    /// Notes that an image was found at another place, or at its place in another state.
    pub(super) fn came_from(
        &self,
        key: &ImageKey,
        location: &str,
        validator: &Validator,
    ) -> io::Result<()> {
        let record = {
            let mut state = self.state.lock();
            let Some(entry) = state.images.get_mut(key) else {
                return Ok(());
            };
            location.clone_into(&mut entry.record.location);
            entry.record.validator.clone_from(validator);
            entry.record.clone()
        };
        self.write_record(key, &record, Durable::Synced)
    }

    fn write_record(
        &self,
        key: &ImageKey,
        record: &ImageRecord,
        durable: Durable,
    ) -> io::Result<()> {
        let part = Part::create(&self.record_path(key))?;
        serde_json::to_writer(part.file(), record)?;
        part.keep(durable)
    }

    fn record_path(&self, key: &ImageKey) -> PathBuf {
        self.folder.join(format!("{key}.{RECORD}"))
    }

    pub(super) fn pin(&self, key: &ImageKey, instance: InstanceId) {
        let mut state = self.state.lock();
        state.pins.entry(key.clone()).or_default().insert(instance);
    }

    pub(super) fn unpin(&self, instance: InstanceId) {
        self.pin_only(&[], instance);
    }

    /// In one go: what stays pinned is not without a pin for a moment.
    pub(super) fn pin_only(&self, keys: &[ImageKey], instance: InstanceId) {
        let mut state = self.state.lock();
        state.pins.retain(|key, instances| {
            if !keys.contains(key) {
                instances.remove(&instance);
            }
            !instances.is_empty()
        });
        for key in keys {
            state.pins.entry(key.clone()).or_default().insert(instance);
        }
    }

    pub(super) fn list(&self) -> Vec<ListedImage> {
        let state = self.state.lock();
        let listed = |(key, entry): (&ImageKey, &Entry)| ListedImage {
            key: key.clone(),
            record: entry.record.clone(),
            allocated: allocated(&self.folder.join(&key.0)),
            used: entry.used,
            instances: state.pins.get(key).into_iter().flatten().copied().collect(),
        };
        state.images.iter().map(listed).collect()
    }

    /// Removes an image; answers how many bytes that freed, none when it was not there.
    pub(super) fn remove(&self, key: &ImageKey) -> Result<Bytes, ImageError> {
        // Held to the end, so that nobody takes the image between the question and the removal.
        let mut state = self.state.lock();
        let Some(entry) = state.images.get(key) else {
            return Ok(Bytes(0));
        };
        let id = entry.record.id.clone();
        if state.pins.contains_key(key) || Arc::strong_count(&entry.lease) > 1 {
            return Err(ImageError::InUse { image: id });
        }
        let path = self.folder.join(&key.0);
        let freed = allocated(&path);
        // The image first: a record without it is tidied at the next start, the reverse would be kept.
        let removed = file::remove(&path).and_then(|()| file::remove(&self.record_path(key)));
        removed.map_err(|e| ImageError::storage(format!("image {id}"), e))?;
        state.images.remove(key);
        Ok(freed)
    }
}

fn allocated(path: &Path) -> Bytes {
    Bytes(path.metadata().map_or(0, |stat| stat.blocks() * 512))
}

fn remove_parts(folder: &Path) -> io::Result<()> {
    for found in fs::read_dir(folder)? {
        let path = found?.path();
        if path.extension().is_some_and(|ending| ending == PART) {
            file::remove(&path)?;
        }
    }
    Ok(())
}
