//! Files and block devices of this host.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::VolumeError;
use crate::{
    image::inspect::inspect,
    model::{Bytes, DiskFormat, Seen, Volume, VolumeId},
};

/// What is behind a path, all links followed, when that lies in one of `folders`.
pub(super) fn allowed(
    volume: VolumeId,
    path: &Path,
    folders: &[PathBuf],
) -> Result<PathBuf, VolumeError> {
    // Whether a file exists outside the folders is nobody's business: the same answer for both.
    let denied = || VolumeError::Denied { volume };
    let real = path.canonicalize().map_err(|_| denied())?;
    let inside = |folder: &PathBuf| {
        let folder = folder.canonicalize();
        folder.is_ok_and(|folder| real.starts_with(folder))
    };
    match folders.iter().any(inside) {
        true => Ok(real),
        false => Err(denied()),
    }
}

/// Looks at what is behind a path.
pub(super) fn look(volume: &Volume, path: &Path, folders: &[PathBuf]) -> Result<Seen, VolumeError> {
    let id = volume.id;
    let real = allowed(id, path, folders)?;
    let unreachable = |e: std::io::Error| VolumeError::unreachable(id, &e);
    // Not blocking, so that a pipe under this name holds nobody.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(CWD, &real, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let mut file = File::from(file.map_err(|e| unreachable(e.into()))?);
    let kind = file.metadata().map_err(unreachable)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(VolumeError::NoDisk { volume: id });
    }
    // A block device has no length of its own.
    let length = file.seek(SeekFrom::End(0)).map_err(unreachable)?;
    let size = match volume.format {
        DiskFormat::Qcow2 => qcow2(id, &file)?,
        // Any bytes are a raw disk, and QEMU is told so: what a guest writes there is never read as a header.
        _ => length,
    };
    Ok(Seen {
        path: Some(real),
        block: kind.is_block_device(),
        size: Bytes(size),
    })
}

/// The size of the disk that a header speaks of, when it names no other file.
fn qcow2(volume: VolumeId, file: &File) -> Result<u64, VolumeError> {
    let inspection = inspect(file).map_err(|e| VolumeError::unreachable(volume, &e))?;
    let checked = inspection.check(DiskFormat::Qcow2);
    checked.map_err(|why| VolumeError::Unacceptable { volume, why })?;
    Ok(inspection.virtual_size)
}
