//! A guest's memory on disk.

use std::path::PathBuf;

use async_trait::async_trait;

use super::Result;
use crate::model::InstanceId;

/// Memory of a guest, saved and restored.
#[async_trait]
pub trait Save {
    /// Writes the memory of a guest that is on to disk, and stops it; success when it is saved already. A failure leaves
    /// the guest as it was. Takes as long as it takes.
    async fn save(&self, id: InstanceId) -> Result<()>;

    /// How far a save is, in bytes of so many; none when that is not known.
    async fn saving(&self, id: InstanceId) -> Result<Option<(u64, u64)>>;

    /// Asks a save to stop. Success when there is none.
    async fn stop_saving(&self, id: InstanceId) -> Result<()>;

    /// Starts a guest from its saved memory, or wakes one that has suspended itself. Success when it is on. `State` when
    /// it has neither.
    async fn restore(&self, id: InstanceId) -> Result<()>;

    /// Has a guest come back from its saved memory with disks at other places: by their names in the guest, the block
    /// devices that they are now. Success when nothing is saved.
    async fn repoint(&self, id: InstanceId, disks: &[(String, PathBuf)]) -> Result<()>;

    /// Forgets saved memory; success when there is none.
    async fn discard(&self, id: InstanceId) -> Result<()>;
}
