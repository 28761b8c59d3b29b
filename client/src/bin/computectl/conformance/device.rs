//! DeviceService: disks and interfaces, listed, attached and detached.

use computedriver_client::v1::{self, detach_volume_request::Disk};
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["DeviceService/ListDisks", "InstanceService/GetInstance"],
        "its disks are those of its full view",
        disks
    ),
    check!(
        [
            "DeviceService/ListInterfaces",
            "InstanceService/GetInstance"
        ],
        "its interfaces are those of its full view",
        interfaces
    ),
    check!(
        ["DeviceService/DetachVolume"],
        "a volume that is not attached is detached",
        unattached_volume
    ),
    check!(
        ["DeviceService/DetachInterface"],
        "an interface that is not attached is detached",
        unattached_interface
    ),
    check!(
        ["DeviceService/AttachVolume", "DeviceService/ListDisks"],
        "a volume that is not there is not attached",
        absent_volume
    ),
    check!(
        [
            "DeviceService/AttachInterface",
            "DeviceService/DetachInterface",
            "InstanceService/PowerOff"
        ],
        "an interface is attached and detached, each said twice",
        interface
    ),
];

async fn listed_disks(bench: &Bench) -> Result<Vec<v1::Disk>, Fault> {
    let request = v1::ListDisksRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    Ok(bench
        .client
        .devices()
        .list_disks(request)
        .await?
        .into_inner()
        .disks)
}

async fn disks(bench: &Bench) -> Verdict {
    let (listed, view) = (listed_disks(bench).await?, bench.instance().await?.disks);
    let ids = |disks: &[v1::Disk]| {
        disks
            .iter()
            .map(|disk| disk.disk_id.clone())
            .collect::<Vec<_>>()
    };
    let (listed, view) = (ids(&listed), ids(&view));
    hold!(
        !listed.is_empty() && listed == view,
        "{listed:?}, not {view:?}"
    );
    Ok(())
}

async fn listed_interfaces(bench: &Bench) -> Result<Vec<String>, Fault> {
    let request = v1::ListInterfacesRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    let page = bench
        .client
        .devices()
        .list_interfaces(request)
        .await?
        .into_inner();
    let ids = page.interfaces.into_iter().map(|told| told.interface_id);
    Ok(ids.collect())
}

async fn interfaces(bench: &Bench) -> Verdict {
    let view = bench.instance().await?.interfaces.into_iter();
    let view: Vec<_> = view.map(|told| told.interface_id).collect();
    let listed = listed_interfaces(bench).await?;
    hold!(listed == view, "{listed:?}, not {view:?}");
    Ok(())
}

async fn unattached_volume(bench: &Bench) -> Verdict {
    let request = v1::DetachVolumeRequest {
        instance_id: bench.id()?,
        disk: Some(Disk::DiskId(format!("absent-{}", nobody()))),
        ..Default::default()
    };
    let told = bench
        .client
        .devices()
        .detach_volume(request)
        .await?
        .into_inner();
    hold!(told.absent, "it is told to have been there");
    Ok(())
}

async fn detach(bench: &Bench, interface_id: &str) -> Result<bool, Fault> {
    let request = v1::DetachInterfaceRequest {
        instance_id: bench.id()?,
        interface_id: interface_id.to_owned(),
        ..Default::default()
    };
    let told = bench.client.devices().detach_interface(request).await?;
    Ok(told.into_inner().absent)
}

async fn unattached_interface(bench: &Bench) -> Verdict {
    hold!(
        detach(bench, &nobody()).await?,
        "it is told to have been there"
    );
    Ok(())
}

async fn absent_volume(bench: &Bench) -> Verdict {
    let before = listed_disks(bench).await?.len();
    let local = v1::LocalTarget {
        path: format!("/nowhere/{}", nobody()),
    };
    let volume = v1::VolumeConnection {
        volume_id: nobody(),
        target: Some(v1::volume_connection::Target::Local(local)),
        ..Default::default()
    };
    let device = v1::BlockDevice {
        disk_id: "conformance".to_owned(),
        source: Some(v1::block_device::Source::Volume(volume)),
        ..Default::default()
    };
    let request = v1::AttachVolumeRequest {
        instance_id: bench.id()?,
        device: Some(device),
        ..Default::default()
    };
    let outcome = bench.client.devices().attach_volume(request).await;
    refused(outcome, (Code::FailedPrecondition, "VOLUME_UNUSABLE"))?;
    let after = listed_disks(bench).await?.len();
    hold!(before == after, "it had {before} disks, and has {after}");
    Ok(())
}

/// With the guest off, as one that has not booted does not let go of anything.
async fn interface(bench: &Bench) -> Verdict {
    let kinds = &bench.capabilities.vif_types;
    if !kinds.contains(&v1::VifType::User.into()) {
        return Err(Fault::Skipped(
            "interfaces of type USER are not served".to_owned(),
        ));
    }
    let request = v1::PowerOffRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    bench.client.follow(request).finish(|_| ()).await?;
    let outcome = attached(bench).await;
    let request = v1::PowerOnRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    bench.client.instances().power_on(request).await?;
    outcome
}

async fn attached(bench: &Bench) -> Verdict {
    let vif = v1::Vif {
        interface_id: nobody(),
        mac_address: "52:54:00:c0:4f:01".to_owned(),
        r#type: Some(v1::vif::Type::User(v1::UserVif::default())),
        ..Default::default()
    };
    let id = vif.interface_id.clone();
    for _ in 0..2 {
        let request = v1::AttachInterfaceRequest {
            instance_id: bench.id()?,
            vif: Some(vif.clone()),
            ..Default::default()
        };
        bench.client.devices().attach_interface(request).await?;
        let listed = listed_interfaces(bench).await?;
        let count = listed.iter().filter(|told| **told == id).count();
        hold!(count == 1, "it is listed {count} times");
    }
    for absent in [false, true] {
        hold!(
            detach(bench, &id).await? == absent,
            "absent is not {absent}"
        );
        hold!(
            !listed_interfaces(bench).await?.contains(&id),
            "it is listed still"
        );
    }
    Ok(())
}
