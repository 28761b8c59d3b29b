//! The volumes that an instance begins with are looked at, and kept from others meanwhile.

use crate::{
    action::devices,
    error::{Error, Result},
    model::{InstanceSpec, Phase},
    plan::Plan,
    task::Task,
    volume::Held,
};

/// What was seen of all volumes, and the hold on them.
pub(super) struct Connected {
    /// The plan with what was seen.
    pub(super) plan: Plan,
    /// The spec with what was seen.
    pub(super) spec: InstanceSpec,
    held: Vec<Held>,
}

/// Looks at every volume of the spec.
pub(super) async fn connect(task: &Task, spec: &InstanceSpec, plan: &Plan) -> Result<Connected> {
    let mut connected = Connected {
        plan: plan.clone(),
        spec: spec.without_secrets(),
        held: Vec::new(),
    };
    let mut volumes = spec.block_devices.iter().filter(|d| d.volume().is_some());
    if volumes.next().is_none() {
        return Ok(connected);
    }
    let report = task.report();
    report.begin(Phase::ConnectVolumes, "looking at the volumes");
    look(task, &mut connected)
        .await
        .map_err(|e| e.in_phase(Phase::ConnectVolumes))?;
    report.end(Phase::ConnectVolumes);
    Ok(connected)
}

async fn look(task: &Task, connected: &mut Connected) -> Result<()> {
    let host = task.host();
    let bare = connected.spec.clone();
    for device in &mut connected.spec.block_devices {
        let Some(volume) = device.volume() else {
            continue;
        };
        connected.held.push(host.volumes.hold(volume, bare.id)?);
        devices::free(host, device, &bare)?;
        *device = host.volumes.connected(device).await.map_err(Error::from)?;
        let mut disks = connected.plan.disks.iter_mut();
        if let Some(disk) = disks.find(|disk| disk.id == device.id) {
            disk.volume = device.volume().cloned();
            disk.size = disk
                .volume
                .as_ref()
                .and_then(|v| Some(v.seen.as_ref()?.size));
        }
    }
    Ok(())
}
