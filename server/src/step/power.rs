//! The guest's power is changed, and changed back.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::again::start;
use crate::{
    error::Result,
    host::Host,
    hypervisor::StartMode,
    model::{InstanceId, Phase, PowerState},
    task::{Cx, Step},
};

/// Stops the vCPUs of a running guest.
#[derive(Debug, Serialize, Deserialize)]
pub struct PauseGuest {
    /// Which one.
    pub instance: InstanceId,
}

#[async_trait]
impl Step for PauseGuest {
    type Output = ();
    const NAME: &'static str = "pause guest";
    const PHASE: Phase = Phase::Stop;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx.host.hypervisor.pause(self.instance).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        match power(host, self.instance).await? {
            PowerState::Paused => Ok(host.hypervisor.resume(self.instance).await?),
            _ => Ok(()),
        }
    }
}

/// Lets the vCPUs of a paused guest go.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnpauseGuest {
    /// Which one.
    pub instance: InstanceId,
}

#[async_trait]
impl Step for UnpauseGuest {
    type Output = ();
    const NAME: &'static str = "unpause guest";
    const PHASE: Phase = Phase::Resume;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx.host.hypervisor.resume(self.instance).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        match power(host, self.instance).await? {
            PowerState::Running => Ok(host.hypervisor.pause(self.instance).await?),
            _ => Ok(()),
        }
    }
}

/// Changes nothing; written down before the guest is asked to go for a while, so that on the way back it runs again.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReturnGuest {
    /// Which one.
    pub instance: InstanceId,
    /// How it was.
    pub was: PowerState,
}

#[async_trait]
impl Step for ReturnGuest {
    type Output = ();
    const NAME: &'static str = "return guest";
    const PHASE: Phase = Phase::Stop;

    async fn apply(&self, _cx: Cx<'_>) -> Result<()> {
        Ok(())
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        back(host, self.instance, self.was).await
    }
}

/// Stops the guest at once, as if its power was cut. On the way back it boots anew: what it had in memory is lost, as with
/// any power cut.
#[derive(Debug, Serialize, Deserialize)]
pub struct StopGuest {
    /// Which one.
    pub instance: InstanceId,
    /// How it was, for the way back.
    pub was: PowerState,
}

#[async_trait]
impl Step for StopGuest {
    type Output = ();
    const NAME: &'static str = "stop guest";
    const PHASE: Phase = Phase::Stop;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx.host.hypervisor.destroy(self.instance).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        back(host, self.instance, self.was).await
    }
}

/// Has a guest that was on started again, when it is off.
async fn back(host: &Host, id: InstanceId, was: PowerState) -> Result<()> {
    let mode = match was {
        PowerState::Running => StartMode::Running,
        PowerState::Paused => StartMode::Paused,
        _ => return Ok(()),
    };
    match power(host, id).await? {
        // It was never stopped.
        PowerState::Running | PowerState::Paused => Ok(()),
        _ => start(host, id, mode).await,
    }
}

pub(super) async fn power(host: &Host, id: InstanceId) -> Result<PowerState> {
    Ok(host.hypervisor.info(id).await?.state)
}
