//! One reader that follows a log through everything that may happen to the file.
//!
//! ```text
//!   no file ──created──▶ reading ──end──▶ waiting ──changed──▶ reading
//!      ▲                    │                │
//!      └──another file──────┴────────────────┴──removed──▶ over
//! ```

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    CHUNK_MAX, ConsoleError, Watcher, blocking, open, read,
    watcher::{Subscription, What},
};

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes as the guest wrote them; never empty.
    pub bytes: Bytes,
    /// Whether bytes between the last chunk, or the start asked for, and this one are gone.
    pub truncated: bool,
}

/// How long a reader stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the log's present end.
    End,
    /// Until the log is removed.
    Removed,
}

#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    watcher: Watcher,
    offset: u64,
    truncated: bool,
    until: Until,
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    file: Arc<File>,
    changes: Subscription,
}

/// What there is at an offset.
enum Found {
    Bytes(Chunk),
    /// Nothing yet.
    End,
    /// The log is shorter than the offset, or another file has its name: it begins anew.
    Restarted,
    Removed,
}

impl Follower {
    pub(super) fn new(path: PathBuf, watcher: Watcher, offset: u64, until: Until) -> Self {
        Self {
            path,
            watcher,
            offset,
            truncated: false,
            until,
            log: None,
        }
    }

    /// The next chunk, waited for; `None` when there will be none.
    ///
    /// # Cancel safety
    /// Nothing is lost: the offset moves only when a chunk is given out.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, ConsoleError> {
        loop {
            let Some(log) = &mut self.log else {
                if !self.open().await? {
                    return Ok(None);
                }
                continue;
            };
            // Before reading: what comes while we read wakes us again.
            log.changes.mark();
            let (file, path, offset) = (log.file.clone(), self.path.clone(), self.offset);
            match blocking(move || find(&file, &path, offset)).await? {
                Found::Bytes(chunk) => return Ok(Some(self.give(chunk))),
                Found::End if self.until == Until::Removed => {
                    log.changes.changed().await.map_err(ConsoleError::Watch)?;
                }
                Found::End | Found::Removed => return Ok(None),
                Found::Restarted => {
                    self.log = None;
                    self.offset = 0;
                    self.truncated = true;
                }
            }
        }
    }

    fn give(&mut self, chunk: Chunk) -> Chunk {
        let truncated = self.truncated || chunk.offset != self.offset;
        self.truncated = false;
        self.offset = chunk.offset + chunk.bytes.len() as u64;
        Chunk { truncated, ..chunk }
    }

    /// Opens the log, waiting for it when asked to stay; false when there is none and will be none.
    async fn open(&mut self) -> Result<bool, ConsoleError> {
        let mut folder = None;
        loop {
            if let Some(changes) = &mut folder {
                Subscription::mark(changes);
            }
            let (path, watcher) = (self.path.clone(), self.watcher.clone());
            self.log = attach(path, watcher).await?;
            match (&self.log, &mut folder) {
                (Some(_), _) => return Ok(true),
                (None, _) if self.until == Until::End => return Ok(false),
                (None, Some(changes)) => {
                    changes.changed().await.map_err(ConsoleError::Watch)?;
                    if !self.folder_exists().await? {
                        return Ok(false);
                    }
                }
                // Looked at again once watched: it may have come in between.
                (None, None) => match self.watch_folder().await? {
                    Some(changes) => folder = Some(changes),
                    None => return Ok(false),
                },
            }
        }
    }

    fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    async fn folder_exists(&self) -> Result<bool, ConsoleError> {
        let folder = self.folder();
        blocking(move || folder.try_exists()).await
    }

    async fn watch_folder(&self) -> Result<Option<Subscription>, ConsoleError> {
        let (watcher, folder) = (self.watcher.clone(), self.folder());
        let watched = blocking(move || Ok(watcher.watch(&folder, What::Folder))).await?;
        absent_is_none(watched)
    }
}

/// Opens the log and watches the very file that was opened, whatever has its name by then.
async fn attach(path: PathBuf, watcher: Watcher) -> Result<Option<Log>, ConsoleError> {
    let Some(file) = blocking(move || open(&path)).await? else {
        return Ok(None);
    };
    let file = Arc::new(file);
    let watched = file.clone();
    let changes = blocking(move || Ok(watcher.watch_file(&watched))).await?;
    let changes = absent_is_none(changes)?;
    Ok(changes.map(|changes| Log { file, changes }))
}

fn absent_is_none(watched: io::Result<Subscription>) -> Result<Option<Subscription>, ConsoleError> {
    match watched {
        Ok(changes) => Ok(Some(changes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ConsoleError::Watch(e)),
    }
}

fn find(file: &File, path: &Path, offset: u64) -> io::Result<Found> {
    let here = file.metadata()?;
    if offset > here.len() {
        return Ok(Found::Restarted);
    }
    if offset < here.len() {
        let found = read(file, offset, CHUNK_MAX)?;
        if !found.bytes.is_empty() {
            return Ok(Found::Bytes(Chunk {
                offset: found.offset,
                bytes: found.bytes,
                truncated: false,
            }));
        }
    }
    // All is read that this file holds; only now does it matter whether it still has its name.
    match fs::metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => Ok(Found::End),
        Ok(_) => Ok(Found::Restarted),
        Err(e) if e.kind() == io::ErrorKind::NotFound && here.nlink() > 0 => Ok(Found::Restarted),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Found::Removed),
        Err(e) => Err(e),
    }
}
