//! Who writes to what: files and devices that processes have open.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use rustix::io::Errno;

/// The right to write, as /proc shows it on what a process has open.
const WRITES: u32 = 0o200;

/// Whether a process in whose command line `who` stands has this file or block device open for writing. It blocks.
///
/// # Errors
/// When it, or what such a process has open, cannot be looked at: what was not seen may be written to.
pub fn is_written(path: &Path, who: &str) -> io::Result<bool> {
    look(Path::new("/proc"), path, who)
}

fn look(processes: &Path, path: &Path, who: &str) -> io::Result<bool> {
    let Some(own) = still_there(fs::metadata(path))? else {
        return Ok(false);
    };
    for entry in fs::read_dir(processes)?.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_who = String::from_utf8_lossy(&line).contains(who);
        if is_who && writes(&entry.path().join("fd"), &own)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of what a process has open is that, and open for writing.
fn writes(open: &Path, own: &Metadata) -> io::Result<bool> {
    let Some(open) = still_there(fs::read_dir(open))? else {
        return Ok(false);
    };
    for open in open {
        let Some(open) = still_there(open)? else {
            continue;
        };
        let link = still_there(fs::symlink_metadata(open.path()))?;
        if link.is_none_or(|link| link.mode() & WRITES == 0) {
            continue;
        }
        let other = still_there(fs::metadata(open.path()))?;
        if other.is_some_and(|other| is_same(own, &other)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What ends, or is closed, meanwhile is not written to any more.
fn still_there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if Errno::from_io_error(&e) == Some(Errno::SRCH) => Ok(None),
        looked => looked.map(Some),
    }
}

/// A device has a name in each mount namespace, and one number.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    match (
        one.file_type().is_block_device(),
        other.file_type().is_block_device(),
    ) {
        (true, true) => one.rdev() == other.rdev(),
        (false, false) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn who_reads_a_file_does_not_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let own = std::env::args().next().unwrap();
        let is_written = |path: &Path| is_written(path, &own).unwrap();
        assert!(!is_written(&path), "it is not there");
        fs::write(&path, "content").unwrap();
        let reads = File::open(&path).unwrap();
        assert!(!is_written(&path));
        let writes = File::options().append(true).open(&path).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(is_written(&link));
        assert!(!super::is_written(&path, "another process").unwrap());
        drop((reads, writes));
        assert!(!is_written(&path));
    }

    #[test]
    fn a_process_that_cannot_be_looked_into_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        let process = dir.path().join("1");
        fs::create_dir(&process).unwrap();
        fs::write(process.join("cmdline"), "qemu\0-uuid\0some").unwrap();
        assert!(!look(dir.path(), &path, "some").unwrap(), "it has ended");
        fs::write(process.join("fd"), "no folder").unwrap();
        assert!(!look(dir.path(), &path, "another").unwrap());
        look(dir.path(), &path, "some").unwrap_err();
    }
}
