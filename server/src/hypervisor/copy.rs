//! Copies of a running guest's disks, as they were at one moment, made beside the guest's own work.

use std::path::PathBuf;

use async_trait::async_trait;

use super::Result;
use crate::{domain::Format, model::InstanceId};

/// A copy to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCopy {
    /// The disk's name in the guest, as `vda`.
    pub target: String,
    /// The file that becomes the copy; it does not exist.
    pub file: PathBuf,
    /// What is written into it: the whole disk, resting on nothing.
    pub format: Format,
}

/// How a copy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It is being made.
    Running {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is whole.
    Done,
    /// It was given up, and why.
    Failed(String),
}

/// Copies of disks.
#[async_trait]
pub trait Copying {
    /// Begins the copy of a disk as it is now; the guest need not wait for its end. One at a time a guest.
    async fn begin_copy(&self, id: InstanceId, copy: &DiskCopy) -> Result<()>;

    /// How the copy stands that was begun last.
    async fn copied(&self, id: InstanceId) -> Result<Copied>;

    /// Gives up the copy that is being made; success when there is none.
    async fn abort_copy(&self, id: InstanceId) -> Result<()>;
}
