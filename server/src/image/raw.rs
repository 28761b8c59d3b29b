//! Disks sector for sector: shares the base's blocks where the file system can, else copies its data.

use std::{fs::File, io, path::Path};

use async_trait::async_trait;

use super::{
    backend::{DiskContent, DiskRef, ImageBackend, NewDisk, SECTOR, blocking},
    error::{ImageError, disk_name},
    swap,
};
use crate::{
    model::{Bytes, DiskFormat},
    sys::file::{self, Durable, Part, clone_or_copy},
};

/// More than a file can be anywhere, less than what overflows in anybody's arithmetic.
const MAX_SIZE: u64 = 1 << 50;

/// Keeps disks as plain files. A base must be raw too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

#[async_trait]
impl ImageBackend for Raw {
    async fn create(&self, disk: &NewDisk) -> Result<DiskRef, ImageError> {
        let disk = disk.clone();
        blocking(move || create(&disk)).await
    }

    async fn resize(&self, disk: &DiskRef, to: Bytes) -> Result<DiskRef, ImageError> {
        let (disk, to) = (disk.clone(), Bytes(to.0.next_multiple_of(SECTOR)));
        blocking(move || {
            let grow = || -> io::Result<()> {
                let file = File::options().write(true).open(&disk.path)?;
                if file.metadata()?.len() < to.0 {
                    file.set_len(to.0)?;
                }
                Ok(())
            };
            grow().map_err(|e| ImageError::disk(&disk.path, e))?;
            Ok(DiskRef {
                size: disk.size.max(to),
                ..disk
            })
        })
        .await
    }

    async fn remove(&self, disk: &DiskRef) -> Result<(), ImageError> {
        let path = disk.path.clone();
        blocking(move || file::remove(&path).map_err(|e| ImageError::disk(&path, e))).await
    }
}

fn create(disk: &NewDisk) -> Result<DiskRef, ImageError> {
    let size = disk.sectors_within(MAX_SIZE)?;
    let refused = |why| ImageError::Impossible {
        what: disk_name(&disk.path),
        why,
    };
    match &disk.content {
        DiskContent::Base(base) if base.format != DiskFormat::Raw => {
            return Err(refused("a raw disk needs a raw base"));
        }
        DiskContent::Swap { .. } if size.0 < swap::MIN_SIZE => {
            return Err(refused("swap space needs at least 40 KiB"));
        }
        _ => {}
    }
    match disk.path.metadata() {
        // It was renamed here whole, so its length tells one that was made by an equal call.
        Ok(found) if found.len() == size.0 => {}
        Ok(_) => {
            return Err(ImageError::DiskExists {
                disk: disk_name(&disk.path),
            });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            write_new(&disk.path, size.0, &disk.content)
                .map_err(|e| ImageError::disk(&disk.path, e))?;
        }
        Err(e) => return Err(ImageError::disk(&disk.path, e)),
    }
    Ok(DiskRef {
        path: disk.path.clone(),
        format: DiskFormat::Raw,
        size,
        backing: None,
    })
}

fn write_new(path: &Path, size: u64, content: &DiskContent) -> io::Result<()> {
    let part = Part::create(path)?;
    if let DiskContent::Base(base) = content {
        clone_or_copy(&File::open(&base.path)?, part.file())?;
    }
    part.file().set_len(size)?;
    if let DiskContent::Swap { label, uuid } = content {
        swap::write_header(part.file(), size, label, *uuid)?;
    }
    part.keep(Durable::Lazily)
}

#[cfg(test)]
mod tests;
