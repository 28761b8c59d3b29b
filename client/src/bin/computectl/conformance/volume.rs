//! A volume as root disk: it is booted from, stays with its instance, and is left when that goes.

use computedriver_client::v1::{self, detach_volume_request::Disk};
use tonic::Code;

use super::bench::Bench;
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[check!(
    [
        "InstanceService/Spawn",
        "InstanceService/Destroy",
        "DeviceService/DetachVolume"
    ],
    "a volume is booted from, not given away, and left",
    booted
)];

/// A request that boots from the volume, and the volume's id.
fn request(bench: &Bench) -> Result<(v1::SpawnRequest, String), Fault> {
    let device = bench.boot_volume.clone();
    let device = device.ok_or_else(|| Fault::Skipped("it needs --boot-volume".to_owned()))?;
    let volume = device.disk_id.clone();
    let mut request = bench.request();
    request.image = request.image.map(|image| v1::Image {
        image_id: String::new(),
        location: String::new(),
        sha256: String::new(),
        format: 0,
        ..image
    });
    if let Some(flavor) = &mut request.flavor {
        flavor.root_gib = 0;
    }
    request.block_devices.push(device);
    Ok((request, volume))
}

async fn booted(bench: &Bench) -> Verdict {
    let (wanted, volume) = request(bench)?;
    if bench.template.image.is_some() {
        let mut both = request(bench)?.0;
        both.image.clone_from(&bench.template.image);
        let outcome = bench.client.spawn(both, |_| ()).await;
        let error = refused(outcome, (Code::InvalidArgument, "INVALID_REQUEST"))?;
        let faults = error.violations();
        let named = faults.iter().any(|fault| fault.field == "image.location");
        hold!(named, "an image beside it is not named: {faults:?}");
    }
    let instance = bench.spawn(wanted.clone()).await?;
    let root = instance.disks.first();
    let told = root.map(|disk| (disk.kind(), disk.boot_index, &disk.volume_id));
    hold!(
        told == Some((v1::DiskKind::Volume, Some(0), &volume)),
        "its first disk is {root:?}"
    );
    let detach = v1::DetachVolumeRequest {
        instance_id: instance.instance_id.clone(),
        disk: Some(Disk::DiskId(volume)),
        ..Default::default()
    };
    let outcome = bench.client.devices().detach_volume(detach).await;
    refused(outcome, (Code::FailedPrecondition, "NOT_SUPPORTED"))?;
    let other = request(bench)?.0;
    let outcome = bench.client.spawn(other.clone(), |_| ()).await;
    refused(outcome, (Code::AlreadyExists, "DISK_EXISTS"))?;
    bench.destroy(&instance.instance_id).await?;
    Ok(bench.client.validate_spawn(other).await?)
}
