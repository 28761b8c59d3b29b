//! Where images that are made of guests' disks go: files below folders that the host's owner allows, or an image service.
//!
//! A file appears whole or not at all, and never in place of another. Before it appears, a note beside its source says
//! which file it will be, so that after a crash it is known for ours and can be taken back.

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use parking_lot::Mutex;
use reqwest::{Body, Client, header};
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use crate::{
    error::{Classify, Kind},
    model::{Bytes, Secret},
    sys::{
        file::{self, Durable, Part, clone_or_copy},
        web,
    },
};

/// Read and sent at a time.
const PIECE: usize = 1 << 20;

/// Why an image did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The place is none that the owner allows.
    #[error("the file is not below a folder that this host allows images to be written to")]
    Forbidden,
    /// Something is there.
    #[error("there is a file already where the image should be written")]
    Exists,
    /// The file system is full.
    #[error("the image cannot be written: the file system is full")]
    Full,
    /// The file system fails.
    #[error("the image cannot be written")]
    Disk(#[source] io::Error),
    /// The image service did not take it.
    #[error("the image service did not take the image: {0}")]
    Upload(String),
}

impl Classify for ExportError {
    fn kind(&self) -> Kind {
        match self {
            Self::Forbidden => Kind::Precondition,
            Self::Exists => Kind::Exists,
            Self::Full => Kind::Exhausted,
            Self::Upload(_) => Kind::Pending,
            Self::Disk(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Forbidden => "NOT_SUPPORTED",
            Self::Exists => "DISK_EXISTS",
            Self::Full => "HOST_DISK_FULL",
            Self::Upload(_) => "SNAPSHOT_UPLOAD_FAILED",
            Self::Disk(_) => "INTERNAL",
        }
    }
}

impl From<io::Error> for ExportError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            _ if file::is_full(&e) => Self::Full,
            io::ErrorKind::AlreadyExists => Self::Exists,
            _ => Self::Disk(e),
        }
    }
}

/// An image that got where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its length.
    pub size: Bytes,
    /// Its checksum.
    pub sha256: [u8; 32],
}

/// The places that images may go to.
#[derive(Debug)]
pub struct Exports {
    folders: Vec<PathBuf>,
    client: Client,
    idle: Duration,
}

impl Exports {
    /// Files below `folders`; image services have `connect` to accept a connection, and may be silent for `idle`.
    pub fn new(folders: Vec<PathBuf>, connect: Duration, idle: Duration) -> Self {
        Self {
            folders,
            client: web::client(connect),
            idle,
        }
    }

    /// Whether a new file may be made there.
    ///
    /// # Errors
    /// `Forbidden`, also through a link that leads out of the allowed folders; `Exists`.
    pub fn check(&self, to: &Path) -> Result<(), ExportError> {
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let parent = to.parent().filter(|_| to.components().all(plain));
        let parent = parent.and_then(|parent| parent.canonicalize().ok());
        let allowed = self.folders.iter().filter_map(|f| f.canonicalize().ok());
        let below = parent.is_some_and(|p| allowed.into_iter().any(|f| p.starts_with(f)));
        if !below || to.file_name().is_none() {
            return Err(ExportError::Forbidden);
        }
        match to.symlink_metadata() {
            Ok(_) => Err(ExportError::Exists),
            Err(_) => Ok(()),
        }
    }

    /// Gives the file `from` the name `to`, by a link where both lie on one file system, else as a copy. `from` stays.
    ///
    /// # Errors
    /// Those of [`Exports::check`] and of the file system; then there is nothing at `to`.
    pub async fn place(
        &self,
        from: &Path,
        to: &Path,
        report: impl Fn(u64, u64) + Send + 'static,
    ) -> Result<Exported, ExportError> {
        self.check(to)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        let placing = tokio::task::spawn_blocking(move || place(&from, &to, &report));
        placing
            .await
            .unwrap_or_else(|e| Err(ExportError::Disk(io::Error::other(e))))
    }

    /// Removes what [`Exports::place`] has put at `to`, and nothing else.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn take_back(&self, from: &Path, to: &Path) -> Result<(), ExportError> {
        let Ok(note) = std::fs::read_to_string(note(from)) else {
            return Ok(());
        };
        let mut lines = note.lines();
        let ours = lines.next().unwrap_or_default();
        for made in lines.map(Path::new).chain([to]) {
            if made.symlink_metadata().is_ok_and(|m| name(&m) == ours) {
                file::remove(made)?;
            }
        }
        Ok(())
    }

    /// Removes the note of [`Exports::place`], once nothing has to be taken back any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&self, from: &Path) -> Result<(), ExportError> {
        Ok(file::remove(&note(from))?)
    }

    /// Sends the file to an image service, by one PUT.
    ///
    /// # Errors
    /// `Upload` when the service is silent, refuses it or breaks off.
    ///
    /// # Cancel safety
    /// Dropped, the connection is closed; what the service does with a part of an image is its own matter.
    pub async fn upload(
        &self,
        from: &Path,
        (url, authorization): (&str, Option<&Secret<String>>),
        report: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<Exported, ExportError> {
        let file = tokio::fs::File::open(from).await?;
        let size = file.metadata().await?.len();
        let hash = Arc::new(Mutex::new(Sha256::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let (hashing, counting) = (hash.clone(), sent.clone());
        let pieces = ReaderStream::with_capacity(file, PIECE).inspect(move |piece| {
            if let Ok(piece) = piece {
                hashing.lock().update(piece);
                let length = piece.len() as u64;
                report(counting.fetch_add(length, Ordering::Relaxed) + length, size);
            }
        });
        let mut request = self
            .client
            .put(url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose());
        }
        let sending = request.body(Body::wrap_stream(pieces)).send();
        let response = tokio::select! {
            response = sending => response.map_err(|e| {
                ExportError::Upload(crate::error::chain(&e.without_url()))
            })?,
            () = stalled(&sent, self.idle) => {
                let why = format!("nothing was taken for {} s", self.idle.as_secs_f32());
                return Err(ExportError::Upload(why));
            }
        };
        if !response.status().is_success() {
            let why = format!("it answered {}", response.status());
            return Err(ExportError::Upload(why));
        }
        let sha256 = hash.lock().clone().finalize().into();
        let size = Bytes(size);
        Ok(Exported { size, sha256 })
    }
}

/// Returns when `sent` has not grown for `idle`.
async fn stalled(sent: &AtomicU64, idle: Duration) {
    let mut last = None;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if last == Some(now) {
            return;
        }
        last = Some(now);
        tokio::time::sleep(idle).await;
    }
}

/// Where it is noted what a file was given as.
fn note(from: &Path) -> PathBuf {
    let mut name = from.file_name().unwrap_or_default().to_owned();
    name.push(".placed");
    from.with_file_name(name)
}

/// What tells a file from every other.
fn name(metadata: &std::fs::Metadata) -> String {
    format!("{}:{}", metadata.dev(), metadata.ino())
}

fn place(from: &Path, to: &Path, report: &dyn Fn(u64, u64)) -> Result<Exported, ExportError> {
    let source = File::open(from)?;
    let exported = hash(&source, report)?;
    source.sync_all()?;
    std::fs::write(note(from), name(&source.metadata()?))?;
    match std::fs::hard_link(from, to) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(ExportError::Exists),
        Err(_) => {
            let part = Part::create(to)?;
            let made = name(&part.file().metadata()?);
            std::fs::write(note(from), format!("{made}\n{}", part.path().display()))?;
            clone_or_copy(&source, part.file())?;
            part.keep_unless_there(to, Durable::Synced)?;
            if name(&to.symlink_metadata()?) != made {
                return Err(ExportError::Exists);
            }
        }
    }
    Ok(exported)
}

fn hash(mut file: &File, report: &dyn Fn(u64, u64)) -> io::Result<Exported> {
    let total = file.metadata()?.len();
    let (mut hash, mut done) = (Sha256::new(), 0);
    let mut buffer = vec![0; PIECE];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        done += n as u64;
        report(done, total);
    }
    Ok(Exported {
        size: Bytes(done),
        sha256: hash.finalize().into(),
    })
}
