//! The interfaces are plugged into their networks.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    host::Host,
    model::{InstanceId, Phase, Vif},
    plan::Plan,
    task::{Cx, Step},
    vif::Plugged,
};

/// Plugs all interfaces.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlugVifs {
    /// Whose.
    pub instance: InstanceId,
    /// Which.
    pub vifs: Vec<Vif>,
}

impl PlugVifs {
    /// The interfaces of a plan.
    pub fn new(plan: &Plan) -> Self {
        let vifs = plan.vifs.iter().map(|plan| plan.vif.clone());
        Self {
            instance: plan.instance,
            vifs: vifs.collect(),
        }
    }
}

#[async_trait]
impl Step for PlugVifs {
    type Output = Vec<Plugged>;
    const NAME: &'static str = "plug vifs";
    const PHASE: Phase = Phase::PlugVifs;

    async fn apply(&self, cx: Cx<'_>) -> Result<Vec<Plugged>> {
        let mut plugged = Vec::with_capacity(self.vifs.len());
        for vif in &self.vifs {
            plugged.push(cx.host.vifs.plug(self.instance, vif).await?);
        }
        Ok(plugged)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        for vif in &self.vifs {
            host.vifs.unplug(self.instance, vif).await?;
        }
        Ok(())
    }
}
