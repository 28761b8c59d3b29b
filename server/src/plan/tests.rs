//! What is decided, table by table; that every plan becomes a domain that libvirt takes.

use std::{collections::BTreeMap, time::SystemTime};

use pretty_assertions::assert_eq;

use super::{CpuChoice, DiskRole, Placed, Plan, PlanError, PlanSettings, assemble, build};
use crate::{
    domain::{
        Clock, CpuMode, Domain, InterfaceSource, Timers, WatchdogModel,
        tests::libvirt::assert_accepted,
    },
    hypervisor::Capabilities,
    image::Base,
    model::{
        Architecture, BlockDevice, BlockSource, Bytes, DirectKernel, DiskBus, DiskFormat, Flavor,
        ImageFile, ImageProperties, ImageSource, InstanceId, InstanceSpec, Limits, MachineType,
        NicModel, OsType, Qos, Vif, VifKind, VirtType, Volume, VolumeTarget,
    },
    vif::Plugged,
};

mod disks;
mod extra_specs;

const GIB: u64 = 1 << 30;

pub(super) fn spec() -> InstanceSpec {
    InstanceSpec {
        id: "7f3c1a52-0b1e-4c59-9d55-0d6b8f1f2a10".parse().unwrap(),
        hostname: "web-1".to_owned(),
        display_name: "web 1".to_owned(),
        metadata: [].into(),
        flavor: Flavor {
            name: "m1.small".to_owned(),
            vcpus: 2,
            memory: Bytes(GIB),
            root: Some(Bytes(10 * GIB)),
            ephemeral: None,
            swap: None,
            extra_specs: [].into(),
            max_vcpus: None,
            max_memory: None,
        },
        image: Some(ImageSource {
            file: image_file(),
            format: DiskFormat::Qcow2,
        }),
        properties: ImageProperties::default(),
        kernel: None,
        injected_files: Vec::new(),
        user_data: Vec::new(),
        public_keys: Vec::new(),
        admin_password: None,
        vifs: Vec::new(),
        root_device_name: None,
        block_devices: Vec::new(),
        pins: std::collections::BTreeMap::new(),
        limits: Limits::default(),
        config_drive: false,
        wait_for: None,
    }
}

fn image_file() -> ImageFile {
    ImageFile {
        id: "debian-13".to_owned(),
        location: "file:///images/debian-13.qcow2".to_owned(),
        sha256: None,
    }
}

fn vif(i: u8, kind: VifKind, model: NicModel) -> Vif {
    Vif {
        id: format!("eth{i}").parse().unwrap(),
        mac: format!("52:54:00:00:00:{i:02x}").parse().unwrap(),
        kind,
        model,
        mtu: None,
        subnets: Vec::new(),
        network_id: None,
        network_label: String::new(),
    }
}

pub(super) fn blank(id: &str, name: Option<&str>, bus: Option<DiskBus>) -> BlockDevice {
    BlockDevice {
        id: id.parse().unwrap(),
        device_name: name.map(str::to_owned),
        bus,
        boot_index: None,
        source: BlockSource::Blank { size: Bytes(GIB) },
    }
}

/// A volume in a file.
pub(super) fn volume(id: &str) -> BlockDevice {
    let volume = Volume {
        id: "1c0dd3e8-0b1e-4c59-9d55-0d6b8f1f2a10".parse().unwrap(),
        target: VolumeTarget::Local {
            path: "/srv/volume".into(),
        },
        read_only: false,
        shared: false,
        serial: Some(id.to_owned()),
        format: DiskFormat::Raw,
        discard: false,
        qos: Qos::default(),
        seen: None,
    };
    BlockDevice {
        source: BlockSource::Volume(Box::new(volume)),
        ..blank(id, None, None)
    }
}

pub(super) fn capabilities(virt_type: VirtType) -> Capabilities {
    Capabilities {
        driver: "QEMU".to_owned(),
        uri: "qemu:///system".to_owned(),
        libvirt_version: "11.3.0".to_owned(),
        hypervisor_version: "10.0.2".to_owned(),
        emulator: Some("/usr/bin/qemu-system-x86_64".to_owned()),
        virt_type,
        architecture: Architecture::X86_64,
        machines: vec![
            ("q35".to_owned(), "pc-q35-10.0".to_owned()),
            ("pc".to_owned(), "pc-i440fx-10.0".to_owned()),
        ],
        cpus: 8,
        memory: 16 * GIB,
    }
}

fn planned(spec: &InstanceSpec, virt: VirtType) -> Plan {
    let plan = build(spec, &capabilities(virt), &PlanSettings::default());
    plan.unwrap_or_else(|e| panic!("{e}"))
}

/// Every fault of the spec: field and description.
pub(super) fn faults(spec: &InstanceSpec) -> Vec<(String, String)> {
    let settings = PlanSettings::default();
    match build(spec, &capabilities(VirtType::Qemu), &settings) {
        Err(PlanError::Refused { violations, .. }) => {
            let pairs = violations.into_iter().map(|v| (v.field, v.description));
            pairs.collect()
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn base() -> Base {
    Base {
        path: "/var/lib/computelet/images/1234-qcow2.raw".into(),
        format: DiskFormat::Raw,
        virtual_size: Bytes(1 << 20),
    }
}

fn assembled(plan: &Plan) -> Domain {
    let placed = Placed {
        folder: format!("/var/lib/computelet/instances/{}", plan.instance).into(),
        backing: BTreeMap::from([("root".parse().unwrap(), base())]),
        kernel: Some("/var/lib/computelet/images/vmlinuz".into()),
        ramdisk: Some("/var/lib/computelet/images/initrd".into()),
        created: SystemTime::UNIX_EPOCH,
    };
    let plugged = plan.vifs.iter().map(|plan| Plugged {
        interface: plan.vif.id.clone(),
        source: match &plan.vif.kind {
            VifKind::Bridge { bridge } => InterfaceSource::Bridge {
                bridge: bridge.clone(),
                tap: crate::model::TapName::of(spec().id, &plan.vif.id),
            },
            VifKind::User => InterfaceSource::User,
            VifKind::Unbound => InterfaceSource::Unbound,
        },
        mtu: plan.vif.mtu,
    });
    assemble(plan, &placed, &plugged.collect::<Vec<_>>()).unwrap()
}

/// A spec that asks for one of everything.
fn rich(board: MachineType) -> InstanceSpec {
    let mut spec = spec();
    spec.properties.machine = Some(board);
    spec.properties.cdrom_bus = Some(DiskBus::Scsi);
    spec.flavor.ephemeral = Some(Bytes(2 * GIB));
    spec.flavor.swap = Some(Bytes(GIB));
    spec.flavor.extra_specs = [
        ("hw:boot_menu", "true"),
        ("hw:cpu_cores", "2"),
        ("hw:watchdog_action", "reset"),
        ("hw_rng:rate_bytes", "2048"),
        ("quota:cpu_shares", "512"),
        ("quota:disk_total_bytes_sec", "10485760"),
        ("quota:vif_inbound_average", "1000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let bridge = || VifKind::Bridge {
        bridge: "br0".to_owned(),
    };
    spec.vifs = vec![
        vif(0, bridge(), NicModel::Virtio),
        vif(1, bridge(), NicModel::E1000),
    ];
    spec.block_devices = vec![
        blank("data", None, None),
        blank("more", Some("sda"), Some(DiskBus::Scsi)),
    ];
    spec.config_drive = true;
    spec
}

#[test]
fn a_plain_guest_is_a_virtio_guest_on_the_canonical_q35() {
    let plan = planned(&spec(), VirtType::Kvm);
    assert_eq!(plan.machine.board.as_deref(), Some("pc-q35-10.0"));
    assert_eq!(plan.machine.cpu.unwrap().mode, CpuMode::HostModel);
    assert_eq!(plan.machine.timers, Timers::Kvm);
    assert_eq!(plan.machine.tb_cache, None);
    assert!(plan.machine.rng.is_some());
    let [root] = &plan.disks[..] else {
        panic!("{:?}", plan.disks);
    };
    assert_eq!((root.role, root.target.as_str()), (DiskRole::Root, "vda"));
    assert_eq!(root.file_name, "disk");
    assert_eq!(root.boot_order, Some(1));
}

#[test]
fn a_translated_guest_sees_all_that_the_translator_can_do() {
    let machine = planned(&spec(), VirtType::Qemu).machine;
    assert_eq!(machine.cpu.unwrap().mode, CpuMode::Maximum);
    assert_eq!(machine.timers, Timers::Emulated);
    assert_eq!(machine.tb_cache, Some(Bytes(64 << 20)));
}

#[test]
fn windows_sees_local_time_and_hyper_v() {
    let mut spec = spec();
    spec.properties.os = OsType::Windows;
    let kvm = planned(&spec, VirtType::Kvm).machine;
    assert_eq!((kvm.clock, kvm.timers), (Clock::LocalTime, Timers::HyperV));
    let tcg = planned(&spec, VirtType::Qemu).machine;
    assert_eq!(
        (tcg.clock, tcg.timers),
        (Clock::LocalTime, Timers::Emulated)
    );
}

#[test]
fn a_processor_that_the_hypervisor_cannot_give_is_the_hosts_fault() {
    let settings = PlanSettings {
        cpu: CpuChoice::HostPassthrough,
        ..PlanSettings::default()
    };
    let refused = build(&spec(), &capabilities(VirtType::Qemu), &settings);
    assert!(matches!(refused, Err(PlanError::Cpu { .. })), "{refused:?}");
    assert!(build(&spec(), &capabilities(VirtType::Kvm), &settings).is_ok());
}

#[test]
fn the_watchdog_is_the_boards_own() {
    for (board, model) in [
        (MachineType::Q35, WatchdogModel::Itco),
        (MachineType::Pc, WatchdogModel::I6300esb),
    ] {
        let machine = planned(&rich(board), VirtType::Qemu).machine;
        assert_eq!(machine.watchdog.unwrap().model, model);
        assert_eq!(machine.pcie_ports == 0, board == MachineType::Pc);
    }
}

#[test]
fn all_faults_come_in_one_answer() {
    let mut spec = spec();
    spec.display_name = "a\nb".to_owned();
    spec.flavor.vcpus = 256;
    spec.flavor.extra_specs = [("hw:numa_nodes".to_owned(), "2".to_owned())].into();
    spec.root_device_name = Some("sda".to_owned());
    spec.vifs = vec![Vif {
        mtu: Some(1400),
        ..vif(0, VifKind::User, NicModel::Virtio)
    }];
    let fields: Vec<_> = faults(&spec).into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [
            "flavor.extra_specs[\"hw:numa_nodes\"]",
            "display_name",
            "root_device_name",
            "vifs[0].mtu",
            "flavor.vcpus",
        ]
    );
}

#[test]
fn a_board_that_the_hypervisor_lacks_is_refused() {
    let mut capabilities = capabilities(VirtType::Qemu);
    capabilities.machines.retain(|(alias, _)| alias == "pc");
    let refused = build(&spec(), &capabilities, &PlanSettings::default()).unwrap_err();
    assert!(refused.to_string().contains("hw_machine_type"), "{refused}");
}

#[test]
fn a_plan_survives_the_store() {
    let mut spec = rich(MachineType::Q35);
    spec.kernel = Some(DirectKernel {
        kernel: image_file(),
        ramdisk: None,
        command_line: "console=ttyS0".to_owned(),
    });
    let plan = planned(&spec, VirtType::Qemu);
    let stored = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
}

#[test]
fn a_disk_rests_on_what_it_was_placed_on_and_no_other_does() {
    let plan = planned(&rich(MachineType::Q35), VirtType::Qemu);
    let domain = assembled(&plan);
    let resting = plan.disks.iter().zip(&domain.disks).map(|(plan, disk)| {
        let backing = disk.backing.as_ref().map(|backing| backing.path.clone());
        (plan.role, backing)
    });
    for (role, backing) in resting {
        let expected = (role == DiskRole::Root).then(|| base().path);
        assert_eq!(backing, expected, "{role:?}");
    }
}

#[test]
fn an_interface_that_was_not_plugged_makes_no_domain() {
    let plan = planned(&rich(MachineType::Q35), VirtType::Qemu);
    let placed = Placed {
        folder: "/".into(),
        backing: BTreeMap::new(),
        kernel: None,
        ramdisk: None,
        created: SystemTime::UNIX_EPOCH,
    };
    let refused = assemble(&plan, &placed, &[]);
    assert!(
        matches!(refused, Err(PlanError::NotPlugged { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn libvirt_takes_what_is_planned_as_it_is() {
    let mut direct = spec();
    direct.id = InstanceId::random();
    direct.vifs = vec![
        vif(0, VifKind::User, NicModel::E1000e),
        vif(1, VifKind::Unbound, NicModel::Rtl8139),
    ];
    direct.config_drive = true;
    direct.kernel = Some(DirectKernel {
        kernel: image_file(),
        ramdisk: Some(image_file()),
        command_line: "console=ttyS0".to_owned(),
    });
    let specs = [
        spec(),
        rich(MachineType::Q35),
        rich(MachineType::Pc),
        direct,
    ];
    for virt in [VirtType::Qemu, VirtType::Test] {
        // Without spare ports libvirt would add what was counted too low.
        let settings = PlanSettings {
            spare_ports: 0,
            ..PlanSettings::default()
        };
        let plan = |spec| build(spec, &capabilities(virt), &settings).unwrap();
        let domains = specs.iter().map(|spec| assembled(&plan(spec)));
        assert_accepted(&domains.collect::<Vec<_>>()).await;
    }
}
