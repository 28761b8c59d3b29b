//! The volumes that an instance begins with are looked at, and kept from others meanwhile.

use crate::{
    action::devices,
    error::{Error, Result},
    host::Host,
    model::{BlockDevice, InstanceSpec, Phase},
    plan::{self, Plan},
    step::KeepSecret,
    task::Task,
    volume::Held,
};

/// What was seen of all volumes.
pub(super) struct Connected {
    /// The plan with what was seen.
    pub(super) plan: Plan,
    /// The spec with what was seen, without its secrets.
    pub(super) spec: InstanceSpec,
}

/// Keeps every volume of the spec from others until what this answers with is dropped. Before the instance is written
/// down: of two that ask for the same volume, one gets it.
pub(super) fn hold(host: &Host, spec: &InstanceSpec) -> Result<Vec<Held>> {
    let volumes = spec.block_devices.iter().filter_map(BlockDevice::volume);
    let held = volumes.map(|volume| host.volumes.hold(volume, spec.id));
    let held = held.collect::<std::result::Result<_, _>>();
    held.map_err(|e| Error::from(e).in_phase(Phase::ConnectVolumes))
}

/// Looks at every volume of the spec, and tells so; then the hypervisor keeps their secrets.
pub(super) async fn connect(
    task: &mut Task,
    spec: &InstanceSpec,
    plan: &Plan,
) -> Result<Connected> {
    let report = task.report().clone();
    let some = spec.block_devices.iter().any(|d| d.volume().is_some());
    if some {
        report.begin(Phase::ConnectVolumes, "looking at the volumes");
    }
    let connected = look(task.host(), spec, plan).await?;
    if some {
        report.end(Phase::ConnectVolumes);
    }
    let volumes = spec.block_devices.iter().filter_map(BlockDevice::volume);
    for secret in volumes.filter_map(|volume| KeepSecret::of(spec.id, volume)) {
        task.run(secret).await?;
    }
    Ok(connected)
}

/// Looks at every volume of the spec; changes nothing.
pub(super) async fn look(host: &Host, spec: &InstanceSpec, plan: &Plan) -> Result<Connected> {
    let looked = all(host, spec, (spec.without_secrets(), plan.clone())).await;
    looked.map_err(|e| e.in_phase(Phase::ConnectVolumes))
}

async fn all(
    host: &Host,
    asked: &InstanceSpec,
    (mut spec, mut plan): (InstanceSpec, Plan),
) -> Result<Connected> {
    for (at, device) in asked.block_devices.iter().enumerate() {
        if device.volume().is_none() {
            continue;
        }
        devices::free(host, device, &spec)?;
        let device = host.connected(spec.id, device).await?;
        devices::unshared(host, &device).await?;
        if let Some(disk) = plan.disks.iter_mut().find(|disk| disk.id == device.id) {
            disk.volume = device.volume().cloned();
            disk.size = disk
                .volume
                .as_ref()
                .and_then(|v| Some(v.seen.as_ref()?.size));
        }
        spec.block_devices[at] = device;
    }
    // The size of a volume that is the root disk is known only now.
    plan::fits(&spec)?;
    Ok(Connected { plan, spec })
}
