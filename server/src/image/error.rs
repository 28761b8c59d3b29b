//! Why an image or a disk could not be had.
//!
//! Messages name images by the caller's id and disks by their role; paths of this host stay here, in the log.

use std::{io, path::Path, sync::Arc};

use super::inspect::Unacceptable;
use crate::{
    error::{Classify, Details, Kind, Violation},
    model::Bytes,
    sys::{command::CommandError, file},
};

/// Why an image or a disk could not be had. Cheap to clone: one failed fetch is told to all who wait for it.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ImageError {
    #[error("image {image} is not at its location: {why}")]
    NotFound { image: String, why: String },
    #[error("image {image} has a location that cannot be used: {why}")]
    Location { image: String, why: String },
    #[error("image {image} lies outside the folders that this host allows for file: images")]
    LocationDenied { image: String },
    #[error("image {image} could not be fetched: {why}")]
    Fetch { image: String, why: String },
    #[error("image {image} has {size}, more than the {limit} that this host fetches")]
    TooLarge {
        image: String,
        size: Bytes,
        limit: Bytes,
    },
    #[error("image {image} has sha256 {actual}, not {expected}")]
    Checksum {
        image: String,
        expected: String,
        actual: String,
    },
    #[error("image {image} is not acceptable")]
    Unacceptable { image: String, source: Unacceptable },
    #[error("image {image} could not be converted: {why}")]
    Convert { image: String, why: &'static str },
    #[error("image {image} needs a disk of {needed}, and {asked} was asked for")]
    DiskTooSmall {
        image: String,
        needed: Bytes,
        asked: Bytes,
    },
    #[error("image {image} is in use")]
    InUse { image: String },
    #[error("{what} cannot be stored: the file system is full")]
    HostFull { what: String },
    #[error("{disk} exists with other content")]
    DiskExists { disk: String },
    #[error("{disk} cannot have {size}: the largest is {limit}")]
    DiskTooLarge {
        disk: String,
        size: Bytes,
        limit: Bytes,
    },
    #[error("{what} cannot be stored")]
    Storage {
        what: String,
        source: Arc<io::Error>,
    },
    #[error("{what} cannot be made: {why}")]
    Tool { what: String, why: &'static str },
    #[error("{what} is not possible: {why}")]
    Impossible { what: String, why: &'static str },
    #[error("the fetch of image {image} was given up")]
    Abandoned { image: String },
}

impl ImageError {
    /// A failure of the file system while `what` was written.
    pub(super) fn storage(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        if file::is_full(&source) {
            Self::HostFull { what }
        } else {
            Self::Storage {
                what,
                source: Arc::new(source),
            }
        }
    }

    /// A failure of the file system while the disk at `path` was written.
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        Self::storage(disk_name(path), source)
    }

    /// A failure of a tool while `what` was written; what it printed holds paths, so it goes to the log only.
    pub(super) fn tool(what: impl Into<String>, e: &CommandError) -> Self {
        let what = what.into();
        tracing::debug!(what, error = %crate::error::chain(e), "tool failed");
        match e {
            CommandError::Failed { stderr, .. } if stderr.contains("No space left on device") => {
                Self::HostFull { what }
            }
            _ => Self::Tool { what, why: why(e) },
        }
    }
}

/// What of a command's failure may be told.
pub(super) fn why(e: &CommandError) -> &'static str {
    match e {
        CommandError::Start { .. } => "the tool for it is not installed",
        CommandError::Failed { status, .. } if status.code().is_none() => {
            "the tool for it met its resource limits"
        }
        CommandError::TimedOut { .. } => "the tool for it took too long",
        _ => "the tool for it failed",
    }
}

/// A disk as callers may know it: the file's name, without its folder.
pub(super) fn disk_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("disk file {name}")
}

impl Classify for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Location { .. } => Kind::Invalid,
            Self::LocationDenied { .. } => Kind::Denied,
            Self::Fetch { .. } => Kind::Unavailable,
            Self::TooLarge { .. }
            | Self::Checksum { .. }
            | Self::Unacceptable { .. }
            | Self::Convert { .. }
            | Self::DiskTooSmall { .. }
            | Self::InUse { .. }
            | Self::DiskTooLarge { .. }
            | Self::Impossible { .. } => Kind::Precondition,
            Self::HostFull { .. } => Kind::Exhausted,
            Self::DiskExists { .. } => Kind::Exists,
            Self::Storage { .. } | Self::Tool { .. } => Kind::Internal,
            Self::Abandoned { .. } => Kind::Cancelled,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "IMAGE_NOT_FOUND",
            Self::Location { .. } => "INVALID_REQUEST",
            Self::LocationDenied { .. } => "PERMISSION_DENIED",
            Self::Fetch { .. } => "IMAGE_FETCH_FAILED",
            Self::Checksum { .. } => "IMAGE_CHECKSUM_MISMATCH",
            Self::TooLarge { .. } | Self::Unacceptable { .. } | Self::Convert { .. } => {
                "IMAGE_UNACCEPTABLE"
            }
            Self::DiskTooSmall { .. } => "FLAVOR_DISK_TOO_SMALL",
            Self::InUse { .. } => "IMAGE_IN_USE",
            Self::HostFull { .. } => "HOST_DISK_FULL",
            Self::DiskExists { .. } => "DISK_EXISTS",
            Self::DiskTooLarge { .. } | Self::Impossible { .. } => "NOT_SUPPORTED",
            Self::Storage { .. } => "INTERNAL",
            Self::Tool { .. } => "HOST_COMMAND_FAILED",
            Self::Abandoned { .. } => "OPERATION_CANCELLED",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NotFound { image, why }
            | Self::Location { image, why }
            | Self::Fetch { image, why } => vec![("image", image.clone()), ("why", why.clone())],
            Self::LocationDenied { image } | Self::InUse { image } | Self::Abandoned { image } => {
                vec![("image", image.clone())]
            }
            Self::TooLarge { image, size, limit } => vec![
                ("image", image.clone()),
                ("size_bytes", size.0.to_string()),
                ("limit_bytes", limit.0.to_string()),
            ],
            Self::Checksum {
                image,
                expected,
                actual,
            } => vec![
                ("image", image.clone()),
                ("expected", expected.clone()),
                ("actual", actual.clone()),
            ],
            Self::Unacceptable { image, source } => vec![
                ("image", image.clone()),
                ("fault", source.fault().to_owned()),
                ("why", source.to_string()),
            ],
            Self::Convert { image, why } => {
                vec![
                    ("image", image.clone()),
                    ("fault", "conversion".to_owned()),
                    ("why", (*why).to_owned()),
                ]
            }
            Self::DiskTooSmall {
                image,
                needed,
                asked,
            } => vec![
                ("image", image.clone()),
                ("needed_bytes", needed.0.to_string()),
                ("asked_bytes", asked.0.to_string()),
            ],
            Self::DiskTooLarge { disk, size, limit } => vec![
                ("disk", disk.clone()),
                ("size_bytes", size.0.to_string()),
                ("limit_bytes", limit.0.to_string()),
            ],
            Self::DiskExists { disk } => vec![("disk", disk.clone())],
            Self::HostFull { what } | Self::Storage { what, .. } => vec![("what", what.clone())],
            Self::Tool { what, why } | Self::Impossible { what, why } => {
                vec![("what", what.clone()), ("why", (*why).to_owned())]
            }
        }
    }

    fn details(&self) -> Details {
        let violations = match self {
            Self::Location { why, .. } => vec![Violation {
                field: "location".to_owned(),
                description: why.clone(),
            }],
            _ => Vec::new(),
        };
        Details {
            violations,
            ..Details::default()
        }
    }
}
