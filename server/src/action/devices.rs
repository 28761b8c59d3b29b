//! What every action that adds or takes a device does alike.
//!
//! The definition changes first and the running guest last: a definition can always be put back, a guest lets go of a
//! device when it pleases. A guest that must let go of one is asked first for the same reason: when it does not, nothing
//! has changed.

use super::{layers, standing::Standing};
use crate::{
    domain::{Device, Disk, DiskSource, Domain},
    error::{Error, Kind, Result, Violation},
    host::Host,
    model::{
        BlockDevice, DiskId, InstanceId, InstanceRecord, InstanceSpec, PowerState, Volume, VolumeId,
    },
    plan::{self, Plan, PlanError},
    step::{domain_of, plan_of},
    volume::VolumeError,
};

/// Why nothing is asked of a disk that the hypervisor takes for another.
const UNKNOWN: &str =
    "is not what the hypervisor takes it for, since a crash: power the guest off and on";

/// Whether a guest in that state has devices beside those of its definition.
pub(super) fn is_on(power: PowerState) -> bool {
    matches!(power, PowerState::Running | PowerState::Paused)
}

/// The same instance with every disk held where it is, and its plan.
pub(super) async fn pinned(host: &Host, record: &InstanceRecord) -> Result<(InstanceRecord, Plan)> {
    let plan = plan_of(host, record).await?;
    let pinned = InstanceRecord {
        spec: InstanceSpec {
            pins: plan.pins(),
            ..record.spec.clone()
        },
        ..record.clone()
    };
    Ok((pinned, plan))
}

/// The plan of an instance as it is to be; what is wrong with the new device is told by the field of the request.
pub(super) async fn planned(
    host: &Host,
    record: &InstanceRecord,
    (in_spec, in_request): (String, &str),
) -> Result<Plan> {
    let capabilities = host.hypervisor.capabilities().await?;
    let renamed = |fault: Violation| Violation {
        field: fault.field.replacen(&in_spec, in_request, 1),
        ..fault
    };
    let plan = plan::build(&record.spec, &capabilities, &host.plan);
    Ok(plan.map_err(|e| match e {
        PlanError::Refused {
            instance,
            violations,
        } => PlanError::Refused {
            instance,
            violations: violations.into_iter().map(renamed).collect(),
        },
        other => other,
    })?)
}

/// The domain of an instance whose interfaces are plugged already.
pub(super) async fn domain(host: &Host, record: &InstanceRecord, plan: &Plan) -> Result<Domain> {
    let vifs = plan.vifs.iter().map(|vif| &vif.vif);
    let plugged = host.vifs.plugged(record.spec.id, vifs).await?;
    domain_of(host, record, plan, &plugged).await
}

/// The device of that id in a domain.
pub(super) fn disk(domain: &Domain, id: &str) -> Result<Device> {
    let disk = domain.disks.iter().find(|disk| disk.id.as_str() == id);
    let disk = disk.cloned().map(|disk| Device::Disk(Box::new(disk)));
    disk.ok_or_else(|| Error::internal("the disk is not in the domain"))
}

/// The interface of that id in a domain.
pub(super) fn interface(domain: &Domain, id: &str) -> Result<Device> {
    let nic = domain.interfaces.iter().find(|nic| nic.id.as_str() == id);
    let nic = nic.cloned().map(|nic| Device::Interface(Box::new(nic)));
    nic.ok_or_else(|| Error::internal("the interface is not in the domain"))
}

/// Refuses a volume that another instance has, unless both share it.
///
/// # Errors
/// `DISK_EXISTS`, with the other's id.
pub(super) fn free(host: &Host, device: &BlockDevice, record: &InstanceSpec) -> Result<()> {
    let Some(volume) = device.volume() else {
        return Ok(());
    };
    for other in host.store.instances() {
        let same = volume_of(&other.spec, volume.id).and_then(BlockDevice::volume);
        if other.spec.id != record.id && same.is_some_and(|theirs| !theirs.shared || !volume.shared)
        {
            return Err(VolumeError::InUse {
                volume: volume.id,
                instance: other.spec.id,
            }
            .into());
        }
    }
    Ok(())
}

/// Refuses a volume of whose files another has one, as the base of a snapshot, or had one when it was detached.
///
/// # Errors
/// `DISK_EXISTS`, with whose it is; `VOLUME_UNUSABLE`.
pub(super) async fn unshared(host: &Host, connected: &BlockDevice) -> Result<()> {
    let Some(volume) = connected.volume() else {
        return Ok(());
    };
    let files = volume.chain();
    let files: Vec<_> = files.iter().map(|layer| &*layer.path).collect();
    layers::unused(host, volume.id, &files)?;
    match volume.read_only {
        true => Ok(()),
        false => layers::unburdened(host, volume.id, &files).await,
    }
}

/// The device that a volume is to an instance.
pub(super) fn volume_of(spec: &InstanceSpec, volume: VolumeId) -> Option<&BlockDevice> {
    let mut devices = spec.block_devices.iter();
    devices.find(|device| device.volume().is_some_and(|own| own.id == volume))
}

/// The volume that is a disk of the instance.
///
/// # Errors
/// `VOLUME_NOT_FOUND` when it has no such disk, or that is none.
pub(super) fn attached<'a>(
    spec: &'a InstanceSpec,
    disk: &DiskId,
) -> Result<(&'a BlockDevice, &'a Volume)> {
    let device = spec.block_devices.iter().find(|device| device.id == *disk);
    let volume = device.and_then(|device| Some((device, device.volume()?)));
    volume.ok_or_else(|| {
        let message = format!("the instance has no volume as disk {disk}");
        let e = Error::new(Kind::NotFound, "VOLUME_NOT_FOUND", message);
        e.with("instance_id", spec.id).with("disk_id", disk)
    })
}

/// What cannot be done to an instance whose root disk is a volume; `why` goes on after the volume's id.
pub(super) fn root_volume(spec: &InstanceSpec, why: &str) -> Error {
    let volume = spec.root_volume().map(|volume| volume.id.to_string());
    let volume = volume.unwrap_or_default();
    let message = format!(
        "the root disk of instance {}, volume {volume}, {why}",
        spec.id
    );
    let e = Error::new(Kind::Precondition, "NOT_SUPPORTED", message);
    e.with("instance_id", spec.id).with("volume_id", volume)
}

/// What is wrong with a field, seen only now that the instance is known.
pub(super) fn invalid(field: &str, why: String) -> Error {
    let message = format!("{field} {why}");
    let violation = Violation {
        field: field.to_owned(),
        description: why,
    };
    Error::new(Kind::Invalid, "INVALID_REQUEST", message).detailed(crate::error::Details {
        violations: vec![violation],
        ..Default::default()
    })
}

/// Whether the hypervisor knows what the guest writes to, as it was or as it is to be: after a crash in the moment of a
/// change it may not, until the guest is started anew, and whatever it did to the disk then would be done to another.
///
/// # Errors
/// `NOT_SUPPORTED` when it does not.
pub(super) async fn known(
    host: &Host,
    id: InstanceId,
    (from, to): (&Disk, &Disk),
    field: &str,
) -> Result<()> {
    let hypervisor = &host.hypervisor;
    if !is_local(from) || hypervisor.reads(id, from).await? || hypervisor.reads(id, to).await? {
        return Ok(());
    }
    Err(not_while_on(field, UNKNOWN))
}

/// The same of every volume of a guest, for what the hypervisor does to all of it; of one that is off there is nothing to
/// know.
///
/// # Errors
/// `NOT_SUPPORTED`, with the disk's id.
pub(super) async fn all_known(host: &Host, standing: &Standing) -> Result<()> {
    let (record, id) = (&standing.record, standing.record.spec.id);
    let mut volumes = record
        .spec
        .block_devices
        .iter()
        .filter_map(BlockDevice::volume);
    if !is_on(standing.power) || volumes.all(Volume::is_remote) {
        return Ok(());
    }
    let plan = plan_of(host, record).await?;
    let disks = plan.disks.iter();
    for disk in disks.filter_map(|disk| plan::volume_disk(id, disk)) {
        if is_local(&disk) && !host.hypervisor.reads(id, &disk).await? {
            let message = format!("disk {} {UNKNOWN}", disk.id);
            let e = Error::new(Kind::Precondition, "NOT_SUPPORTED", message);
            return Err(e.with("instance_id", id).with("disk_id", disk.id));
        }
    }
    Ok(())
}

/// Of what is on another host nobody here can tell who writes to it.
fn is_local(disk: &Disk) -> bool {
    matches!(disk.source, DiskSource::File(_) | DiskSource::Block(_))
}

/// What this guest, or this hypervisor, cannot be given while it runs.
pub(super) fn not_while_on(field: &str, why: &str) -> Error {
    let message = format!("{field} {why}");
    let violation = Violation {
        field: field.to_owned(),
        description: why.to_owned(),
    };
    Error::new(Kind::Precondition, "NOT_SUPPORTED", message).detailed(crate::error::Details {
        violations: vec![violation],
        ..Default::default()
    })
}
