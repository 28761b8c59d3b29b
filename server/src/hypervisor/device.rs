//! Devices that come and go while their guest runs.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::{
    domain::Device,
    model::{Bytes, InstanceId},
};

/// What became of a device that a guest was asked to let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// The guest does not have it, or does not run.
    Gone,
    /// The guest said no.
    Refused,
    /// The guest has not said anything; it may still let go of it.
    Held,
}

/// Devices of running guests. The definition by which a guest starts next is none of theirs.
#[async_trait]
pub trait Devices {
    /// Gives a running guest a device; success when it has it already. `Slots` when there is no place for it, `Volume`
    /// when the emulator cannot open what it is to be.
    async fn attach(&self, id: InstanceId, device: &Device) -> Result<()>;

    /// Asks a guest once to let go of a device, and waits for that for so long.
    async fn detach(&self, id: InstanceId, device: &Device, patience: Duration)
    -> Result<Detached>;

    /// Whether the guest has the device now; one that is off has none.
    async fn has(&self, id: InstanceId, device: &Device) -> Result<bool>;

    /// Gives a running guest so many processors, or takes what it has more; success when it has as many. `Timeout` when
    /// it does not let go of those that are taken.
    async fn set_vcpus(&self, id: InstanceId, vcpus: u32) -> Result<()>;

    /// Size of a disk of a running guest, as the guest may see it.
    async fn disk_size(&self, id: InstanceId, target: &str) -> Result<Bytes>;

    /// Tells a running guest that a disk has grown.
    async fn resize_disk(&self, id: InstanceId, target: &str, size: Bytes) -> Result<()>;
}
