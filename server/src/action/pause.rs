//! Pause and Unpause: the guest's processors stop and go on, its memory stays.

use async_trait::async_trait;

use super::{Action, standing::admitted};
use crate::{
    error::Result,
    model::{InstanceId, Verb, Wanted},
    step::{PauseGuest, UnpauseGuest},
    task::Task,
};

/// Stops the guest's processors.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// Whose.
    pub instance: InstanceId,
}

/// Lets the guest's processors go on.
#[derive(Clone, Copy, Debug)]
pub struct Unpause {
    /// Whose.
    pub instance: InstanceId,
}

#[async_trait]
impl Action for Pause {
    const VERB: Verb = Verb::Pause;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let instance = self.instance;
        let standing = admitted(task.host(), Self::VERB, instance).await?;
        if !standing.already {
            task.run(PauseGuest { instance }).await?;
        }
        task.keep(standing.record.wanting(Wanted::Paused));
        Ok(())
    }
}

#[async_trait]
impl Action for Unpause {
    const VERB: Verb = Verb::Unpause;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let instance = self.instance;
        let standing = admitted(task.host(), Self::VERB, instance).await?;
        if !standing.already {
            task.run(UnpauseGuest { instance }).await?;
        }
        task.keep(standing.record.wanting(Wanted::Running));
        Ok(())
    }
}
