//! InstanceRecord and what is seen of its guest → Instance.

use computedriver::v1;

use super::out::{power_state, timestamp};
use crate::{
    hypervisor::{GuestInfo, LiveGuest},
    model::{
        Bytes, DiskBus, DiskFormat, Flavor, InstanceRecord, InstanceSpec, MachineType, NicModel,
        OperationId, OsType, PowerState, Subnet, VideoModel, Vif, VifKind, Wanted,
    },
    plan::{DiskPlan, DiskRole, Plan},
};

/// What is seen of an instance besides its record.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) guest: GuestInfo,
    pub(crate) live: LiveGuest,
    pub(crate) holder: Option<OperationId>,
    /// What it was made of; none while the hypervisor cannot be asked.
    pub(crate) plan: Option<Plan>,
    /// What is seen of each of the plan's disks.
    pub(crate) looks: Vec<Look>,
}

/// What is seen of a disk on the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Whether its file or device can be reached.
    pub(crate) reachable: bool,
    /// Bytes that it takes on the host, when the host can tell.
    pub(crate) allocated: Option<Bytes>,
}

pub(crate) fn instance(record: &InstanceRecord, seen: Seen) -> v1::Instance {
    let spec = &record.spec;
    let plans = seen
        .plan
        .iter()
        .flat_map(|plan| &plan.disks)
        .zip(seen.looks);
    let consoles = seen.live.vnc_port.map(|port| v1::ConsoleEndpoint {
        kind: v1::ConsoleKind::Vnc.into(),
        host: "127.0.0.1".to_owned(),
        port: port.into(),
    });
    let on = matches!(seen.guest.state, PowerState::Running | PowerState::Paused);
    v1::Instance {
        instance_id: spec.id.to_string(),
        power_state: power_state(seen.guest.state).into(),
        hostname: spec.hostname.clone(),
        display_name: spec.display_name.clone(),
        metadata: spec.metadata.clone().into_iter().collect(),
        flavor: Some(flavor(&spec.flavor)),
        image: Some(image(spec)),
        disks: plans.map(|(plan, look)| disk(record, plan, look)).collect(),
        interfaces: spec
            .vifs
            .iter()
            .map(|vif| interface(vif, &seen.live, seen.guest.state))
            .collect(),
        root_device_name: seen
            .plan
            .as_ref()
            .and_then(|plan| plan.disks.first())
            .map(|disk| disk.target.clone())
            .unwrap_or_default(),
        config_drive: spec.config_drive,
        created_time: Some(timestamp(record.created)),
        started_time: record.launched.filter(|_| on).map(timestamp),
        operation_id: seen.holder.map(|id| id.to_string()).unwrap_or_default(),
        should_run: matches!(record.wanted, Wanted::Running | Wanted::Paused),
        rescued: record.rescue.is_some(),
        rescue_end_time: record.rescue.as_ref().and_then(|r| r.until).map(timestamp),
        consoles: consoles.into_iter().collect(),
    }
}

fn flavor(flavor: &Flavor) -> v1::Flavor {
    let size = |size: Option<Bytes>, shift: u32| size.map_or(0, |size| size.0 >> shift);
    v1::Flavor {
        name: flavor.name.clone(),
        vcpus: flavor.vcpus,
        memory_mib: flavor.memory.0 >> 20,
        root_gib: size(flavor.root, 30),
        ephemeral_gib: size(flavor.ephemeral, 30),
        swap_mib: size(flavor.swap, 20),
        extra_specs: flavor.extra_specs.clone().into_iter().collect(),
        max_vcpus: flavor.max_vcpus.unwrap_or_default(),
        max_memory_mib: size(flavor.max_memory, 20),
    }
}

fn bus(bus: DiskBus) -> v1::DiskBus {
    match bus {
        DiskBus::Virtio => v1::DiskBus::Virtio,
        DiskBus::Scsi => v1::DiskBus::Scsi,
        DiskBus::Sata => v1::DiskBus::Sata,
        DiskBus::Ide => v1::DiskBus::Ide,
    }
}

pub(crate) fn format(format: DiskFormat) -> v1::DiskFormat {
    match format {
        DiskFormat::Raw => v1::DiskFormat::Raw,
        DiskFormat::Qcow2 => v1::DiskFormat::Qcow2,
        DiskFormat::Vmdk => v1::DiskFormat::Vmdk,
        DiskFormat::Vdi => v1::DiskFormat::Vdi,
        DiskFormat::Vhdx => v1::DiskFormat::Vhdx,
        DiskFormat::Vpc => v1::DiskFormat::Vhd,
        DiskFormat::Iso => v1::DiskFormat::Iso,
    }
}

fn image(spec: &InstanceSpec) -> v1::Image {
    let hash = |sha256: Option<[u8; 32]>| sha256.map(hex::encode).unwrap_or_default();
    let kernel = |file: &crate::model::ImageFile| v1::KernelImage {
        image_id: file.id.clone(),
        location: file.location.clone(),
        sha256: hash(file.sha256),
    };
    let direct = spec.kernel.as_ref();
    let bytes = spec.image.as_ref().map(|source| v1::Image {
        image_id: source.file.id.clone(),
        location: source.file.location.clone(),
        sha256: hash(source.file.sha256),
        format: format(source.format).into(),
        ..v1::Image::default()
    });
    v1::Image {
        properties: Some(properties(spec)),
        kernel: direct.map(|direct| kernel(&direct.kernel)),
        ramdisk: direct
            .and_then(|direct| direct.ramdisk.as_ref())
            .map(kernel),
        kernel_command_line: direct
            .map(|direct| direct.command_line.clone())
            .unwrap_or_default(),
        ..bytes.unwrap_or_default()
    }
}

fn properties(spec: &InstanceSpec) -> v1::ImageProperties {
    let asked = &spec.properties;
    let machine = asked.machine.map(|machine| match machine {
        MachineType::Q35 => "q35".to_owned(),
        MachineType::Pc => "pc".to_owned(),
    });
    let video = match asked.video {
        VideoModel::Virtio => v1::VideoModel::Virtio,
        VideoModel::Vga => v1::VideoModel::Vga,
        VideoModel::None => v1::VideoModel::None,
    };
    let os = match asked.os {
        OsType::Linux => v1::OsType::Linux,
        OsType::Windows => v1::OsType::Windows,
    };
    v1::ImageProperties {
        hw_disk_bus: asked.disk_bus.map(|asked| bus(asked).into()),
        hw_cdrom_bus: asked.cdrom_bus.map(|asked| bus(asked).into()),
        hw_machine_type: machine,
        hw_video_model: Some(video.into()),
        hw_qemu_guest_agent: Some(asked.guest_agent),
        os_require_quiesce: Some(asked.require_quiesce),
        os_type: Some(os.into()),
        os_distro: asked.os_distro.clone(),
        os_admin_user: asked.admin_user.clone(),
        min_disk_gib: Some(asked.min_disk.0 >> 30),
        min_memory_mib: Some(asked.min_memory.0 >> 20),
        ..v1::ImageProperties::default()
    }
}

pub(crate) fn disk(record: &InstanceRecord, plan: &DiskPlan, look: Look) -> v1::Disk {
    let Look {
        reachable,
        allocated,
    } = look;
    let volume = plan.volume.as_ref();
    let kind = match plan.role {
        DiskRole::Root => v1::DiskKind::Root,
        DiskRole::Ephemeral => v1::DiskKind::Ephemeral,
        DiskRole::Swap => v1::DiskKind::Swap,
        DiskRole::Blank => v1::DiskKind::Blank,
        DiskRole::Volume => v1::DiskKind::Volume,
        DiskRole::ConfigDrive => v1::DiskKind::ConfigDrive,
        DiskRole::Rescue => v1::DiskKind::Rescue,
    };
    let drive = plan.role == DiskRole::ConfigDrive;
    let size = match plan.role {
        DiskRole::Root => record.root.or(plan.size),
        DiskRole::ConfigDrive => allocated,
        _ => plan.size,
    };
    v1::Disk {
        disk_id: plan.id.to_string(),
        device_name: plan.target.clone(),
        bus: bus(plan.bus).into(),
        cdrom: drive,
        boot_index: plan.boot_index,
        size_bytes: size.map_or(0, |size| size.0),
        allocated_bytes: allocated.map(|bytes| bytes.0),
        kind: kind.into(),
        volume_id: volume.map_or_else(String::new, |volume| volume.id.to_string()),
        reachable,
        read_only: drive || volume.is_some_and(|volume| volume.read_only),
        tags: Vec::new(),
    }
}

pub(crate) fn interface(vif: &Vif, live: &LiveGuest, state: PowerState) -> v1::Interface {
    let mac = vif.mac.to_string();
    let (kind, connected_to) = match &vif.kind {
        VifKind::Bridge { bridge } => (v1::VifType::Bridge, bridge.clone()),
        VifKind::User => (v1::VifType::User, String::new()),
        VifKind::Unbound => (v1::VifType::Unbound, String::new()),
    };
    let model = match vif.model {
        NicModel::Virtio => v1::VifModel::Virtio,
        NicModel::E1000 => v1::VifModel::E1000,
        NicModel::E1000e => v1::VifModel::E1000e,
        NicModel::Rtl8139 => v1::VifModel::Rtl8139,
    };
    let device = live.interfaces.iter().find(|(known, _)| *known == mac);
    let up =
        matches!(state, PowerState::Running | PowerState::Paused) && vif.kind != VifKind::Unbound;
    v1::Interface {
        interface_id: vif.id.to_string(),
        mac_address: mac,
        host_device: device.map(|(_, device)| device.clone()).unwrap_or_default(),
        r#type: kind.into(),
        connected_to,
        model: model.into(),
        mtu: vif.mtu.unwrap_or(0),
        link_up: up,
        fixed_ips: vif.subnets.iter().map(fixed_ip).collect(),
        security_group_ids: Vec::new(),
        tags: Vec::new(),
    }
}

fn fixed_ip(subnet: &Subnet) -> v1::FixedIp {
    let assignment = match (subnet.address, subnet.ipv6) {
        (Some(_), _) => v1::IpAssignment::Static,
        (None, true) => v1::IpAssignment::Slaac,
        (None, false) => v1::IpAssignment::Dhcp,
    };
    let routes = subnet.routes.iter().map(|route| v1::Route {
        destination: route.destination.to_string(),
        gateway: route.gateway.to_string(),
    });
    v1::FixedIp {
        address: subnet
            .address
            .map(|address| address.ip.to_string())
            .unwrap_or_default(),
        prefix_length: subnet.address.map_or(0, |address| address.prefix.into()),
        gateway: subnet.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
        dns_servers: subnet.dns.iter().map(ToString::to_string).collect(),
        routes: routes.collect(),
        assignment: Some(assignment.into()),
    }
}
