//! A guest is given back what it had: its volumes, where they are now.

use std::path::PathBuf;

use super::{definition::plan_of, forward::define};
use crate::{
    error::Result,
    host::Host,
    hypervisor::StartMode,
    model::{BlockDevice, InstanceId, InstanceRecord, Phase, VolumeTarget},
    plan::Plan,
};

/// A disk by its name in the guest, and the block device that it is now.
pub(super) type Moved = (String, PathBuf);

/// The same instance with its volumes as they are found now.
///
/// # Errors
/// When one cannot be reached, or is not the disk that it was.
pub async fn found(host: &Host, record: &InstanceRecord) -> Result<InstanceRecord> {
    let mut record = record.clone();
    let found = host.found_again(record.spec.id, &record.spec.block_devices);
    record.spec.block_devices = found.await.map_err(|e| e.in_phase(Phase::ConnectVolumes))?;
    Ok(record)
}

/// Whether one of an instance's disks has another place than before.
pub fn has_moved(before: &InstanceRecord, now: &InstanceRecord) -> bool {
    let places = |record: &InstanceRecord| {
        let devices = record.spec.block_devices.iter();
        devices.map(place).collect::<Vec<_>>()
    };
    places(before) != places(now)
}

/// Where the block devices of this host are that an instance has, each by its name in the guest.
pub fn places(now: &InstanceRecord, plan: &Plan) -> Vec<Moved> {
    let placed = now.spec.block_devices.iter().filter_map(|device| {
        let disk = plan.disks.iter().find(|disk| disk.id == device.id)?;
        Some((disk.target.clone(), place(device)?))
    });
    placed.collect()
}

/// Where a block device of this host was found.
fn place(device: &BlockDevice) -> Option<PathBuf> {
    let volume = device.volume()?;
    let local = matches!(volume.target, VolumeTarget::Local { .. });
    let seen = volume.seen.as_ref().filter(|seen| seen.block && local)?;
    seen.path.clone()
}

/// Has the saved memory of a guest, if there is any, come back with disks where they are now. All of them, also those that
/// the record has at the same place: an earlier way back may have left the memory with another.
pub(super) async fn repoint(host: &Host, id: InstanceId, places: &[Moved]) -> Result<()> {
    match places.is_empty() {
        true => Ok(()),
        false => Ok(host.hypervisor.repoint(id, places).await?),
    }
}

/// Starts a guest that was on before a change which is taken back, also in another life of the host: with its volumes where
/// they are now, if they are what they were.
pub(super) async fn start(host: &Host, id: InstanceId, mode: StartMode) -> Result<()> {
    if let Some(before) = host.store.instance(id) {
        let now = found(host, &before).await?;
        repoint(host, id, &places(&now, &plan_of(host, &now).await?)).await?;
        if has_moved(&before, &now) {
            define(host, &now).await?;
            host.store.put_instance(now).await?;
        }
    }
    Ok(host.hypervisor.start(id, mode).await?)
}
