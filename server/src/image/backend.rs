//! The port through which disks of this host are made, grown and removed.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ImageError;
use crate::model::{Bytes, DiskFormat};

/// A file that a disk begins as a copy of. It is never written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it is.
    pub path: PathBuf,
    /// Raw or qcow2.
    pub format: DiskFormat,
    /// The size of the disk in it.
    pub virtual_size: Bytes,
}

/// What a new disk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskContent {
    /// What `Base` holds, then zeros.
    Base(Base),
    /// Zeros.
    Blank,
    /// Linux swap space.
    Swap {
        /// Its label, of which at most 15 bytes are kept.
        label: String,
        /// Its UUID.
        uuid: Uuid,
    },
}

/// A disk to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDisk {
    /// Its file, in a folder that exists.
    pub path: PathBuf,
    /// Its size, rounded up to whole sectors of 512 bytes.
    pub size: Bytes,
    /// What it holds.
    pub content: DiskContent,
}

/// A disk that exists: what the domain needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRef {
    /// Its file.
    pub path: PathBuf,
    /// The file's format, raw or qcow2.
    pub format: DiskFormat,
    /// The size that the guest sees.
    pub size: Bytes,
    /// The file under it.
    pub backing: Option<Base>,
}

/// A way to keep disks on this host.
#[async_trait]
pub trait ImageBackend: std::fmt::Debug + Send + Sync + 'static {
    /// Makes a disk. A disk that was made by an equal call is left as it is, with what a guest has written.
    ///
    /// # Errors
    /// `DiskExists` when another disk is there, `DiskTooSmall` when its base does not fit, `HostFull`.
    async fn create(&self, disk: &NewDisk) -> Result<DiskRef, ImageError>;

    /// Grows a disk that no guest has open; one that is as large or larger is left as it is.
    ///
    /// # Errors
    /// Those of the file system, and of `qemu-img` where the format needs it.
    async fn resize(&self, disk: &DiskRef, to: Bytes) -> Result<DiskRef, ImageError>;

    /// Removes a disk; one that is not there is as good.
    ///
    /// # Errors
    /// Those of the file system.
    async fn remove(&self, disk: &DiskRef) -> Result<(), ImageError>;
}

/// What all disk formats share.
pub(super) const SECTOR: u64 = 512;

impl NewDisk {
    /// The size in whole sectors.
    ///
    /// # Errors
    /// When it is more than `limit`, or less than its base holds.
    pub(super) fn sectors_within(&self, limit: u64) -> Result<Bytes, ImageError> {
        let disk = || super::error::disk_name(&self.path);
        match &self.content {
            _ if self.size.0 > limit => Err(ImageError::DiskTooLarge {
                disk: disk(),
                size: self.size,
                limit: Bytes(limit),
            }),
            DiskContent::Base(base) if base.virtual_size > self.size => {
                Err(ImageError::DiskTooSmall {
                    image: disk(),
                    needed: base.virtual_size,
                    asked: self.size,
                })
            }
            _ => Ok(Bytes(self.size.0.next_multiple_of(SECTOR))),
        }
    }
}

/// Runs `work`, which blocks, off the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(ImageError::storage(
            "work on a file",
            std::io::Error::other(e),
        )),
    }
}
