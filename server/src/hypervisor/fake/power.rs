//! Power of guests in memory.

use async_trait::async_trait;

use super::{Fake, PAUSED, UNPAUSED, is_on, wrong_state};
use crate::{
    hypervisor::{
        HypervisorError, Result,
        power::{Ask, Power},
        signals::Change,
    },
    model::{EventKind, InstanceId, PowerState},
};

const SHUT_DOWN: Change = Change::new(EventKind::Stopped, PowerState::Shutdown, "shutdown");

#[async_trait]
impl Power for Fake {
    async fn pause(&self, id: InstanceId) -> Result<()> {
        self.enter("pause").await?;
        let paused = self.ours(id, |held, _| match held {
            PowerState::Running => {
                *held = PowerState::Paused;
                Ok(true)
            }
            PowerState::Paused => Ok(false),
            _ => Err(wrong_state(id, "domain is not running")),
        })??;
        if paused {
            self.signals.change(id, PAUSED);
        }
        self.faults.leave("pause")
    }

    async fn resume(&self, id: InstanceId) -> Result<()> {
        self.enter("resume").await?;
        let resumed = self.ours(id, |held, _| match held {
            PowerState::Paused => {
                *held = PowerState::Running;
                Ok(true)
            }
            PowerState::Running => Ok(false),
            _ => Err(wrong_state(id, "domain is not running")),
        })??;
        if resumed {
            self.signals.change(id, UNPAUSED);
        }
        self.faults.leave("resume")
    }

    /// A guest obeys unless it was told to be deaf, see [`Fake::deafen`].
    async fn shutdown(&self, id: InstanceId, by: Ask) -> Result<()> {
        self.enter("shutdown").await?;
        let agent = self.signals.watch(id).borrow().agent;
        if by == Ask::Agent && !agent {
            return Err(HypervisorError::Agent(id));
        }
        let deaf = self.deaf.lock().contains(&id);
        let went = self.ours(id, |held, _| {
            let goes = *held == PowerState::Running && !deaf;
            if goes {
                *held = PowerState::Shutdown;
            }
            goes
        })?;
        if went {
            self.signals.change(id, SHUT_DOWN);
        }
        self.faults.leave("shutdown")
    }

    async fn interrupt(&self, id: InstanceId) -> Result<()> {
        self.enter("interrupt").await?;
        if !is_on(self.ours(id, |held, _| *held)?) {
            return Err(wrong_state(id, "domain is not running"));
        }
        self.faults.leave("interrupt")
    }
}

impl Fake {
    /// From now on the guest does not do what it is asked.
    pub fn deafen(&self, id: InstanceId) {
        self.deaf.lock().insert(id);
    }
}
