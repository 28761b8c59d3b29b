//! DetachVolume: a volume is taken from an instance, live and from its definition.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Action, devices, standing::admitted};
use crate::{
    error::{Error, Kind, Result},
    host::Host,
    model::{BlockDevice, DiskId, InstanceId, InstanceSpec, Verb, VolumeId},
    step::{DetachDevice, Pace, RedefineGuest, domain_of, plan_of},
    task::Task,
};

/// Takes a volume from an instance.
#[derive(Clone, Debug)]
pub struct DetachVolume {
    /// Whose.
    pub instance: InstanceId,
    /// Which.
    pub which: Which,
    /// How often the guest is asked.
    pub pace: Pace,
}

/// By which id a volume is named.
#[derive(Clone, Debug)]
pub enum Which {
    /// That of the disk.
    Disk(DiskId),
    /// That of the volume.
    Volume(VolumeId),
}

/// What a caller is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachedBefore {
    /// Whether it was not attached before.
    pub absent: bool,
}

impl DetachVolume {
    fn find<'a>(&self, spec: &'a InstanceSpec) -> Result<Option<&'a BlockDevice>> {
        let id = match &self.which {
            Which::Volume(volume) => return Ok(devices::volume_of(spec, *volume)),
            Which::Disk(id) => id,
        };
        let own = ["root", "ephemeral0", "swap", "config"];
        match spec.block_devices.iter().find(|device| device.id == *id) {
            Some(device) if device.volume().is_some() => Ok(Some(device)),
            None if !own.contains(&id.as_str()) => Ok(None),
            _ => {
                let message = format!("disk {id} is no volume: it goes with its instance");
                let e = Error::new(Kind::Precondition, "NOT_SUPPORTED", message);
                Err(e.with("instance_id", spec.id).with("disk_id", id))
            }
        }
    }
}

#[async_trait]
impl Action for DetachVolume {
    const VERB: Verb = Verb::DetachVolume;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        let found = self.find(&standing.record.spec)?.cloned();
        task.answer(&DetachedBefore {
            absent: found.is_none(),
        })?;
        let Some(gone) = found else {
            return Ok(());
        };
        if gone.is_root() {
            let what = "cannot be detached: the instance boots from it";
            return Err(devices::root_volume(
                &standing.record.spec,
                &format!(
                    "{what}; swap it for another volume, or destroy the instance, which leaves the volume"
                ),
            ));
        }
        let (mut record, before) = devices::pinned(&host, &standing.record).await?;
        let plugged = host.vifs.plugged(instance, record.spec.vifs.iter()).await?;
        let domain = domain_of(&host, &record, &before, &plugged).await?;
        let device = devices::disk(&domain, gone.id.as_str())?;
        record
            .spec
            .block_devices
            .retain(|device| device.id != gone.id);
        record.spec.pins.remove(&gone.id);
        let plan = plan_of(&host, &record).await?;
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
        task.keep(record);
        Ok(())
    }

    async fn tidy(&self, host: &Host) {
        host.drop_secrets(self.instance).await;
    }
}
