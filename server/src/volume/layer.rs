//! New files over volumes, which their storage service has made: looked at before a guest goes on in one.
//!
//! Such a file must be empty, and rest on exactly the one that the guest writes to now: one that was written to would show
//! the guest another disk than it had.

use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{VolumeError, local};
use crate::{
    image::inspect::{Inspection, Unacceptable, inspect},
    model::{Bytes, DiskFormat, Layer, Volume, VolumeId},
};

/// Looks at the file of that name beside the one that the guest writes to.
pub(super) fn over(
    volume: &Volume,
    name: &str,
    folders: &[PathBuf],
) -> Result<PathBuf, VolumeError> {
    let id = volume.id;
    let chain = volume.chain();
    let Some(top) = chain.first() else {
        return Err(VolumeError::NoDisk { volume: id });
    };
    let path = top.path.with_file_name(name);
    let real = local::allowed(id, &path, folders)?;
    if real != path {
        return Err(refused(id, "it is a link"));
    }
    if chain.iter().any(|layer| layer.path == path) {
        return Err(refused(id, "the volume has it already"));
    }
    let (file, block) = local::open(id, &path)?;
    if block {
        return Err(VolumeError::NoDisk { volume: id });
    }
    let found = inspect(&file).map_err(|e| VolumeError::file(id, &e))?;
    rests_on(id, (&path, &found), Some(top))?;
    if !found.blank {
        return Err(refused(id, "it is not empty"));
    }
    let wanted = volume.seen.as_ref().map_or(Bytes(0), |seen| seen.size);
    match Bytes(found.virtual_size) {
        found if found == wanted => Ok(path),
        found => Err(VolumeError::Size {
            volume: id,
            found,
            wanted,
        }),
    }
}

/// Looks whether the headers of a volume's files say what is known of them: a tool goes by the headers.
pub(super) fn chain(volume: &Volume, folders: &[PathBuf]) -> Result<(), VolumeError> {
    let id = volume.id;
    let layers = volume.chain();
    for (nth, layer) in layers.iter().enumerate() {
        local::allowed(id, &layer.path, folders)?;
        let (file, _) = local::open(id, &layer.path)?;
        if layer.format == DiskFormat::Qcow2 {
            qcow2(id, (&layer.path, &file), layers.get(nth + 1))?;
        }
    }
    Ok(())
}

/// The size of the disk that a header speaks of, when that rests on `below` and on no other file.
pub(super) fn qcow2(
    volume: VolumeId,
    (path, file): (&Path, &File),
    below: Option<&Layer>,
) -> Result<u64, VolumeError> {
    let found = inspect(file).map_err(|e| VolumeError::file(volume, &e))?;
    rests_on(volume, (path, &found), below)?;
    Ok(found.virtual_size)
}

/// Whether a file rests on another still. When that cannot be seen, it does.
pub(super) fn is_over(over: &Path, under: &Path) -> bool {
    let file = match File::open(over) {
        Err(e) if e.kind() == ErrorKind::NotFound => return false,
        Err(_) => return true,
        Ok(file) => file,
    };
    let Ok(found) = inspect(&file) else {
        return true;
    };
    let below = found
        .backing
        .map(|name| over.with_file_name(name).canonicalize());
    below.is_some_and(|below| below.is_ok_and(|below| below == under))
}

fn rests_on(
    volume: VolumeId,
    (path, found): (&Path, &Inspection),
    below: Option<&Layer>,
) -> Result<(), VolumeError> {
    let unacceptable = |why| VolumeError::Unacceptable { volume, why };
    let alone = Inspection {
        backing: None,
        ..found.clone()
    };
    alone.check(DiskFormat::Qcow2).map_err(unacceptable)?;
    let (name, below) = match (&found.backing, below) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err(refused(volume, "it does not rest on the volume")),
        (Some(_), None) => return found.check(DiskFormat::Qcow2).map_err(unacceptable),
        (Some(name), Some(below)) => (name, below),
    };
    // QEMU would take what stands before a colon for the name of a protocol.
    let plain = !name.contains(':');
    let named = path.with_file_name(name).canonicalize();
    if !plain || named.ok().as_ref() != Some(&below.path) {
        let shown = name.chars().take(80).collect();
        return Err(unacceptable(Unacceptable::BackingFile(shown)));
    }
    let format = match below.format {
        DiskFormat::Qcow2 => "qcow2",
        _ => "raw",
    };
    if found.backing_format.as_deref() != Some(format) {
        let why = format!("its header does not say that the file under it is {format}");
        return Err(refused(volume, &why));
    }
    Ok(())
}

fn refused(volume: VolumeId, why: &str) -> VolumeError {
    let why = why.to_owned();
    VolumeError::Layer { volume, why }
}
