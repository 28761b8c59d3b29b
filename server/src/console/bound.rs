//! Keeps a log from filling the host.

use std::{fs::OpenOptions, io, path::Path};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::data_at;
use crate::model::Bytes;

/// Holes are made of whole blocks; every file system's are a part of this.
const BLOCK: u64 = 64 << 10;

/// Gives the oldest part of the log at `path` back to the file system once it holds more than `max`; answers with
/// how much that was. About half of `max` is kept, so that cutting stays rare. Absent is fine.
///
/// The writer is not told and need not be: the size stays, so it goes on where it is, and no byte that it writes
/// meanwhile is lost. Where the file system cannot make holes, the log is emptied; QEMU opens it for appending, so
/// that is safe too, but offsets begin anew. Blocks; call it off the runtime.
///
/// # Errors
/// Those of the file system.
pub fn bound(path: &Path, max: Bytes) -> io::Result<Bytes> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Bytes(0)),
        Err(e) => return Err(e),
    };
    let end = file.metadata()?.len();
    let start = data_at(&file, 0)?;
    if end.saturating_sub(start) <= max.0 {
        return Ok(Bytes(0));
    }
    let cut = (end - max.0 / 2) / BLOCK * BLOCK;
    if cut <= start {
        return Ok(Bytes(0));
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(&file, hole, 0, cut) {
        Ok(()) => Ok(Bytes(cut - start)),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.set_len(0)?;
            Ok(Bytes(end - start))
        }
        Err(e) => Err(e.into()),
    }
}
