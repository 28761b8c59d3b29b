//! The log of a guest's console: its tail, following it live, keeping it within bounds.
//!
//! QEMU appends to the file by itself; we only read, and give back the oldest blocks ([`bound`]). An offset means the
//! same byte for ever: cutting makes a hole at the front and leaves the size alone. Readers go at their own pace,
//! straight from the file: a slow one holds up nobody and nothing is kept for it in memory. They wait for the kernel's
//! word that something changed ([`Watcher`]), never for a while.

mod bound;
mod follow;
mod watcher;

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{Stream, stream};
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

pub use bound::bound;
pub use follow::{Chunk, Until};
pub use watcher::Watcher;

use crate::error::{Classify, Kind};
use follow::Follower;

/// Bytes of one chunk: the contract's limit of a message.
const CHUNK_MAX: u64 = 64 << 10;

/// Why a console log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The file system refused.
    #[error("console log cannot be read")]
    Read(#[source] io::Error),
    /// The kernel has no watch left: `fs.inotify.max_user_watches` or `max_user_instances`.
    #[error("console log cannot be watched")]
    Watch(#[source] io::Error),
}

impl Classify for ConsoleError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }

    fn reason(&self) -> &'static str {
        "INTERNAL"
    }
}

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Offset of the first byte; earlier ones exist, or existed, when it is not zero.
    pub offset: u64,
    /// The bytes as the guest wrote them.
    pub bytes: Bytes,
}

/// The log of one console, there or not.
#[derive(Clone, Debug)]
pub struct ConsoleLog {
    path: PathBuf,
}

impl ConsoleLog {
    /// The log at `path`, which QEMU makes when the guest starts; its folder is there before.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the log ends now; `None` when there is none.
    pub async fn end(&self) -> Result<Option<u64>, ConsoleError> {
        let path = self.path.clone();
        blocking(move || match open(&path)? {
            Some(file) => Ok(Some(file.metadata()?.len())),
            None => Ok(None),
        })
        .await
    }

    /// The last bytes, `max` at most; `None` when there is no log.
    pub async fn tail(&self, max: u64) -> Result<Option<Tail>, ConsoleError> {
        let path = self.path.clone();
        blocking(move || match open(&path)? {
            Some(file) => {
                let from = file.metadata()?.len().saturating_sub(max);
                read(&file, from, max).map(Some)
            }
            None => Ok(None),
        })
        .await
    }

    /// The log from an offset on, in chunks of at most 64 KiB.
    ///
    /// The file need not exist yet. When the log was cut, or begins anew, the stream goes on with the oldest byte that
    /// there is and says so in the chunk. It ends when the log is removed.
    pub fn follow(
        &self,
        watcher: &Watcher,
        from: u64,
        until: Until,
    ) -> impl Stream<Item = Result<Chunk, ConsoleError>> + Send + use<> {
        let follower = Follower::new(self.path.clone(), watcher.clone(), from, until);
        stream::try_unfold(follower, async |mut follower| {
            let chunk = follower.next().await?;
            Ok(chunk.map(|chunk| (chunk, follower)))
        })
    }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ConsoleError> {
    let done = tokio::task::spawn_blocking(f).await;
    done.map_err(io::Error::other)
        .and_then(|result| result)
        .map_err(ConsoleError::Read)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Up to `max` bytes at `from`, or behind the hole that lies there.
fn read(file: &File, from: u64, max: u64) -> io::Result<Tail> {
    let mut offset = data_at(file, from)?;
    loop {
        let len = file.metadata()?.len().saturating_sub(offset).min(max);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(filled);
        // A cut while we read shows as zeros. It begins at the front, so the first byte tells.
        let now = data_at(file, offset)?;
        if now == offset {
            let bytes = Bytes::from(bytes);
            return Ok(Tail { offset, bytes });
        }
        offset = now;
    }
}

/// The first offset from `from` on that is not in a hole; the log's end when there is none.
fn data_at(file: &File, from: u64) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(offset) => Ok(offset),
        Err(Errno::NXIO) => Ok(file.metadata()?.len()),
        // A file system without holes.
        Err(Errno::INVAL) => Ok(from),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests;
