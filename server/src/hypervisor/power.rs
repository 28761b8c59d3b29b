//! What can be done to a guest's power beside starting it and cutting it off.

use async_trait::async_trait;

use super::Result;
use crate::model::InstanceId;

/// How a guest is asked to switch itself off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// By its virtual power button.
    Acpi,
    /// By its agent.
    Agent,
}

/// Power of a guest.
#[async_trait]
pub trait Power {
    /// Stops the vCPUs; success when they are stopped already.
    async fn pause(&self, id: InstanceId) -> Result<()>;

    /// Lets the vCPUs of a paused guest go; success when they run already.
    async fn resume(&self, id: InstanceId) -> Result<()>;

    /// Asks the guest to switch itself off, and does not wait for it; success when it is off. `Agent` when it is to be
    /// asked by an agent that does not answer.
    async fn shutdown(&self, id: InstanceId, by: Ask) -> Result<()>;

    /// Sends the guest an interrupt that it cannot mask.
    async fn interrupt(&self, id: InstanceId) -> Result<()>;
}
