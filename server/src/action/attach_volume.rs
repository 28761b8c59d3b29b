//! AttachVolume: an instance is given one more disk, in its definition and, when it runs, live. Or a disk that it has is
//! given another secret.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Action, devices, layers,
    standing::{Standing, admitted, present},
};
use crate::{
    domain::Domain,
    error::{Error, Kind, Result},
    host::Host,
    model::{BlockDevice, DiskBus, InstanceId, InstanceRecord, InstanceSpec, Phase, Verb, Volume},
    plan::Plan,
    step::{AttachDevice, KeepSecret, RedefineGuest, ReplaceSecret},
    task::Task,
    volume,
};

/// Gives an instance a volume.
#[derive(Clone, Debug)]
pub struct AttachVolume {
    /// Whose.
    pub instance: InstanceId,
    /// The disk; its source is a volume.
    pub device: BlockDevice,
}

/// An instance as it is to be.
struct Prepared {
    record: InstanceRecord,
    domain: Domain,
    on: bool,
}

impl AttachVolume {
    /// Checks all that can be checked without changing anything.
    ///
    /// # Errors
    /// Those that the change itself would have at its begin.
    pub async fn check(&self, host: &Arc<Host>) -> Result<()> {
        if self.is_so(host)? || self.rotated(host).await?.is_some() {
            return Ok(());
        }
        let standing = admitted(host, Self::VERB, self.instance).await?;
        self.prepared(host, &standing).await.map(drop)
    }

    /// None when the instance has it already.
    async fn prepared(&self, host: &Host, standing: &Standing) -> Result<Option<Prepared>> {
        let record = &standing.record;
        if self.is_there(&record.spec)? {
            return Ok(None);
        }
        devices::free(host, &self.device, &record.spec)?;
        let connected = host.connected(self.instance, &self.device).await;
        let device = connected.map_err(|e| e.in_phase(Phase::ConnectVolumes))?;
        devices::unshared(host, &device).await?;
        let (mut record, before) = devices::pinned(host, record).await?;
        let place = record.spec.block_devices.len();
        record.spec.block_devices.push(device);
        let words = (format!("block_devices[{place}]"), "device");
        let plan = devices::planned(host, &record, words).await?;
        let on = devices::is_on(standing.power);
        if on {
            self.pluggable(&before, &plan)?;
        }
        let domain = devices::domain(host, &record, &plan).await?;
        Ok(Some(Prepared { record, domain, on }))
    }

    /// Whether the instance has the disk as it is asked for.
    fn is_so(&self, host: &Host) -> Result<bool> {
        let record = present(host, self.instance)?;
        Ok(self.is_there(&record.spec).is_ok_and(|there| there))
    }

    /// The replacement of a secret, when the instance has the volume with another one. The storage takes the new one: that
    /// is looked at first.
    async fn rotated(&self, host: &Host) -> Result<Option<ReplaceSecret>> {
        let record = present(host, self.instance)?;
        let Some((known, own)) = self.there(&record.spec).and_then(|there| {
            let both = there.volume().zip(self.device.volume());
            both.filter(|(known, own)| self.is_placed_as(there) && known.is_same_but_secret(own))
        }) else {
            return Ok(None);
        };
        if known.is_same(own) {
            return Ok(None);
        }
        let looked = async {
            let found = host.connect(self.instance, own).await?;
            volume::same(known, &found)?;
            Ok::<_, Error>(found)
        };
        let found = looked
            .await
            .map_err(|e| e.in_phase(Phase::ConnectVolumes))?;
        let Some(KeepSecret { name, usage, value }) = KeepSecret::of(self.instance, own) else {
            return Ok(None);
        };
        // What a running guest has seen of it has not changed.
        let new = Volume {
            seen: known.seen.clone(),
            ..found
        };
        Ok(Some(ReplaceSecret {
            name,
            usage,
            mark: new
                .login()
                .map(|(login, _)| login.mark.clone())
                .unwrap_or_default(),
            before: host.hypervisor.kept_secret(name).await?,
            record: layers::with(&record, &new),
            value,
        }))
    }

    /// The disk or the volume of the same id that the instance has.
    fn there<'a>(&self, spec: &'a InstanceSpec) -> Option<&'a BlockDevice> {
        let own = &self.device;
        let same_volume = own.volume().and_then(|v| devices::volume_of(spec, v.id));
        let mut named = spec.block_devices.iter().filter(|other| other.id == own.id);
        named.next().or(same_volume)
    }

    /// Whether that is the same place in the guest. What it boots from was said when the instance was made.
    fn is_placed_as(&self, there: &BlockDevice) -> bool {
        let own = &self.device;
        (&there.id, &there.device_name, there.bus) == (&own.id, &own.device_name, own.bus)
            && own
                .boot_index
                .is_none_or(|_| own.boot_index == there.boot_index)
    }

    /// Whether the instance has it; another disk or volume of the same id is an error.
    fn is_there(&self, spec: &InstanceSpec) -> Result<bool> {
        let Some(there) = self.there(spec) else {
            return Ok(false);
        };
        let alike = match (there.volume(), self.device.volume()) {
            (Some(there), Some(own)) => there.is_same(own),
            _ => false,
        };
        if alike && self.is_placed_as(there) {
            return Ok(true);
        }
        let message = format!(
            "the instance has disk {} already, and it is another",
            there.id
        );
        let e = Error::new(Kind::Exists, "DISK_EXISTS", message);
        Err(e.with("instance_id", spec.id).with("disk_id", &there.id))
    }

    /// Whether a guest that runs can be given a disk on that bus.
    fn pluggable(&self, before: &Plan, plan: &Plan) -> Result<()> {
        let own = plan.disks.iter().find(|disk| disk.id == self.device.id);
        let bus = own.map_or(DiskBus::Virtio, |disk| disk.bus);
        let why = match bus {
            DiskBus::Virtio => return Ok(()),
            DiskBus::Scsi if before.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) => {
                return Ok(());
            }
            DiskBus::Scsi => "cannot be SCSI while the guest runs: it has no controller for it",
            DiskBus::Sata | DiskBus::Ide => "must be VIRTIO or SCSI while the guest runs",
        };
        Err(devices::not_while_on("device.bus", why))
    }
}

#[async_trait]
impl Action for AttachVolume {
    const VERB: Verb = Verb::AttachVolume;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        if self.is_so(&host)? {
            return Ok(());
        }
        // In any state of the guest, or it could not be brought out of that.
        if let Some(rotated) = self.rotated(&host).await? {
            let record = rotated.record.clone();
            task.run(rotated).await?;
            task.keep(record);
            return Ok(());
        }
        let standing = admitted(&host, Self::VERB, instance).await?;
        let held = self.device.volume().map(|v| host.volumes.hold(v, instance));
        let _held = held.transpose()?;
        task.report()
            .begin(Phase::ConnectVolumes, "looking at the volume");
        let prepared = self.prepared(&host, &standing).await?;
        task.report().end(Phase::ConnectVolumes);
        if let Some(Prepared { record, domain, on }) = prepared {
            let device = devices::disk(&domain, self.device.id.as_str())?;
            let secret = self.device.volume();
            if let Some(secret) = secret.and_then(|volume| KeepSecret::of(instance, volume)) {
                task.run(secret).await?;
            }
            task.run(RedefineGuest::new(&host, domain)).await?;
            if on {
                let attach = AttachDevice {
                    instance,
                    device,
                    record: Some(Box::new(record.clone())),
                };
                task.run(attach).await?;
            }
            task.keep(record);
        }
        Ok(())
    }
}
