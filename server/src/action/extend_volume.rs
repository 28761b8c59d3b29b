//! ExtendVolume: a guest is told that an attached volume has grown.
//!
//! It only goes forward. The storage has grown before, and a guest that has seen the room may use it: nothing of this is
//! taken back.

use async_trait::async_trait;

use super::{
    Action, devices,
    standing::{Standing, admitted},
};
use crate::{
    error::{Error, Result},
    host::Host,
    model::{
        BlockDevice, BlockSource, Bytes, DiskFormat, DiskId, InstanceId, Phase, Seen, Verb, Volume,
        VolumeTarget,
    },
    step::{ResizeDisk, plan_of},
    task::Task,
    volume::VolumeError,
};

/// Tells a guest of a volume's new size.
#[derive(Clone, Debug)]
pub struct ExtendVolume {
    /// Whose.
    pub instance: InstanceId,
    /// The disk that the volume is.
    pub disk: DiskId,
    /// Its new size.
    pub size: Bytes,
}

impl ExtendVolume {
    /// The volume as it is from now on; `known` is what a guest that is on sees of it.
    async fn looked_at(
        &self,
        host: &Host,
        volume: &Volume,
        known: Option<Bytes>,
    ) -> Result<Volume> {
        let on = known.is_some();
        let old = volume.seen.as_ref().map_or(Bytes(0), |seen| seen.size);
        let old = old.max(known.unwrap_or_default());
        if self.size < old {
            let why = format!("must not be less than the volume's {} bytes", old.0);
            return Err(devices::invalid("size_bytes", why));
        }
        if on && self.size > old && matches!(volume.target, VolumeTarget::Nbd { .. }) {
            let why = "is a network block device, whose size is set when it is connected: power the guest off first";
            return Err(devices::not_while_on("disk_id", why));
        }
        let mut volume = host.connect(self.instance, volume).await?;
        let (id, wanted) = (volume.id, self.size);
        let found = volume.seen.as_ref().map_or(Bytes(0), |seen| seen.size);
        // Nobody but the emulator may write the header of what it has open.
        let by_us = on && volume.format_now() == DiskFormat::Qcow2 && found <= wanted;
        if found != wanted && !by_us {
            return Err(VolumeError::Size {
                volume: id,
                found,
                wanted,
            }
            .into());
        }
        volume.seen = volume.seen.map(|seen| Seen {
            size: wanted,
            ..seen
        });
        Ok(volume)
    }

    /// The disk's name in the guest.
    async fn target(&self, host: &Host, standing: &Standing) -> Result<String> {
        let plan = plan_of(host, &standing.record).await?;
        let disk = plan.disks.into_iter().find(|disk| disk.id == self.disk);
        let disk = disk.ok_or_else(|| Error::internal("the disk is not in the plan"))?;
        Ok(disk.target)
    }
}

#[async_trait]
impl Action for ExtendVolume {
    const VERB: Verb = Verb::ExtendVolume;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let host = task.host().clone();
        let standing = admitted(&host, Self::VERB, self.instance).await?;
        let (_, volume) = devices::attached(&standing.record.spec, &self.disk)?;
        let (instance, size) = (self.instance, self.size);
        devices::all_known(&host, &standing).await?;
        let target = self.target(&host, &standing).await?;
        let known = match devices::is_on(standing.power) {
            true => Some(host.hypervisor.disk_size(instance, &target).await?),
            false => None,
        };
        // The emulator sets an image or a raw file to the size that it is told, also to a smaller one. So nothing but the
        // telling comes after the look, and nothing is told to one that knows.
        let looked = self.looked_at(&host, volume, known).await;
        let volume = looked.map_err(|e| e.in_phase(Phase::ConnectVolumes))?;
        if let Some(seen) = known {
            task.run(ResizeDisk {
                instance,
                target,
                size,
                seen,
            })
            .await?;
        }
        let mut record = (*standing.record).clone();
        for device in &mut record.spec.block_devices {
            if device.id == self.disk {
                *device = BlockDevice {
                    source: BlockSource::Volume(Box::new(volume.clone())),
                    ..device.clone()
                };
            }
        }
        task.keep(record);
        Ok(())
    }
}
