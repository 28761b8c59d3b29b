//! What the XML says, against golden files; that libvirt takes it; what is read back.
//!
//! `UPDATE_GOLDEN=1` writes the golden files anew.

use std::{path::Path, time::SystemTime};

use pretty_assertions::assert_eq;

use super::{
    Backing, Bandwidth, Cache, Clock, Cpu, CpuMode, CpuTune, Disk, DiskDevice, DiskSource, Domain,
    Format, Graphics, Interface, InterfaceSource, IoTune, Kernel, LiveInterface, Machine, Metadata,
    Rate, ReadError, Rng, Room, Timers, Topology, Watchdog, WatchdogAction, WatchdogModel, read,
};
use crate::model::{
    Architecture, Bytes, DiskBus, InstanceId, NicModel, TapName, VideoModel, VirtType,
};

pub(crate) mod libvirt;

const MIB: u64 = 1 << 20;

impl Domain {
    /// The smallest guest there is, for tests that need any: no disk, no network.
    pub(crate) fn example(id: InstanceId, virt: VirtType) -> Self {
        Self {
            id,
            title: None,
            metadata: Metadata {
                version: "0.1.0".to_owned(),
                name: "example".to_owned(),
                created: SystemTime::UNIX_EPOCH,
                flavor: "tiny".to_owned(),
                vcpus: 1,
                memory: Bytes(16 * MIB),
                image: Some("none".to_owned()),
            },
            machine: Machine {
                virt,
                architecture: Some(Architecture::X86_64),
                board: None,
                emulator: None,
                memory: Bytes(16 * MIB),
                vcpus: 1,
                room: Room::default(),
                cpu: None,
                cpu_tune: CpuTune::default(),
                boot_menu: false,
                clock: Clock::Utc,
                timers: Timers::Emulated,
                tb_cache: None,
                pcie_ports: 0,
                graphics: None,
                video: VideoModel::None,
                rng: None,
                watchdog: None,
                balloon_period: None,
                agent_channel: false,
            },
            kernel: None,
            disks: Vec::new(),
            interfaces: Vec::new(),
            console_log: None,
        }
    }
}

fn id() -> InstanceId {
    "7f3c1a52-0b1e-4c59-9d55-0d6b8f1f2a10".parse().unwrap()
}

fn disk(file: &str, target: &str, bus: DiskBus) -> Disk {
    Disk {
        id: format!("of.{target}").parse().unwrap(),
        source: DiskSource::File(Path::new("/var/lib/computelet/instances/7f3c").join(file)),
        format: Format::Qcow2,
        backing: None,
        device: DiskDevice::Disk,
        read_only: false,
        shared: false,
        bus,
        target: target.to_owned(),
        unit: None,
        cache: Cache::None,
        discard: true,
        serial: Some(target.to_owned()),
        boot_order: None,
        tune: IoTune::default(),
    }
}

fn nic(tail: u8, source: InterfaceSource) -> Interface {
    Interface {
        id: format!("eth{tail}").parse().unwrap(),
        source,
        mac: format!("52:54:00:00:00:{tail:02x}").parse().unwrap(),
        model: NicModel::Virtio,
        mtu: None,
        bandwidth: Bandwidth::default(),
    }
}

fn bridged() -> InterfaceSource {
    InterfaceSource::Bridge {
        bridge: "br0".to_owned(),
        tap: TapName::of(id(), &"eth0".parse().unwrap()),
    }
}

fn full_machine(bare: &Machine) -> Machine {
    Machine {
        board: Some("pc-q35-10.0".to_owned()),
        emulator: Some("/usr/bin/qemu-system-x86_64".to_owned()),
        memory: Bytes(512 * MIB),
        vcpus: 4,
        cpu: Some(Cpu {
            mode: CpuMode::HostModel,
            topology: Some(Topology {
                sockets: 1,
                cores: 2,
                threads: 2,
            }),
        }),
        cpu_tune: CpuTune {
            shares: Some(2048),
            period: Some(100_000),
            quota: Some(50_000),
        },
        boot_menu: true,
        timers: Timers::Kvm,
        pcie_ports: 12,
        graphics: Some(Graphics::Vnc),
        video: VideoModel::Virtio,
        rng: Some(Rng {
            bytes: Some(Bytes(1024)),
            period: Some(1000),
        }),
        watchdog: Some(Watchdog {
            model: WatchdogModel::Itco,
            action: WatchdogAction::Reset,
        }),
        balloon_period: Some(10),
        agent_channel: true,
        ..bare.clone()
    }
}

/// A guest under KVM with everything that a q35 board can carry here.
fn full() -> Domain {
    let mut domain = Domain::example(id(), VirtType::Kvm);
    domain.title = Some("web 1".to_owned());
    domain.machine = full_machine(&domain.machine);
    let mut root = disk("disk", "vda", DiskBus::Virtio);
    root.boot_order = Some(1);
    root.backing = Some(Backing {
        path: "/var/lib/computelet/images/1234-qcow2.raw".into(),
        format: Format::Raw,
        own: false,
        backing: None,
    });
    root.tune = IoTune {
        total_bytes: Some(10 << 20),
        read_iops: Some(100),
        write_iops: Some(50),
        ..IoTune::default()
    };
    let mut data = disk("disk.data", "sda", DiskBus::Scsi);
    data.unit = Some(0);
    data.backing = Some(Backing {
        path: "/var/lib/computelet/images/5678-qcow2.qcow2".into(),
        format: Format::Qcow2,
        own: false,
        backing: Some(Box::new(Backing {
            path: "/srv/volumes/volume-5678".into(),
            format: Format::Raw,
            own: true,
            backing: None,
        })),
    });
    let mut config = disk("disk.config", "sdb", DiskBus::Scsi);
    config.device = DiskDevice::Cdrom;
    config.format = Format::Raw;
    config.unit = Some(1);
    config.discard = false;
    domain.disks = vec![root, data, config];
    let mut eth0 = nic(1, bridged());
    eth0.mtu = Some(9000);
    eth0.bandwidth.inbound = Some(Rate {
        average: 1000,
        peak: Some(2000),
        burst: Some(64),
    });
    eth0.bandwidth.outbound = Some(Rate {
        average: 500,
        peak: None,
        burst: None,
    });
    domain.interfaces = vec![eth0, nic(2, InterfaceSource::User)];
    domain.console_log = Some("/var/lib/computelet/instances/7f3c/console.log".into());
    domain
}

/// A translated guest on the old board, loaded by QEMU itself, whose words try to break out of the XML.
fn hostile() -> Domain {
    let mut domain = Domain::example(id(), VirtType::Qemu);
    domain.title = Some("</title><devices> \"&'".to_owned());
    domain.metadata.name = "<script>&\u{7}".to_owned();
    domain.metadata.flavor = "'\"><\n\t&amp;".to_owned();
    domain.machine.board = Some("pc-i440fx-10.0".to_owned());
    domain.machine.cpu = Some(Cpu {
        mode: CpuMode::Custom("qemu64".to_owned()),
        topology: None,
    });
    domain.machine.tb_cache = Some(Bytes(64 * MIB));
    domain.machine.video = VideoModel::Vga;
    domain.kernel = Some(Kernel {
        kernel: "/images/vm<linuz".into(),
        ramdisk: Some("/images/initrd".into()),
        command_line: "console=ttyS0 a=\"b&c\" </cmdline>".to_owned(),
    });
    let mut cd = disk("disk.config", "hda", DiskBus::Ide);
    cd.device = DiskDevice::Cdrom;
    cd.format = Format::Raw;
    cd.cache = Cache::Writeback;
    cd.discard = false;
    domain.disks = vec![cd];
    domain.machine.watchdog = Some(Watchdog {
        model: WatchdogModel::I6300esb,
        action: WatchdogAction::Pause,
    });
    domain.interfaces = vec![
        nic(1, InterfaceSource::User),
        nic(2, InterfaceSource::Unbound),
    ];
    domain.interfaces[0].model = NicModel::E1000;
    domain
}

/// What Windows under KVM wants.
fn windows() -> Domain {
    let mut domain = Domain::example(id(), VirtType::Kvm);
    domain.machine.board = Some("pc-q35-10.0".to_owned());
    domain.machine.clock = Clock::LocalTime;
    domain.machine.timers = Timers::HyperV;
    domain
}

/// A guest that may be given processors and memory while it runs.
fn growing() -> Domain {
    let mut domain = Domain::example(id(), VirtType::Qemu);
    domain.machine.memory = Bytes(256 * MIB);
    domain.machine.cpu = Some(Cpu {
        mode: CpuMode::Maximum,
        topology: None,
    });
    domain.machine.room = Room {
        vcpus: Some(4),
        memory: Some(Bytes(1024 * MIB)),
    };
    domain
}

/// Every golden file and the domain that it shows.
fn golden() -> [(&'static str, Domain); 5] {
    [
        ("bare", Domain::example(id(), VirtType::Test)),
        ("kvm_q35_full", full()),
        ("kvm_q35_windows", windows()),
        ("qemu_pc_hostile_words", hostile()),
        ("qemu_room_to_grow", growing()),
    ]
}

#[test]
fn the_xml_is_that_of_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, domain) in golden() {
        let file = folder.join(name).with_extension("xml");
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, domain.to_xml()).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap();
        assert_eq!(domain.to_xml(), expected, "{name}: UPDATE_GOLDEN=1?");
    }
}

#[test]
fn what_is_written_is_known_as_ours() {
    for (name, domain) in golden() {
        assert_eq!(
            read(&domain.to_xml()).unwrap().instance,
            Some(id()),
            "{name}"
        );
    }
}

#[test]
fn a_clone_that_carries_our_mark_is_not_ours() {
    let ours = Domain::example(id(), VirtType::Test).to_xml();
    let other = InstanceId::random().to_string();
    let clone = ours.replace(
        &format!("<uuid>{}</uuid>", id()),
        &format!("<uuid>{other}</uuid>"),
    );
    assert_eq!(read(&clone).unwrap().instance, None);
    let renamed = ours.replace("<name>computelet-", "<name>copy-of-");
    assert_eq!(read(&renamed).unwrap().instance, None);
    let unmarked = ours.replace(super::METADATA_URI, "urn:other");
    assert_eq!(read(&unmarked).unwrap().instance, None);
}

#[test]
fn a_live_definition_tells_what_libvirt_chose() {
    let live = read(include_str!("tests/live.xml")).unwrap();
    assert_eq!(live.instance, Some(id()));
    assert_eq!(live.vnc_port, Some(5901));
    assert_eq!(live.serial_pty.as_deref(), Some("/dev/pts/4"));
    let interface = |mac: &str, target: Option<&str>| LiveInterface {
        mac: mac.parse().unwrap(),
        target: target.map(str::to_owned),
    };
    assert_eq!(
        live.interfaces,
        [
            interface("52:54:00:00:00:01", Some("cl0123456789ab")),
            interface("52:54:00:00:00:02", None),
        ]
    );
}

#[test]
fn what_is_not_a_domain_is_refused() {
    assert!(matches!(read(""), Err(ReadError::NotDomain)));
    assert!(matches!(read("<network/>"), Err(ReadError::NotDomain)));
    assert!(matches!(
        read("<domain><a></b>"),
        Err(ReadError::Xml { .. })
    ));
}
