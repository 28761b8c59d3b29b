//! CreateVolumeSnapshot: the guest goes on in a new file over an attached volume, whose old file stays as it is.
//!
//! The storage service has made the new file, and keeps the old one as the snapshot.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Action, devices, layers,
    standing::{Standing, admitted},
    still::{Still, Wish},
};
use crate::{
    domain::{Disk, Domain},
    error::{Error, Kind, Result},
    host::Host,
    model::{
        BlockDevice, InstanceId, InstanceRecord, Phase, PowerState, SnapshotId, Verb, Volume,
        VolumeId,
    },
    step::{OverlayDisk, RedefineGuest, plan_of},
    task::Task,
};

/// Puts a file over a volume.
#[derive(Clone, Debug)]
pub struct CreateVolumeSnapshot {
    /// Whose.
    pub instance: InstanceId,
    /// The volume.
    pub volume: VolumeId,
    /// The storage service's id of the snapshot.
    pub snapshot: SnapshotId,
    /// The new file's name, beside the one that the guest writes to.
    pub file: String,
    /// Whether the guest's file systems are frozen for it.
    pub quiesce: bool,
}

/// What a caller is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSnapshotted {
    /// Whether the guest's file systems were frozen for it.
    pub quiesced: bool,
}

/// Both sides of it.
struct Prepared {
    record: InstanceRecord,
    domain: Domain,
    from: Disk,
    to: Disk,
}

impl CreateVolumeSnapshot {
    /// The snapshot of that id when it is there already; another of the same id is an error.
    fn made(&self, standing: &Standing) -> Result<Option<VolumeSnapshotted>> {
        let spec = &standing.record.spec;
        let volumes = spec.block_devices.iter().filter_map(BlockDevice::volume);
        let mut known = volumes.filter_map(|v| Some((v.id, v.snapshot(self.snapshot)?)));
        let Some((volume, snapshot)) = known.next() else {
            return Ok(None);
        };
        if volume == self.volume && snapshot.file == self.file {
            let quiesced = snapshot.quiesced;
            return Ok(Some(VolumeSnapshotted { quiesced }));
        }
        let message = format!(
            "the instance has snapshot {} already, and it is of another volume or file",
            self.snapshot
        );
        let e = Error::new(Kind::Exists, "DISK_EXISTS", message);
        Err(e.with("instance_id", spec.id).with("volume_id", volume))
    }

    async fn prepared(&self, host: &Host, standing: &Standing, quiesced: bool) -> Result<Prepared> {
        let volume = layers::volume(&standing.record.spec, self.volume)?;
        let over = host.volumes.over(volume, &self.file).await;
        let over = over.map_err(|e| Error::from(e).in_phase(Phase::ConnectVolumes))?;
        layers::unused(host, self.volume, &[&over])?;
        let volume = volume.overlaid((self.snapshot, &self.file), over, quiesced);
        let (before, plan) = devices::pinned(host, &standing.record).await?;
        let old = devices::domain(host, &before, &plan).await?;
        let record = layers::with(&before, &volume);
        let plan = plan_of(host, &record).await?;
        let domain = devices::domain(host, &record, &plan).await?;
        Ok(Prepared {
            from: layers::disk(&old, &record, self.volume)?,
            to: layers::disk(&domain, &record, self.volume)?,
            record,
            domain,
        })
    }

    /// A file over the old one is its disk's alone to write, and only a file can have one.
    fn fits(volume: &Volume) -> Result<()> {
        let why = match volume {
            volume if volume.chain().is_empty() => "is no file of this host",
            volume if volume.shared => "is shared with other instances",
            volume if volume.read_only => "is read only",
            _ => return Ok(()),
        };
        Err(devices::not_while_on("volume_id", why))
    }
}

#[async_trait]
impl Action for CreateVolumeSnapshot {
    const VERB: Verb = Verb::CreateVolumeSnapshot;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        if let Some(made) = self.made(&standing)? {
            return task.answer(&made);
        }
        let volume = layers::volume(&standing.record.spec, self.volume)?;
        Self::fits(volume)?;
        let _held = host.volumes.hold(volume, instance)?;
        let required = self.quiesce || standing.record.spec.properties.require_quiesce;
        let quiesced = required && standing.power == PowerState::Running;
        task.report()
            .begin(Phase::ConnectVolumes, "looking at the new file");
        let prepared = self.prepared(&host, &standing, quiesced).await?;
        task.report().end(Phase::ConnectVolumes);
        let answer = VolumeSnapshotted { quiesced };
        task.answer(&answer)?;
        if devices::is_on(standing.power) {
            let sides = (&prepared.from, &prepared.to);
            devices::known(&host, instance, sides, "volume_id").await?;
            let live = false;
            let still = Still::hold(task, &standing, Wish { required, live }).await?;
            let overlay = OverlayDisk {
                instance,
                was: standing.power,
                from: prepared.from,
                to: prepared.to,
                record: prepared.record.clone(),
                answer: serde_json::json!(answer),
            };
            task.run(overlay).await?;
            still.check(still.holds(&host))?;
            still.release(&host).await?;
        }
        task.run(RedefineGuest::new(&host, prepared.domain)).await?;
        task.keep(prepared.record);
        Ok(())
    }
}
