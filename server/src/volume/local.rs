//! Files and block devices of this host.

use std::{
    fs::File,
    io::{ErrorKind, Seek, SeekFrom},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::{VolumeError, layer};
use crate::{
    model::{Bytes, DiskFormat, Seen, Volume, VolumeId},
    sys::block,
};

/// What is behind a path, all links followed, when that lies in one of `folders`.
pub(super) fn allowed(
    volume: VolumeId,
    path: &Path,
    folders: &[PathBuf],
) -> Result<PathBuf, VolumeError> {
    // Whether a file exists outside the folders is nobody's business: the same answer for both.
    let denied = || VolumeError::Denied { volume };
    let real = path.canonicalize().map_err(|_| match path.parent() {
        Some(parent) if is_absent(path) && is_inside(parent, folders) => VolumeError::Refused {
            volume,
            why: "there is nothing of that name".to_owned(),
        },
        _ => denied(),
    })?;
    match is_inside(&real, folders) {
        true => Ok(real),
        false => Err(denied()),
    }
}

fn is_inside(path: &Path, folders: &[PathBuf]) -> bool {
    let Ok(real) = path.canonicalize() else {
        return false;
    };
    let mut folders = folders
        .iter()
        .filter_map(|folder| folder.canonicalize().ok());
    folders.any(|folder| real.starts_with(folder))
}

/// Whether there is nothing, not even a link that leads nowhere.
fn is_absent(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Looks at what is behind a path, or at the file that snapshots have put over that.
pub(super) fn look(volume: &Volume, path: &Path, folders: &[PathBuf]) -> Result<Seen, VolumeError> {
    let id = volume.id;
    let known = volume.seen.as_ref().and_then(|seen| seen.path.as_deref());
    let real = allowed(id, known.unwrap_or(path), folders)?;
    let (mut file, block) = open(id, &real)?;
    // A block device has no length of its own.
    let length = file.seek(SeekFrom::End(0));
    let length = length.map_err(|e| VolumeError::file(id, &e))?;
    let size = match volume.format_now() {
        DiskFormat::Qcow2 => {
            let below = volume.chain().into_iter().nth(1);
            layer::qcow2(id, (&real, &file), below.as_ref())?
        }
        // Any bytes are a raw disk, and QEMU is told so: what a guest writes there is never read as a header.
        _ => length,
    };
    let found = file.metadata().map_err(|e| VolumeError::file(id, &e))?;
    let layers = volume.seen.as_ref().map(|seen| seen.layers.clone());
    Ok(Seen {
        path: Some(real),
        block,
        size: Bytes(size),
        layers: layers.unwrap_or_default(),
        identity: block.then(|| block::identity(found.rdev())).flatten(),
        initiator: None,
    })
}

/// Opens a file or block device, and says whether it is the latter.
pub(super) fn open(id: VolumeId, path: &Path) -> Result<(File, bool), VolumeError> {
    let unreachable = |e: std::io::Error| VolumeError::file(id, &e);
    // Not blocking, so that a pipe under this name holds nobody.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let file = File::from(file.map_err(|e| unreachable(e.into()))?);
    let kind = file.metadata().map_err(unreachable)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(VolumeError::NoDisk { volume: id });
    }
    Ok((file, kind.is_block_device()))
}
