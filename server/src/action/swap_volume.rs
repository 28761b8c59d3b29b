//! SwapVolume: a running guest goes on with another volume, which has been given the content of its own.

use async_trait::async_trait;

use super::{
    Action, devices,
    standing::{Standing, admitted},
};
use crate::{
    domain::{Device, Disk, Domain},
    error::{Error, Kind, Result},
    host::Host,
    model::{
        BlockDevice, BlockSource, Bytes, DiskId, InstanceId, InstanceRecord, Phase, Verb, Volume,
    },
    step::{KeepSecret, MirrorDisk, PivotDisk, RedefineGuest},
    task::Task,
};

/// Replaces a volume by another.
#[derive(Clone, Debug)]
pub struct SwapVolume {
    /// Whose.
    pub instance: InstanceId,
    /// The disk; it keeps its id, its name and its bus.
    pub disk: DiskId,
    /// The new volume.
    pub volume: Volume,
    /// Bytes a second at most.
    pub bandwidth: Option<u64>,
}

/// Both sides of a swap.
struct Prepared {
    record: InstanceRecord,
    domain: Domain,
    from: Disk,
    to: Disk,
}

impl SwapVolume {
    /// None when the disk is the new volume already.
    async fn prepared(&self, host: &Host, standing: &Standing) -> Result<Option<Prepared>> {
        let spec = &standing.record.spec;
        let (device, old) = devices::attached(spec, &self.disk)?;
        if old.is_same(&self.volume) {
            return Ok(None);
        }
        if devices::volume_of(spec, self.volume.id).is_some() {
            let message = format!("the instance has volume {} already", self.volume.id);
            let e = Error::new(Kind::Exists, "DISK_EXISTS", message);
            return Err(e.with("instance_id", spec.id));
        }
        self.alike(old)?;
        let wanted = BlockDevice {
            source: BlockSource::Volume(Box::new(self.volume.clone())),
            ..device.clone()
        };
        devices::free(host, &wanted, spec)?;
        let connected = host.connected(self.instance, &wanted).await;
        let new = connected.map_err(|e| e.in_phase(Phase::ConnectVolumes))?;
        devices::unshared(host, &new).await?;
        let (mut record, before) = devices::pinned(host, &standing.record).await?;
        let old_domain = devices::domain(host, &record, &before).await?;
        let from = disk(&old_domain, &self.disk)?;
        self.sized(host, &from, &new).await?;
        for device in &mut record.spec.block_devices {
            if device.id == self.disk {
                *device = new.clone();
            }
        }
        let words = ("block_devices".to_owned(), "new_volume");
        let plan = devices::planned(host, &record, words).await?;
        let domain = devices::domain(host, &record, &plan).await?;
        let to = disk(&domain, &self.disk)?;
        Ok(Some(Prepared {
            record,
            domain,
            from,
            to,
        }))
    }

    /// What a disk is to its guest cannot change while that runs.
    fn alike(&self, old: &Volume) -> Result<()> {
        let new = &self.volume;
        let fields = [
            ("new_volume.read_only", old.read_only || new.read_only),
            ("new_volume.multi_attach", old.shared || new.shared),
            ("new_volume.discard", old.discard != new.discard),
            ("new_volume.qos", old.qos != new.qos),
        ];
        let why = match fields.into_iter().find(|(_, unlike)| *unlike) {
            None => return Ok(()),
            Some((field @ ("new_volume.discard" | "new_volume.qos"), _)) => {
                (field, "must be that of the old volume while the guest runs")
            }
            Some((field, _)) => (field, "must be false of both volumes"),
        };
        Err(devices::not_while_on(why.0, why.1))
    }

    /// QEMU mirrors onto a disk of the same size only.
    async fn sized(&self, host: &Host, from: &Disk, new: &BlockDevice) -> Result<()> {
        let old = host.hypervisor.disk_size(self.instance, &from.target);
        let old = old.await?;
        let seen = new.volume().and_then(|volume| volume.seen.as_ref());
        let size = seen.map_or(Bytes(0), |seen| seen.size);
        if size == old {
            return Ok(());
        }
        let why = format!(
            "has {} bytes, the old one {}: both must be alike",
            size.0, old.0
        );
        Err(devices::not_while_on("new_volume", &why))
    }
}

fn disk(domain: &Domain, id: &DiskId) -> Result<Disk> {
    match devices::disk(domain, id.as_str())? {
        Device::Disk(disk) => Ok(*disk),
        Device::Interface(_) | Device::Memory(_) => Err(Error::internal("a disk is a disk")),
    }
}

#[async_trait]
impl Action for SwapVolume {
    const VERB: Verb = Verb::SwapVolume;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        let _held = host.volumes.hold(&self.volume, instance)?;
        task.report()
            .begin(Phase::ConnectVolumes, "looking at the volume");
        let prepared = self.prepared(&host, &standing).await?;
        task.report().end(Phase::ConnectVolumes);
        let Some(Prepared {
            record,
            domain,
            from,
            to,
        }) = prepared
        else {
            return Ok(());
        };
        devices::known(&host, instance, (&from, &to), "disk_id").await?;
        if let Some(secret) = KeepSecret::of(instance, &self.volume) {
            task.run(secret).await?;
        }
        task.run(MirrorDisk {
            instance,
            to: to.clone(),
            bandwidth: self.bandwidth,
        })
        .await?;
        let pivot = PivotDisk {
            instance,
            from,
            to,
            record: record.clone(),
        };
        task.run(pivot).await?;
        task.run(RedefineGuest::new(&host, domain)).await?;
        task.keep(record);
        Ok(())
    }

    async fn tidy(&self, host: &Host) {
        host.drop_secrets(self.instance).await;
    }
}
