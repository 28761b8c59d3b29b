//! Who writes to what: files and devices that processes have open.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// The right to write, as /proc shows it on what a process has open.
const WRITES: u32 = 0o200;

/// Whether a process in whose command line `who` stands has this file or block device open for writing, as far as this one
/// may see. It blocks.
///
/// # Errors
/// When it cannot be looked at, or the processes cannot be listed.
pub fn is_written(path: &Path, who: &str) -> io::Result<bool> {
    let own = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        own => own?,
    };
    for entry in fs::read_dir("/proc")?.flatten() {
        // What ends meanwhile writes no more; what is another's may not be looked into.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&line).contains(who) {
            continue;
        }
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut writes = open.flatten().filter(|open| {
            let mode = fs::symlink_metadata(open.path()).map(|link| link.mode());
            mode.is_ok_and(|mode| mode & WRITES != 0)
        });
        if writes.any(|open| fs::metadata(open.path()).is_ok_and(|other| is_same(&own, &other))) {
            return Ok(true);
        }
    }
    Ok(false)
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
}
