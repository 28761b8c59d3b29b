//! A running guest's disk goes on in a new file over its old one, and files of a disk are merged.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::{domain::Disk, model::InstanceId};

/// Which files of a disk become one. No content is lost on the way: until it is done, the files are read as before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// The file that the guest writes to takes all that lies between it and `base`, or all that it rests on.
    Up {
        /// What it rests on afterwards.
        base: Option<PathBuf>,
    },
    /// `base` takes what is in `top`, which rests on it and which the guest does not write to.
    Down {
        /// The file that goes.
        top: PathBuf,
        /// The file below it.
        base: PathBuf,
    },
    /// `base` takes what is in the file that the guest writes to, which rests on it. Once both are alike it is a mirror:
    /// see [`super::mirror::Mirrors`] for its end.
    Top {
        /// The file below.
        base: PathBuf,
    },
}

/// Files of running guests' disks.
#[async_trait]
pub trait Overlays {
    /// From one moment on, the guest writes to the file that `to` says, which exists, is empty, and rests on what the disk
    /// of that name has been so far. Success when it does so already.
    async fn overlay(&self, id: InstanceId, to: &Disk) -> Result<()>;

    /// Begins to merge files of a disk, which is as `to` says when that is done. How far it is, and its end before its time:
    /// [`super::mirror::Mirrors`].
    async fn begin_merge(&self, id: InstanceId, to: &Disk, merge: &Merge) -> Result<()>;

    /// The files of the disk of that name, the one written to first: of a guest that is on as it has them, else as it is
    /// defined. None that is no file of this host.
    async fn files(&self, id: InstanceId, target: &str) -> Result<Vec<PathBuf>>;
}
