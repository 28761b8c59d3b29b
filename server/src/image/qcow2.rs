//! Disks in QEMU's copy-on-write format: an overlay on a base, or an empty disk.
//!
//! The file is written here, not by `qemu-img create`: a process costs more than ten milliseconds of a spawn, this a
//! fraction of one. The layout is the one QEMU itself writes (`docs/interop/qcow2.rst`), all tables but one word of
//! each being zeros, hence holes:
//!
//! ```text
//! cluster 0  header: backing format, backing file's name
//!         1  refcount table: one block
//!         2  refcount block: one reference to each of these clusters
//!         3… L1 table: empty
//! ```

use std::{
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    backend::{Base, DiskContent, DiskRef, ImageBackend, NewDisk, blocking},
    error::ImageError,
    inspect::{Content, inspect},
    raw,
};
use crate::{
    model::{Bytes, DiskFormat},
    sys::{
        command::{Command, ResourceLimits},
        file::{Durable, Part},
    },
};

/// QEMU's own default: 64 KiB.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one L1 entry covers: an L2 table of one cluster with entries of eight bytes.
const L1_COVERS: u64 = CLUSTER * (CLUSTER / 8);
/// Bounded by QEMU's largest L1 table, of 32 MiB; and there the one refcount block still covers all our clusters.
const MAX_SIZE: u64 = 1 << 50;
const HEADER_LENGTH: u32 = 112;
/// QEMU's own bound on the name of a backing file.
const MAX_NAME: usize = 1023;
const BACKING_FORMAT: u32 = 0xE279_2ACA;

/// Keeps disks as qcow2 files, on their base where they have one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Qcow2;

#[async_trait]
impl ImageBackend for Qcow2 {
    async fn create(&self, disk: &NewDisk) -> Result<DiskRef, ImageError> {
        // Swap space is one page of content, and nothing worth to be shared: a plain file serves it best.
        if let DiskContent::Swap { .. } = disk.content {
            return raw::Raw.create(disk).await;
        }
        let disk = disk.clone();
        blocking(move || create(&disk)).await
    }

    async fn resize(&self, disk: &DiskRef, to: Bytes) -> Result<DiskRef, ImageError> {
        if disk.format != DiskFormat::Qcow2 {
            return raw::Raw.resize(disk, to).await;
        }
        let to = Bytes(to.0.next_multiple_of(super::backend::SECTOR));
        let path = disk.path.clone();
        let now = blocking(move || size(&path)).await?.max(disk.size);
        if to <= now {
            return Ok(DiskRef {
                size: now,
                ..disk.clone()
            });
        }
        Command::new("qemu-img")
            .args(["resize", "-q", "-f", "qcow2"])
            .arg(&disk.path)
            .arg(to.0.to_string())
            .limits(HEADER_ONLY)
            .run()
            .await
            .map_err(|e| ImageError::tool(super::error::disk_name(&disk.path), &e))?;
        Ok(DiskRef {
            size: to,
            ..disk.clone()
        })
    }

    async fn remove(&self, disk: &DiskRef) -> Result<(), ImageError> {
        raw::Raw.remove(disk).await
    }
}

/// The size that the file's header tells.
fn size(path: &Path) -> Result<Bytes, ImageError> {
    let found = File::open(path).and_then(|file| inspect(&file));
    let found = found.map_err(|e| ImageError::disk(path, e))?;
    Ok(Bytes(found.virtual_size))
}

/// For a `qemu-img` that reads and writes tables only: Nova's limits.
const HEADER_ONLY: ResourceLimits = ResourceLimits {
    cpu: Some(Duration::from_secs(30)),
    address_space: Some(1 << 30),
    file_size: None,
};

fn create(disk: &NewDisk) -> Result<DiskRef, ImageError> {
    let size = disk.sectors_within(MAX_SIZE)?;
    let backing = match &disk.content {
        DiskContent::Base(base) => Some(base.clone()),
        _ => None,
    };
    let made = || DiskRef {
        path: disk.path.clone(),
        format: DiskFormat::Qcow2,
        size,
        backing: backing.clone(),
    };
    match File::open(&disk.path) {
        Ok(file) if is(&file, size.0, backing.as_ref()) => return Ok(made()),
        Ok(_) => {
            let disk = super::error::disk_name(&disk.path);
            return Err(ImageError::DiskExists { disk });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(ImageError::disk(&disk.path, e)),
    }
    write_new(&disk.path, size.0, backing.as_ref()).map_err(|e| ImageError::disk(&disk.path, e))?;
    Ok(made())
}

/// Whether `file` is what [`write_new`] would make, whatever a guest has written to it since.
fn is(file: &File, size: u64, backing: Option<&Base>) -> bool {
    let Ok(found) = inspect(file) else {
        return false;
    };
    let name = backing.map(|base| base.path.to_string_lossy().into_owned());
    found.content == Content::Qcow2 && found.virtual_size == size && found.backing == name
}

/// Not synced: a guest's own first flush takes the header along, and before it nothing was promised to the guest.
fn write_new(path: &Path, size: u64, backing: Option<&Base>) -> io::Result<()> {
    let part = Part::create(path)?;
    write(part.file(), size, backing)?;
    part.keep(Durable::Lazily)
}

/// Makes `file`, which is empty, a disk of `size` bytes on `backing`.
fn write(file: &File, size: u64, backing: Option<&Base>) -> io::Result<()> {
    let l1_entries = size.div_ceil(L1_COVERS);
    let clusters = 3 + (l1_entries * 8).div_ceil(CLUSTER).max(1);
    file.set_len(clusters * CLUSTER)?;
    file.write_all_at(&header(size, l1_entries, backing)?, 0)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    let references: Vec<u8> = (0..clusters).flat_map(|_| 1u16.to_be_bytes()).collect();
    file.write_all_at(&references, 2 * CLUSTER)
}

fn header(size: u64, l1_entries: u64, backing: Option<&Base>) -> io::Result<Vec<u8>> {
    let extensions = backing.map_or_else(Vec::new, |base| backing_format(base.format));
    let name = backing.map_or(&b""[..], |base| base.path.as_os_str().as_bytes());
    if name.len() > MAX_NAME {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    // The end of the extensions is eight zeros; the name follows.
    let name_at = u64::from(HEADER_LENGTH) + extensions.len() as u64 + 8;
    let l1_entries = u32::try_from(l1_entries).map_err(io::Error::other)?;
    let name_len = u32::try_from(name.len()).map_err(io::Error::other)?;
    let mut h = Vec::with_capacity(2048);
    h.extend(b"QFI\xfb");
    h.extend(3u32.to_be_bytes());
    h.extend(if name.is_empty() { 0 } else { name_at }.to_be_bytes());
    h.extend(name_len.to_be_bytes());
    h.extend(CLUSTER_BITS.to_be_bytes());
    h.extend(size.to_be_bytes());
    h.extend(0u32.to_be_bytes()); // not encrypted
    h.extend(l1_entries.to_be_bytes());
    h.extend((3 * CLUSTER).to_be_bytes()); // L1 table
    h.extend(CLUSTER.to_be_bytes()); // refcount table
    h.extend(1u32.to_be_bytes()); // its clusters
    h.extend([0; 4 + 8]); // no snapshots
    h.extend([0; 3 * 8]); // no features
    h.extend(4u32.to_be_bytes()); // refcounts of 1 << 4 bits
    h.extend(HEADER_LENGTH.to_be_bytes());
    h.extend([0; 8]); // zlib, padding
    h.extend(extensions);
    h.extend([0; 8]);
    h.extend(name);
    Ok(h)
}

/// Says what the backing file is, so that QEMU never guesses it from content that a guest once wrote.
fn backing_format(format: DiskFormat) -> Vec<u8> {
    let (name, length): (&[u8], u32) = match format {
        DiskFormat::Qcow2 => (b"qcow2", 5),
        _ => (b"raw", 3),
    };
    let mut extension = BACKING_FORMAT.to_be_bytes().to_vec();
    extension.extend(length.to_be_bytes());
    extension.extend(name);
    extension.resize(extension.len().next_multiple_of(8), 0);
    extension
}

#[cfg(test)]
mod tests;
