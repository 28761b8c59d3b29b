//! AttachInterface: an instance is given one more interface, in its definition and, when it runs, live.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Action, devices,
    standing::{Standing, admitted},
};
use crate::{
    error::{Error, Kind, Result},
    host::Host,
    model::{InstanceId, InstanceRecord, InstanceSpec, Verb, Vif, VifKind},
    plan::Plan,
    step::{AttachDevice, PlugVifs, RedefineGuest, domain_of},
    task::Task,
};

/// Gives an instance an interface.
#[derive(Clone, Debug)]
pub struct AttachInterface {
    /// Whose.
    pub instance: InstanceId,
    /// The interface.
    pub vif: Vif,
}

impl AttachInterface {
    /// Checks all that can be checked without changing anything.
    ///
    /// # Errors
    /// Those that the change itself would have at its begin.
    pub async fn check(&self, host: &Arc<Host>) -> Result<()> {
        let standing = admitted(host, Self::VERB, self.instance).await?;
        let Some((_, plan)) = self.prepared(host, &standing).await? else {
            return Ok(());
        };
        // Looks whether the network is there.
        let vifs = plan.vifs.iter().map(|vif| &vif.vif);
        Ok(host.vifs.plugged(self.instance, vifs).await.map(drop)?)
    }

    /// None when the instance has it already.
    async fn prepared(
        &self,
        host: &Host,
        standing: &Standing,
    ) -> Result<Option<(InstanceRecord, Plan)>> {
        if self.is_there(&standing.record.spec)? {
            return Ok(None);
        }
        if self.vif.mtu.is_some() && !matches!(self.vif.kind, VifKind::Bridge { .. }) {
            let why = "can be told to a guest that is there over a bridge only";
            return Err(devices::not_while_on("vif.mtu", why));
        }
        let (mut record, _) = devices::pinned(host, &standing.record).await?;
        let place = record.spec.vifs.len();
        record.spec.vifs.push(self.vif.clone());
        let words = (format!("vifs[{place}]"), "vif");
        let plan = devices::planned(host, &record, words).await?;
        Ok(Some((record, plan)))
    }

    /// Whether the instance has it; another interface of the same id or address is an error.
    fn is_there(&self, spec: &InstanceSpec) -> Result<bool> {
        let own = &self.vif;
        let mut like = spec.vifs.iter();
        let there = like.find(|there| there.id == own.id || there.mac == own.mac);
        match there {
            None => Ok(false),
            Some(there) if there == own => Ok(true),
            Some(there) => {
                let message = format!(
                    "the instance has interface {} with address {} already, and it is another",
                    there.id, there.mac
                );
                let e = Error::new(Kind::Exists, "INTERFACE_EXISTS", message);
                Err(e
                    .with("instance_id", spec.id)
                    .with("interface_id", &there.id))
            }
        }
    }
}

#[async_trait]
impl Action for AttachInterface {
    const VERB: Verb = Verb::AttachInterface;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        let Some((record, plan)) = self.prepared(&host, &standing).await? else {
            return Ok(());
        };
        let others = standing.record.spec.vifs.iter();
        let mut plugged = host.vifs.plugged(instance, others).await?;
        let plug = PlugVifs {
            instance,
            vifs: vec![self.vif.clone()],
            again: false,
        };
        plugged.extend(task.run(plug).await?);
        let domain = domain_of(&host, &record, &plan, &plugged).await?;
        let device = devices::interface(&domain, self.vif.id.as_str())?;
        task.run(RedefineGuest::new(&host, domain)).await?;
        if devices::is_on(standing.power) {
            let attach = AttachDevice {
                instance,
                device,
                record: Some(Box::new(record.clone())),
            };
            task.run(attach).await?;
        }
        task.keep(record);
        Ok(())
    }
}
