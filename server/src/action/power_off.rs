//! PowerOff: the guest is asked to switch itself off, again and again; when its time is over, its power is cut.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};
use tracing::debug;

use super::{Action, power_on::may_start, standing::admitted};
use crate::{
    error::Result,
    host::Host,
    hypervisor::{HypervisorError, Signal, power::Ask},
    model::{InstanceId, Phase, PowerState, Verb, Wanted},
    step::{DiscardMemory, ReturnGuest, StopGuest},
    task::{Task, cancelled},
};

/// Stops the guest.
#[derive(Clone, Copy, Debug)]
pub struct PowerOff {
    /// Whose.
    pub instance: InstanceId,
    /// How the guest is asked; none is not asked at all.
    pub patience: Option<Patience>,
}

/// How a guest is asked to switch itself off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long.
    pub timeout: Duration,
    /// How often it is asked again.
    pub retry_interval: Duration,
}

/// How often a guest is asked again where nobody says it.
const AGAIN: Duration = Duration::from_secs(10);

/// What a caller is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoweredOff {
    /// Whether its power was cut.
    pub forced: bool,
}

#[async_trait]
impl Action for PowerOff {
    const VERB: Verb = Verb::PowerOff;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let instance = self.instance;
        let standing = admitted(task.host(), Self::VERB, instance).await?;
        let mut forced = false;
        if !standing.already {
            // A guest that does not run hears nobody.
            let asked = self
                .patience
                .filter(|_| standing.power == PowerState::Running);
            let obeyed = match asked {
                Some(patience) => goes(task, instance, patience).await?,
                None => false,
            };
            if !obeyed {
                let was = standing.power;
                task.run(StopGuest { instance, was }).await?;
                forced = true;
            }
        }
        let (answer, record) = (PoweredOff { forced }, standing.record.wanting(Wanted::Off));
        task.answer(&answer)?;
        // Last, because it cannot be taken back.
        if standing.power == PowerState::Suspended {
            let discard = DiscardMemory {
                instance,
                record: record.clone(),
                answer: serde_json::json!(answer),
            };
            task.run(discard).await?;
        }
        task.keep(record);
        Ok(())
    }
}

/// The guest of a change that needs it off ends, if it is on: it is asked first, so that its disks are as it wants them,
/// then forced. Unless the change ends well it is started again as it was, also when it goes later.
pub(super) async fn ends(task: &mut Task, instance: InstanceId, was: PowerState) -> Result<()> {
    may_start(task.host(), instance).await?;
    task.run(ReturnGuest { instance, was }).await?;
    let timeout = task.host().plan.shutdown_timeout;
    let patience = Patience {
        timeout,
        retry_interval: AGAIN,
    };
    let gone = match was == PowerState::Running && !timeout.is_zero() {
        true => goes(task, instance, patience).await?,
        false => matches!(was, PowerState::Shutdown | PowerState::NoState),
    };
    if !gone {
        task.run(StopGuest { instance, was }).await?;
    }
    Ok(())
}

/// Asks the guest until it is off. Whether it went.
pub(super) async fn goes(task: &Task, id: InstanceId, patience: Patience) -> Result<bool> {
    let host = task.host().clone();
    task.report()
        .begin(Phase::Shutdown, "asking the guest to switch itself off");
    let mut signal = host.hypervisor.signals(id);
    let end = Instant::now() + patience.timeout;
    let mut gone = false;
    while !gone && Instant::now() < end {
        let again = (Instant::now() + patience.retry_interval).min(end);
        tokio::select! {
            biased;
            () = task.cancel().cancelled() => return Err(cancelled().in_phase(Phase::Shutdown)),
            went = off(&mut signal) => gone = went,
            () = asked(&host, id, again) => {}
        }
    }
    if gone {
        task.report().end(Phase::Shutdown);
    }
    Ok(gone)
}

/// Returns when the hypervisor has told that the guest is off.
async fn off(signal: &mut watch::Receiver<Signal>) -> bool {
    let is_off = |signal: &Signal| {
        matches!(
            signal.state,
            Some(PowerState::Shutdown | PowerState::Crashed | PowerState::Suspended)
        )
    };
    if signal.wait_for(is_off).await.is_err() {
        std::future::pending::<()>().await;
    }
    true
}

/// Asks once, by the agent when there is one, else by the power button; returns at `again`, never earlier.
async fn asked(host: &Host, id: InstanceId, again: Instant) {
    let agent = host.hypervisor.signals(id).borrow().agent;
    let by_agent = async {
        match agent {
            true => host.hypervisor.shutdown(id, Ask::Agent).await,
            false => Err(HypervisorError::Agent(id)),
        }
    };
    let ask = async {
        if let Err(e) = by_agent.await {
            debug!(instance = %id, error = %e, "asking by the power button");
            if let Err(e) = host.hypervisor.shutdown(id, Ask::Acpi).await {
                debug!(instance = %id, error = %e, "the guest cannot be asked");
            }
        }
    };
    // A guest that hangs keeps whoever asks it for longer than it is given.
    let _ = tokio::time::timeout_at(again, ask).await;
    tokio::time::sleep_until(again).await;
}
