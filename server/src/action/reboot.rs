//! Reboot: the guest starts anew, from a definition made anew.
//!
//! SOFT asks it to switch itself off, and cuts its power when its time is over; HARD cuts it at once, and starts one that
//! is off or has crashed, too. Meanwhile the instance counts as what its owner wants of it: that it is off for a moment
//! is nobody's news.

use async_trait::async_trait;

use super::{
    Action,
    power_off::{Patience, goes},
    power_on::{boots, may_start},
    standing::admitted,
};
use crate::{
    error::Result,
    hypervisor::StartMode,
    model::{Event, EventKind, InstanceId, PowerState, Verb, Wanted},
    step::{ReturnGuest, StopGuest},
    task::Task,
};

/// Starts the guest anew.
#[derive(Clone, Copy, Debug)]
pub struct Reboot {
    /// Whose.
    pub instance: InstanceId,
    /// How it is asked to go; none cuts its power at once.
    pub patience: Option<Patience>,
}

#[async_trait]
impl Action for Reboot {
    const VERB: Verb = Verb::Reboot;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let instance = self.instance;
        let standing = admitted(task.host(), Self::VERB, instance).await?;
        let was = standing.power;
        may_start(task.host(), instance).await?;
        // First, so that a guest that goes is back whatever happens next.
        task.run(ReturnGuest { instance, was }).await?;
        // A guest that does not run hears nobody.
        let asked = self.patience.filter(|_| was == PowerState::Running);
        let gone = match asked {
            Some(patience) => goes(task, instance, patience).await?,
            None => matches!(was, PowerState::Shutdown | PowerState::NoState),
        };
        if !gone {
            task.run(StopGuest { instance, was }).await?;
        }
        let record = boots(task, &standing.record, StartMode::Running).await?;
        let rebooted = Event::of(instance, EventKind::Rebooted);
        let rebooted = rebooted.power(PowerState::Running).because("rebooted");
        task.host().journal.tell(rebooted).await;
        task.keep(record.started(Wanted::Running));
        Ok(())
    }
}
