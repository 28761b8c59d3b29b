//! The files of a disk that nobody has open, merged by `qemu-img`; and what is in one, forgotten.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ImageError, backend::blocking, convert::percent, error::disk_name, inspect::inspect};
use crate::{
    domain::Format,
    sys::command::{Command, ResourceLimits},
};

/// Longer than the slowest disk takes: a caller that has waited enough cancels.
const MERGE: Duration = Duration::from_secs(24 * 3600);
/// Offsets of a qcow2 header's fields: how many entries the first table has, and where it is.
const L1_FIELDS: (usize, u64) = (12, 36);

/// Whether a qcow2 shows what is under it and nothing of its own.
///
/// # Errors
/// When it cannot be read.
pub async fn is_blank(file: &Path) -> Result<bool, ImageError> {
    let path = file.to_owned();
    blocking(move || {
        let found = File::open(&path).and_then(inspect);
        let found = found.map_err(|e| ImageError::disk(&path, e))?;
        Ok(found.blank)
    })
    .await
}

/// Has a qcow2, which nobody has open, forget what was written to it; success when it is not there. It keeps its length.
///
/// # Errors
/// When it cannot be written.
pub async fn forget(file: &Path) -> Result<(), ImageError> {
    let path = file.to_owned();
    blocking(move || match clear(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ImageError::disk(&path, e)),
        _ => Ok(()),
    })
    .await
}

/// With the first table empty, every cluster is one that was never written.
fn clear(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let found = inspect(&file)?;
    if found.blank {
        return Ok(());
    }
    if found.backing.is_none() || found.data_file || found.defect.is_some() {
        return Err(io::Error::other("it is no file over another"));
    }
    let mut fields = [0; L1_FIELDS.0];
    file.read_exact_at(&mut fields, L1_FIELDS.1)?;
    let (entries, at) = fields.split_at(4);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, b| sum << 8 | u64::from(*b));
    // The inspection has seen that the table lies in the file, and that it is not large.
    let zeros = vec![0; usize::try_from(number(entries) * 8).map_err(io::Error::other)?];
    file.write_all_at(&zeros, number(at))?;
    file.sync_data()
}

/// Brings the content of `file`, which is qcow2, into the one that it rests on. It stays as it is.
///
/// # Errors
/// `HostFull`, and whatever else the tool fails on.
///
/// # Cancel safety
/// Dropped, the tool is ended: `file` is whole, over whatever the one below has become.
pub async fn commit(file: &Path, show: impl Fn(u32)) -> Result<(), ImageError> {
    let commit = Command::new("qemu-img").args(["commit", "-p", "-d", "-f", "qcow2"]);
    run(commit, file, show).await
}

/// Lets `file`, which is qcow2, rest on `base`, or on nothing, and gives it all that it loses thereby.
///
/// # Errors
/// `HostFull`, and whatever else the tool fails on.
///
/// # Cancel safety
/// Dropped, the tool is ended: `file` shows what it showed.
pub async fn rebase(
    file: &Path,
    base: Option<(PathBuf, Format)>,
    show: impl Fn(u32),
) -> Result<(), ImageError> {
    let rebase = Command::new("qemu-img").args(["rebase", "-p", "-f", "qcow2"]);
    run(on(rebase, base), file, show).await
}

/// Writes down in `file`, which is qcow2, that it rests on `base`: the same to it as what it has rested on.
///
/// # Errors
/// Whatever the tool fails on.
pub async fn rename_base(file: &Path, base: (PathBuf, Format)) -> Result<(), ImageError> {
    let rebase = Command::new("qemu-img").args(["rebase", "-u", "-f", "qcow2"]);
    run(on(rebase, Some(base)), file, |_| {}).await
}

/// Both lie in one folder: the name alone is written, and holds wherever the folder goes.
fn on(command: Command, base: Option<(PathBuf, Format)>) -> Command {
    match base {
        Some((path, format)) => {
            let name = path.file_name().unwrap_or_default().to_owned();
            command.args(["-F", format.as_str(), "-b"]).arg(name)
        }
        None => command.args(["-b", ""]),
    }
}

async fn run(command: Command, file: &Path, show: impl Fn(u32)) -> Result<(), ImageError> {
    let command = command.arg(file).limits(ResourceLimits {
        address_space: Some(2 << 30),
        ..ResourceLimits::default()
    });
    let done = command.time_limit(MERGE).run_streaming(|printed| {
        percent(printed).into_iter().for_each(&show);
    });
    let done = done.await;
    done.map(drop)
        .map_err(|e| ImageError::tool(disk_name(file), &e))
}
