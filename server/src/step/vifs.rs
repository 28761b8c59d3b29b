//! The interfaces are plugged into their networks.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    host::Host,
    model::{Event, EventKind, InstanceId, Phase, Vif, VifKind},
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
    /// Whether they are plugged already, and stay so on the way back.
    #[serde(default)]
    pub again: bool,
}

impl PlugVifs {
    /// The interfaces of a plan.
    pub fn new(plan: &Plan) -> Self {
        let vifs = plan.vifs.iter().map(|plan| plan.vif.clone());
        Self {
            instance: plan.instance,
            vifs: vifs.collect(),
            again: false,
        }
    }

    /// Those of an instance that is there: what the host has forgotten of them, as when it restarts, is made anew.
    pub fn again(plan: &Plan) -> Self {
        Self {
            again: true,
            ..Self::new(plan)
        }
    }
}

/// Tells that an interface was plugged or unplugged. The journal tells each once, so that whoever repeats it may tell it
/// again. One that is plugged nowhere is nobody's news.
pub async fn tell(host: &Host, kind: EventKind, (instance, vif): (InstanceId, &Vif)) {
    if vif.kind != VifKind::Unbound {
        let event = Event::of(instance, kind).device(vif.id.as_str());
        host.journal.tell(event).await;
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
            tell(cx.host, EventKind::VifPlugged, (self.instance, vif)).await;
        }
        Ok(plugged)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        for vif in self.vifs.iter().filter(|_| !self.again) {
            host.vifs.unplug(self.instance, vif).await?;
            tell(host, EventKind::VifUnplugged, (self.instance, vif)).await;
        }
        Ok(())
    }
}

/// Unplugs one interface that the guest has let go of.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnplugVif {
    /// Whose.
    pub instance: InstanceId,
    /// Which.
    pub vif: Vif,
}

#[async_trait]
impl Step for UnplugVif {
    type Output = ();
    const NAME: &'static str = "unplug vif";
    const PHASE: Phase = Phase::UnplugVifs;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx.host.vifs.unplug(self.instance, &self.vif).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        // The first time may have failed with the tap in place, which plugging takes for another's.
        host.vifs.unplug(self.instance, &self.vif).await?;
        host.vifs.plug(self.instance, &self.vif).await?;
        Ok(())
    }
}
