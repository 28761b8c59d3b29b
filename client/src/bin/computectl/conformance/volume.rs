//! A volume as root disk: it is booted from, stays with its instance, gets a file over it and loses that again, and is left
//! when its instance goes. And volumes that an instance does not have.

use computedriver_client::Error;
use computedriver_client::v1::{
    self, block_device::Source, detach_volume_request::Disk, volume_connection::Target,
};
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["DeviceService/ExtendVolume"],
        "what is not its volume does not grow",
        unknown_extended
    ),
    check!(
        ["DeviceService/SwapVolume"],
        "what is not its volume is not swapped",
        unknown_swapped
    ),
    check!(
        ["DeviceService/CreateVolumeSnapshot"],
        "what is not its volume gets no file over it, and all faults are told at once",
        unknown_snapshotted
    ),
    check!(
        ["DeviceService/DeleteVolumeSnapshot"],
        "of what is not its volume nothing is merged",
        unknown_merged
    ),
    check!(
        [
            "InstanceService/Spawn",
            "InstanceService/Destroy",
            "DeviceService/DetachVolume"
        ],
        "a volume is booted from, not given away, and left",
        booted
    ),
    check!(
        [
            "DeviceService/CreateVolumeSnapshot",
            "DeviceService/DeleteVolumeSnapshot",
            "InstanceService/Spawn"
        ],
        "a volume gets a file over it and is merged back, each said twice",
        snapshotted
    ),
];

const UNKNOWN: (Code, &str) = (Code::NotFound, "VOLUME_NOT_FOUND");

async fn unknown_extended(bench: &Bench) -> Verdict {
    let request = v1::ExtendVolumeRequest {
        instance_id: bench.id()?,
        disk_id: format!("absent-{}", nobody()),
        size_bytes: 1 << 30,
        ..Default::default()
    };
    let mut devices = bench.client.devices();
    refused(devices.extend_volume(request.clone()).await, UNKNOWN)?;
    let request = v1::ExtendVolumeRequest {
        size_bytes: 0,
        ..request
    };
    let outcome = devices.extend_volume(request).await;
    let error = refused(outcome, (Code::InvalidArgument, "INVALID_REQUEST"))?;
    names(&error, &["size_bytes"])
}

async fn unknown_swapped(bench: &Bench) -> Verdict {
    let local = v1::LocalTarget {
        path: format!("/nowhere/{}", nobody()),
    };
    let request = v1::SwapVolumeRequest {
        instance_id: bench.id()?,
        disk_id: format!("absent-{}", nobody()),
        new_volume: Some(v1::VolumeConnection {
            volume_id: nobody(),
            target: Some(Target::Local(local)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let outcome = bench.client.follow(request).finish(|_| ()).await;
    refused(outcome, UNKNOWN).map(drop)
}

async fn unknown_snapshotted(bench: &Bench) -> Verdict {
    let request = create(&bench.id()?, &nobody(), &nobody(), "file");
    let mut devices = bench.client.devices();
    let outcome = devices.create_volume_snapshot(request.clone()).await;
    refused(outcome, UNKNOWN)?;
    let request = v1::CreateVolumeSnapshotRequest {
        new_file: "../file".to_owned(),
        snapshot_id: "no UUID".to_owned(),
        ..request
    };
    let outcome = devices.create_volume_snapshot(request).await;
    let error = refused(outcome, (Code::InvalidArgument, "INVALID_REQUEST"))?;
    names(&error, &["new_file", "snapshot_id"])
}

async fn unknown_merged(bench: &Bench) -> Verdict {
    let request = delete(&bench.id()?, &nobody(), &nobody(), ("file", ""));
    let outcome = bench.client.follow(request).finish(|_| ()).await;
    refused(outcome, UNKNOWN).map(drop)
}

/// Whether an error names all these fields.
fn names(error: &Error, fields: &[&str]) -> Verdict {
    let told = error.violations();
    for field in fields {
        let named = told.iter().any(|fault| fault.field == *field);
        hold!(named, "{field} is not named: {told:?}");
    }
    Ok(())
}

fn create(
    instance: &str,
    volume: &str,
    snapshot: &str,
    file: &str,
) -> v1::CreateVolumeSnapshotRequest {
    v1::CreateVolumeSnapshotRequest {
        instance_id: instance.to_owned(),
        volume_id: volume.to_owned(),
        snapshot_id: snapshot.to_owned(),
        new_file: file.to_owned(),
        ..Default::default()
    }
}

fn delete(
    instance: &str,
    volume: &str,
    snapshot: &str,
    (file, into): (&str, &str),
) -> v1::DeleteVolumeSnapshotRequest {
    v1::DeleteVolumeSnapshotRequest {
        instance_id: instance.to_owned(),
        volume_id: volume.to_owned(),
        snapshot_id: snapshot.to_owned(),
        file_to_merge: file.to_owned(),
        merge_target_file: into.to_owned(),
        ..Default::default()
    }
}

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

/// The name of the file that a volume is in.
fn file_name(device: Option<&v1::BlockDevice>) -> Option<&str> {
    let Some(Source::Volume(volume)) = &device?.source else {
        return None;
    };
    let Some(Target::Local(local)) = &volume.target else {
        return None;
    };
    local.path.rsplit('/').next()
}

async fn snapshotted(bench: &Bench) -> Verdict {
    let layer = bench.boot_volume_layer.clone();
    let layer = layer.ok_or_else(|| Fault::Skipped("it needs --boot-volume-layer".to_owned()))?;
    let base = file_name(bench.boot_volume.as_ref());
    let base = base.ok_or_else(|| Fault::Skipped("the volume is in no file".to_owned()))?;
    let (wanted, volume) = request(bench)?;
    // It need not have booted.
    let instance = bench.spawn(v1::SpawnRequest {
        wait_for: None,
        ..wanted
    });
    let id = instance.await?.instance_id;
    let (snapshot, mut devices) = (nobody(), bench.client.devices());
    let made = create(&id, &volume, &snapshot, &layer);
    for _ in 0..2 {
        let told = devices.create_volume_snapshot(made.clone()).await?;
        hold!(!told.into_inner().quiesced, "nobody asked for a freeze");
        bench.is_in(&id, v1::PowerState::Running).await?;
    }
    let other = create(&id, &volume, &snapshot, "another");
    let outcome = devices.create_volume_snapshot(other).await;
    refused(outcome, (Code::AlreadyExists, "DISK_EXISTS"))?;
    for absent in [false, true] {
        let gone = delete(&id, &volume, &snapshot, (&layer, base));
        let told = bench.client.follow(gone).finish(|_| ()).await?;
        hold!(
            (told.snapshot_id == snapshot, told.absent) == (true, absent),
            "absent is not {absent}: {told:?}"
        );
        bench.is_in(&id, v1::PowerState::Running).await?;
    }
    bench.destroy(&id).await.map(drop)
}
