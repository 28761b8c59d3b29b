//! A running guest's disk is mirrored onto another, and goes on there.

use async_trait::async_trait;

use super::Result;
use crate::{domain::Disk, model::InstanceId};

/// How a mirror stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// There is none.
    None,
    /// Content is copied.
    Copying {
        /// Bytes so far.
        done: u64,
        /// Bytes in all; grows with what the guest writes.
        total: u64,
    },
    /// Both hold the same, and every write goes to both before the guest is told that it is done.
    Ready,
}

/// Mirrors of disks of running guests, one a disk. A disk goes by its name in the guest.
#[async_trait]
pub trait Mirrors {
    /// Begins to mirror the disk of that name onto what `to` says, which exists, at so many bytes a second at most.
    async fn begin_mirror(&self, id: InstanceId, to: &Disk, bandwidth: Option<u64>) -> Result<()>;

    /// How the disk's mirror stands; none of a guest that is off.
    async fn mirrored(&self, id: InstanceId, target: &str) -> Result<Mirrored>;

    /// Asks for the mirror's end: the guest goes on with the new one when `pivot` says so, else with the old. It has
    /// ended when [`Mirrors::mirrored`] says that there is none; success when there was none.
    async fn end_mirror(&self, id: InstanceId, target: &str, pivot: bool) -> Result<()>;

    /// Whether the running guest's disk of that name is the one that `disk` says; false of a guest that is off.
    async fn reads(&self, id: InstanceId, disk: &Disk) -> Result<bool>;
}
