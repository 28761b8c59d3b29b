//! The instance takes its share of the host, and is written down.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    host::{Claim, Host},
    model::{InstanceId, InstanceRecord, Limits, Phase},
    task::{Cx, Step},
};

/// Claims what the instance takes of the host, and writes it down as being built.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimResources {
    /// For whom.
    pub instance: InstanceId,
    /// How much.
    pub claim: Claim,
    /// Upper bounds in place of the host's ratios.
    pub limits: Limits,
    /// What is written down; not needed for the way back.
    #[serde(skip)]
    pub record: Option<InstanceRecord>,
}

#[async_trait]
impl Step for ClaimResources {
    type Output = ();
    const NAME: &'static str = "claim resources";
    const PHASE: Phase = Phase::Claim;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let claims = &cx.host.claims;
        claims.claim(self.instance, self.claim, &self.limits)?;
        if let Some(record) = &self.record {
            cx.host.store.put_instance(record.clone()).await?;
        }
        Ok(())
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        // Of an instance that is gone, nothing more is told.
        host.journal.flush().await;
        // The row goes first: what is written down is always claimed.
        host.store.remove_instance(self.instance).await?;
        host.hypervisor.forget(self.instance);
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
