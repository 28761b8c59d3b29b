//! PowerOn: the guest of an instance that is off starts, from a definition made anew. And how a server brings back what
//! should run, after its host was away.

use async_trait::async_trait;

use super::{
    Action,
    standing::{admitted, power, present},
};
use crate::{
    error::Result,
    host::Host,
    hypervisor::StartMode,
    model::{InstanceId, InstanceRecord, Phase, PowerState, Verb, Wanted},
    step::{PlugVifs, RedefineGuest, StartGuest, StopGuest, domain_of, found, plan_of},
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
        let standing = admitted(task.host(), Self::VERB, self.instance).await?;
        if standing.already {
            task.keep(standing.record.wanting(Wanted::Running));
            return Ok(());
        }
        let record = boots(task, &standing.record, StartMode::Running).await?;
        task.keep(record.started(Wanted::Running));
        Ok(())
    }
}

/// Brings the guest to what its owner wants, when it is off and should not be. Whoever else changed the instance since
/// has the last word.
#[derive(Clone, Copy, Debug)]
pub struct BringBack {
    /// Whose.
    pub instance: InstanceId,
}

#[async_trait]
impl Action for BringBack {
    const VERB: Verb = Verb::PowerOn;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    fn gives_way(&self) -> bool {
        true
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let record = present(task.host(), self.instance)?;
        let mode = match record.wanted {
            Wanted::Running => StartMode::Running,
            Wanted::Paused => StartMode::Paused,
            Wanted::Off | Wanted::Suspended => return Ok(()),
        };
        let was = power(task.host(), self.instance).await?;
        if was == PowerState::Crashed {
            let instance = self.instance;
            task.run(StopGuest { instance, was }).await?;
        }
        if is_off(was) {
            let record = boots(task, &record, mode).await?;
            task.keep(record.started(record.wanted));
        }
        Ok(())
    }
}

/// Whether a guest in that state has no run to go on with.
pub fn is_off(power: PowerState) -> bool {
    use PowerState::{Crashed, NoState, Shutdown};
    matches!(power, Shutdown | NoState | Crashed)
}

/// Starts a guest that is off, from a definition made anew. Answers with the instance as it is with that.
pub(super) async fn boots(
    task: &mut Task,
    record: &InstanceRecord,
    mode: StartMode,
) -> Result<InstanceRecord> {
    let instance = record.spec.id;
    let record = redefines(task, record).await?;
    task.run(StartGuest { instance, mode }).await?;
    task.report().mark(Phase::Running, "the guest runs");
    Ok(record)
}

/// Looks at the volumes of a guest before it ends: without them it would not start again.
pub(super) async fn may_start(host: &Host, instance: InstanceId) -> Result<()> {
    let record = present(host, instance)?;
    found(host, &record).await.map(drop)
}

/// Gives a guest that is off a definition made anew. Answers with the instance as it is with that: what its
/// volumes are now is looked at first.
pub(super) async fn redefines(task: &mut Task, record: &InstanceRecord) -> Result<InstanceRecord> {
    let host = task.host().clone();
    let record = found(&host, record).await?;
    let plan = plan_of(&host, &record).await?;
    let plugged = task.run(PlugVifs::again(&plan)).await?;
    let domain = domain_of(&host, &record, &plan, &plugged).await?;
    task.run(RedefineGuest::new(&host, domain)).await?;
    Ok(record)
}
