//! The instance is written down, and takes its share of the host.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    host::{Claim, Host},
    model::{InstanceId, InstanceRecord, Limits, Phase},
    task::{Cx, Step},
};

/// Writes the instance down as being built.
#[derive(Debug, Serialize, Deserialize)]
pub struct Register {
    /// Which one.
    pub instance: InstanceId,
    /// What is written; not needed for the way back.
    #[serde(skip)]
    pub record: Option<InstanceRecord>,
}

#[async_trait]
impl Step for Register {
    type Output = ();
    const NAME: &'static str = "register instance";
    const PHASE: Phase = Phase::Claim;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        if let Some(record) = &self.record {
            cx.host.store.put_instance(record.clone()).await?;
        }
        Ok(())
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        host.store.remove_instance(self.instance).await?;
        host.hypervisor.forget(self.instance);
        Ok(())
    }
}

/// Claims what the instance takes of the host.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimResources {
    /// For whom.
    pub instance: InstanceId,
    /// How much.
    pub claim: Claim,
    /// Upper bounds in place of the host's ratios.
    pub limits: Limits,
}

#[async_trait]
impl Step for ClaimResources {
    type Output = ();
    const NAME: &'static str = "claim resources";
    const PHASE: Phase = Phase::Claim;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx
            .host
            .claims
            .claim(self.instance, self.claim, &self.limits)?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        host.claims.release(self.instance);
        Ok(())
    }
}

/// Claims the root disk too, once the image has told its size. Given back with the rest of the claim.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimRoot {
    /// The whole claim, root disk included.
    pub whole: ClaimResources,
}

#[async_trait]
impl Step for ClaimRoot {
    type Output = ();
    const NAME: &'static str = "claim root disk";
    const PHASE: Phase = Phase::CreateDisks;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        self.whole.apply(cx).await
    }

    async fn revert(&self, _host: &Host) -> Result<()> {
        Ok(())
    }
}
