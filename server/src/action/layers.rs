//! What the snapshots of volumes do alike: volumes by their ids, files that nobody else has.

use std::path::Path;

use super::devices;
use crate::{
    domain::{Device, Disk, Domain},
    error::{Error, Kind, Result},
    host::Host,
    model::{BlockDevice, BlockSource, InstanceRecord, InstanceSpec, Volume, VolumeId},
    volume::VolumeError,
};

/// The volume of that id.
///
/// # Errors
/// `VOLUME_NOT_FOUND` when the instance does not have it.
pub(super) fn volume(spec: &InstanceSpec, id: VolumeId) -> Result<&Volume> {
    let volume = devices::volume_of(spec, id).and_then(BlockDevice::volume);
    volume.ok_or_else(|| {
        let message = format!("the instance has no volume {id}");
        let e = Error::new(Kind::NotFound, "VOLUME_NOT_FOUND", message);
        e.with("instance_id", spec.id).with("volume_id", id)
    })
}

/// The same instance with that volume in place of the one of its id.
pub(super) fn with(record: &InstanceRecord, volume: &Volume) -> InstanceRecord {
    let mut record = record.clone();
    for device in &mut record.spec.block_devices {
        if device.volume().is_some_and(|own| own.id == volume.id) {
            device.source = BlockSource::Volume(Box::new(volume.clone()));
        }
    }
    record
}

/// The disk that a volume is in the instance's domain.
///
/// # Errors
/// When it is not there: a bug of ours.
pub(super) fn disk(domain: &Domain, record: &InstanceRecord, volume: VolumeId) -> Result<Disk> {
    let missing = || Error::internal("the volume is not in the instance's record");
    let device = devices::volume_of(&record.spec, volume).ok_or_else(missing)?;
    match devices::disk(domain, device.id.as_str())? {
        Device::Disk(disk) => Ok(*disk),
        Device::Interface(_) | Device::Memory(_) => Err(Error::internal("a disk is a disk")),
    }
}

/// Refuses files that another volume of any instance has.
///
/// # Errors
/// `DISK_EXISTS`, with whose it is.
pub(super) fn unused(host: &Host, volume: VolumeId, files: &[&Path]) -> Result<()> {
    for record in host.store.instances() {
        let devices = record.spec.block_devices.iter();
        let mut others = devices.filter_map(BlockDevice::volume);
        let has = |other: &&Volume| {
            let chain = other.chain();
            other.id != volume && chain.iter().any(|layer| files.contains(&&*layer.path))
        };
        if others.any(|other| has(&other)) {
            let instance = record.spec.id;
            return Err(VolumeError::InUse { volume, instance }.into());
        }
    }
    Ok(())
}

/// Refuses files that one of a volume still rests on which was detached with its snapshots.
///
/// # Errors
/// `VOLUME_UNUSABLE`, with the name of the file above.
pub(super) async fn unburdened(host: &Host, volume: VolumeId, files: &[&Path]) -> Result<()> {
    for left in files.iter().flat_map(|file| host.store.left_over(file)) {
        if host.volumes.rests_on(&left.over, &left.under).await {
            let name = left.over.file_name().unwrap_or_default();
            return Err(VolumeError::Beneath {
                volume,
                of: left.volume,
                over: name.to_string_lossy().into_owned(),
            }
            .into());
        }
        host.store.forget_left(left.over).await?;
    }
    Ok(())
}
