//! Files: reading at a place, copying without copying, replacing whole. All of it blocks; call it off the runtime.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{CWD, RenameFlags, SeekFrom, copy_file_range, ioctl_ficlone, renameat_with, seek};

/// How the bytes of a copy came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopiedBy {
    /// Both files share their blocks until one of them is written.
    Reflink,
    /// The data was copied; holes stayed holes.
    SparseCopy,
}

/// Makes `to`, which is empty, equal to `from`: by sharing blocks where the file system can, else data by data.
///
/// # Errors
/// Those of the file system; `StorageFull` when there is no room.
pub fn clone_or_copy(from: &File, to: &File) -> io::Result<CopiedBy> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(CopiedBy::Reflink);
    }
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut offset = 0;
    while let Some((start, end)) = next_data(from, offset, length)? {
        copy_range(from, to, start, end)?;
        offset = end;
    }
    Ok(CopiedBy::SparseCopy)
}

/// The next stretch of `file` at or after `offset` that is no hole.
fn next_data(file: &File, offset: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if offset >= length {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system without holes: all of it is data.
        Err(rustix::io::Errno::INVAL) => return Ok(Some((offset, length))),
        Err(e) => return Err(e.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end.min(length))))
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    // The kernel takes what it likes of one request; a bounded one keeps a dying daemon from waiting in it for long.
    const PIECE: u64 = 64 << 20;
    let (mut read, mut written) = (start, start);
    while read < end {
        let want = usize::try_from((end - read).min(PIECE)).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read), to, Some(&mut written), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(
                rustix::io::Errno::XDEV | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP,
            ) => {
                return copy_by_hand(from, to, read, end);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = from.read_at(&mut buffer[..want], at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(&buffer[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

/// A file in the making, named `….part` beside its place: it becomes `target` whole, or is gone.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

/// The ending of files in the making; what a crash leaves of them is safe to remove.
pub const PART: &str = "part";

impl Part {
    /// An empty file in the making, for our own user only.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(target: &Path) -> io::Result<Self> {
        // Two makings of one file, one of them abandoned, must not meet.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{serial}.{PART}", std::process::id()));
        let path = target.with_file_name(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            kept: false,
        })
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is while it is in the making.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets every user read it, and none but our own write it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn share(&self) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(0o644))
    }

    /// Gives it the name that it was begun for; what stood there is replaced.
    ///
    /// # Errors
    /// Those of the file system; the part is removed then.
    pub fn keep(mut self, durable: Durable) -> io::Result<()> {
        self.sync(durable)?;
        fs::rename(&self.path, &self.target)?;
        self.kept = true;
        sync_parent(&self.target, durable)
    }

    /// Gives it the name `target`, in the same folder, unless that exists: then the part is removed, and what stands
    /// there stays as it is, with all that may rest on it.
    ///
    /// # Errors
    /// Those of the file system; the part is removed then.
    pub fn keep_unless_there(mut self, target: &Path, durable: Durable) -> io::Result<()> {
        self.sync(durable)?;
        match renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => self.kept = true,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        sync_parent(target, durable)
    }

    fn sync(&self, durable: Durable) -> io::Result<()> {
        match durable {
            Durable::Synced => self.file.sync_all(),
            Durable::Lazily => Ok(()),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a file must outlive a crash of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// On the medium before the call returns.
    Synced,
    /// Whenever the kernel likes; the first flush of a guest's own data takes it along.
    Lazily,
}

fn sync_parent(path: &Path, durable: Durable) -> io::Result<()> {
    match path.parent() {
        Some(folder) if durable == Durable::Synced => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is as good.
///
/// # Errors
/// Those of the file system, absence apart.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Whether both spell one failure: no room left, or none left for this user.
pub fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_is_equal_and_keeps_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let from = File::create_new(dir.path().join("from")).unwrap();
        from.set_len(1 << 30).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"middle", 512 << 20).unwrap();
        let from = File::open(dir.path().join("from")).unwrap();
        let part = Part::create(&dir.path().join("to")).unwrap();
        clone_or_copy(&from, part.file()).unwrap();
        part.keep(Durable::Lazily).unwrap();
        let to = File::open(dir.path().join("to")).unwrap();
        let mut bytes = [0; 6];
        to.read_exact_at(&mut bytes, 512 << 20).unwrap();
        assert_eq!(&bytes, b"middle");
        assert_eq!(to.metadata().unwrap().len(), 1 << 30);
        assert!(to.metadata().unwrap().blocks() < 1000, "holes were filled");
    }

    #[test]
    fn a_part_does_not_displace_what_others_rest_on() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        for text in ["first", "second"] {
            let part = Part::create(&dir.path().join("y")).unwrap();
            part.file().write_all_at(text.as_bytes(), 0).unwrap();
            part.keep_unless_there(&target, Durable::Synced).unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_part_that_is_not_kept_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Part::create(&dir.path().join("x")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
