//! Bringing a file here from where its caller says it is: hashed on the way, bounded in size and in time.
//!
//! What arrives is a `.part` in the cache's folder until somebody has looked at it; dropped, it is gone.

mod http;
mod local;
mod sink;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use super::error::ImageError;
use crate::{
    model::{Amount, Bytes, ImageFile, Phase},
    sys::file::Part,
};

/// Where images may come from, and how long and how much we wait for them.
#[derive(Clone, Debug)]
pub struct FetchLimits {
    /// The folders in which `file:` images may lie, all links followed. None unless said: whoever may name a file
    /// reads it through a guest, with our own rights.
    pub file_folders: Vec<PathBuf>,
    /// The largest file that is fetched.
    pub max_size: Bytes,
    /// How long a server may take to accept a connection.
    pub connect: Duration,
    /// How long a server may stay silent, before its answer and within it.
    pub idle: Duration,
    /// How long one fetch may take in all.
    pub total: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            file_folders: Vec::new(),
            // Larger than any cloud image in use, smaller than a usual host's disk.
            max_size: Bytes(256 << 30),
            connect: Duration::from_secs(10),
            // A healthy server under load stays silent for seconds, not for half a minute.
            idle: Duration::from_secs(30),
            // Keeps a server that trickles from holding a spawn for ever; 256 GiB in it need 76 MB/s.
            total: Duration::from_secs(3600),
        }
    }
}

/// How far the making of an image has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageProgress {
    /// `FetchImage` or `ConvertImage`.
    pub phase: Phase,
    /// How much of it is done.
    pub amount: Amount,
}

/// What tells one state of a location from another, without its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validator {
    /// Its length, where it is told.
    pub(super) size: Option<u64>,
    /// When it was changed, as its server writes it.
    pub(super) modified: Option<String>,
    /// The server's own word for this state.
    pub(super) etag: Option<String>,
}

/// What was brought here.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) part: Part,
    pub(super) sha256: [u8; 32],
    pub(super) size: Bytes,
    pub(super) validator: Validator,
}

/// How a fetch that succeeds ends.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The location is in a state that is known already.
    Unchanged(Validator),
    /// All of it is here.
    Fetched(Fetched),
}

/// Shows how far a fetch has come.
pub(super) type Report<'a> = &'a (dyn Fn(ImageProgress) + Send + Sync);

/// Brings files into one folder.
#[derive(Debug)]
pub(super) struct Fetcher {
    folder: PathBuf,
    limits: FetchLimits,
    client: reqwest::Client,
}

impl Fetcher {
    pub(super) fn new(folder: PathBuf, limits: FetchLimits) -> Self {
        let client = crate::sys::web::client(limits.connect);
        Self {
            folder,
            limits,
            client,
        }
    }

    /// Brings `file` here, unless its location is in one of the `known` states.
    pub(super) async fn fetch(
        &self,
        file: &ImageFile,
        known: &[Validator],
        report: Report<'_>,
    ) -> Result<Outcome, ImageError> {
        let refused = |why: &str| ImageError::Location {
            image: file.id.clone(),
            why: why.to_owned(),
        };
        let url = Url::parse(&file.location).map_err(|e| refused(&e.to_string()))?;
        let fetch = async {
            match url.scheme() {
                "file" => {
                    let path = url
                        .to_file_path()
                        .map_err(|()| refused("names another host"))?;
                    local::fetch(self, file, path, known, report).await
                }
                "http" | "https" => http::fetch(self, file, url, known, report).await,
                scheme => Err(refused(&format!(
                    "scheme {scheme} is not one of file, http, https"
                ))),
            }
        };
        match tokio::time::timeout(self.limits.total, fetch).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ImageError::Fetch {
                image: file.id.clone(),
                why: format!("it took longer than {} s", self.limits.total.as_secs()),
            }),
        }
    }

    /// The `.part` that a fetch of `location` writes; its name says nothing, since a location may hold secrets.
    fn part(&self, file: &ImageFile) -> Result<Part, ImageError> {
        let name = hex::encode(&Sha256::digest(&file.location)[..16]);
        Part::create(&self.folder.join(name)).map_err(|e| storage(file, e))
    }

    /// Refuses what is too large for our limits or for the file system.
    fn admit(&self, file: &ImageFile, size: u64) -> Result<(), ImageError> {
        let (image, limit) = (file.id.clone(), self.limits.max_size);
        if size > limit.0 {
            return Err(ImageError::TooLarge {
                image,
                size: Bytes(size),
                limit,
            });
        }
        let stat = rustix::fs::statvfs(&self.folder).map_err(|e| storage(file, e.into()))?;
        if size > stat.f_bavail.saturating_mul(stat.f_frsize) {
            return Err(ImageError::HostFull {
                what: format!("image {image}"),
            });
        }
        Ok(())
    }
}

fn storage(file: &ImageFile, e: std::io::Error) -> ImageError {
    ImageError::storage(format!("image {}", file.id), e)
}

fn fetching(done: u64, total: Option<u64>) -> ImageProgress {
    ImageProgress {
        phase: Phase::FetchImage,
        amount: Amount::Bytes { done, total },
    }
}
