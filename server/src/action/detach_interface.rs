//! DetachInterface: an interface is taken from an instance, live and from its definition.

use async_trait::async_trait;

use super::{Action, detach_volume::DetachedBefore, devices, standing::admitted};
use crate::{
    error::Result,
    model::{EventKind, InstanceId, InterfaceId, Verb},
    step::{DetachDevice, Pace, RedefineGuest, UnplugVif, domain_of, plan_of, vifs},
    task::Task,
};

/// Takes an interface from an instance.
#[derive(Clone, Debug)]
pub struct DetachInterface {
    /// Whose.
    pub instance: InstanceId,
    /// Which.
    pub interface: InterfaceId,
    /// How often the guest is asked.
    pub pace: Pace,
}

#[async_trait]
impl Action for DetachInterface {
    const VERB: Verb = Verb::DetachInterface;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        let vifs = &standing.record.spec.vifs;
        let found = vifs.iter().find(|vif| vif.id == self.interface).cloned();
        task.answer(&DetachedBefore {
            absent: found.is_none(),
        })?;
        let Some(vif) = found else {
            return Ok(());
        };
        let (mut record, before) = devices::pinned(&host, &standing.record).await?;
        let domain = devices::domain(&host, &record, &before).await?;
        let device = devices::interface(&domain, vif.id.as_str())?;
        record.spec.vifs.retain(|each| each.id != vif.id);
        let plan = plan_of(&host, &record).await?;
        let plugged = host.vifs.plugged(instance, record.spec.vifs.iter()).await?;
        let domain = domain_of(&host, &record, &plan, &plugged).await?;
        if devices::is_on(standing.power) {
            let pace = self.pace;
            task.run(DetachDevice {
                instance,
                device,
                pace,
            })
            .await?;
        }
        task.run(RedefineGuest::new(&host, domain)).await?;
        let unplug = UnplugVif {
            instance,
            vif: vif.clone(),
        };
        task.run(unplug).await?;
        vifs::tell(&host, EventKind::VifUnplugged, (instance, &vif)).await;
        task.keep(record);
        Ok(())
    }
}
