//! Suspend and Resume: the guest's memory goes to disk, and comes back from there.

use async_trait::async_trait;

use super::{Action, devices, standing::admitted};
use crate::{
    error::Result,
    model::{InstanceId, Phase, Verb, Wanted},
    step::{
        PlugVifs, RedefineGuest, RestoreGuest, SaveGuest, domain_of, found, has_moved, places,
        plan_of,
    },
    task::Task,
};

/// Saves the guest's memory to disk and stops it.
#[derive(Clone, Copy, Debug)]
pub struct Suspend {
    /// Whose.
    pub instance: InstanceId,
}

/// Brings a suspended guest back.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    /// Whose.
    pub instance: InstanceId,
}

#[async_trait]
impl Action for Suspend {
    const VERB: Verb = Verb::Suspend;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let instance = self.instance;
        let standing = admitted(task.host(), Self::VERB, instance).await?;
        if !standing.already {
            devices::all_known(task.host(), &standing).await?;
            let was = standing.power;
            task.run(SaveGuest { instance, was }).await?;
        }
        task.keep(standing.record.wanting(Wanted::Suspended));
        Ok(())
    }
}

#[async_trait]
impl Action for Resume {
    const VERB: Verb = Verb::Resume;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        if standing.already {
            task.keep(standing.record.wanting(Wanted::Running));
            return Ok(());
        }
        let record = found(&host, &standing.record).await?;
        let plan = plan_of(&host, &record).await?;
        let plugged = task.run(PlugVifs::again(&plan)).await?;
        let places = places(&record, &plan);
        if has_moved(&standing.record, &record) {
            let domain = domain_of(&host, &record, &plan, &plugged).await?;
            task.run(RedefineGuest::new(&host, domain)).await?;
        }
        task.run(RestoreGuest { instance, places }).await?;
        task.report().mark(Phase::Running, "the guest runs");
        task.keep(record.started(Wanted::Running));
        Ok(())
    }
}
