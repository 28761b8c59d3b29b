//! TriggerCrashDump: the guest gets an interrupt that it cannot mask, and does with it what it is set up to do.

use async_trait::async_trait;

use super::{Action, standing::admitted};
use crate::{
    error::Result,
    model::{InstanceId, Verb},
    task::{Task, cancelled},
};

/// Interrupts the guest.
#[derive(Clone, Copy, Debug)]
pub struct TriggerCrashDump {
    /// Whose.
    pub instance: InstanceId,
}

#[async_trait]
impl Action for TriggerCrashDump {
    const VERB: Verb = Verb::TriggerCrashDump;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    /// Takes no step: an interrupt cannot be taken back.
    async fn run(&self, task: &mut Task) -> Result<()> {
        admitted(task.host(), Self::VERB, self.instance).await?;
        if task.cancel().is_cancelled() {
            return Err(cancelled());
        }
        Ok(task.host().hypervisor.interrupt(self.instance).await?)
    }
}
