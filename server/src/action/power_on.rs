//! PowerOn: the guest of an instance that is off starts, from a definition made anew.

use async_trait::async_trait;

use super::{Action, standing::admitted};
use crate::{
    error::Result,
    model::{InstanceId, Phase, Verb, Wanted},
    step::{PlugVifs, RedefineGuest, StartGuest, domain_of, plan_of},
    task::Task,
};

/// Starts the guest.
#[derive(Clone, Copy, Debug)]
pub struct PowerOn {
    /// Whose.
    pub instance: InstanceId,
}

#[async_trait]
impl Action for PowerOn {
    const VERB: Verb = Verb::PowerOn;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        if !standing.already {
            let plan = plan_of(&host, &standing.record).await?;
            let plugged = task.run(PlugVifs::again(&plan)).await?;
            let domain = domain_of(&host, &standing.record, &plan, &plugged).await?;
            task.run(RedefineGuest::new(&host, domain)).await?;
            task.run(StartGuest { instance }).await?;
            task.report().mark(Phase::Running, "the guest runs");
        }
        task.keep(standing.record.wanting(Wanted::Running));
        Ok(())
    }
}
