//! Names, buses and files of disks.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{blank, capabilities, faults, planned, spec, volume};
use crate::{
    domain::{DiskDevice, Format},
    model::{BlockDevice, Bytes, DiskBus, InstanceSpec, MachineType, VirtType},
    plan::{PlanSettings, build, disks::local},
};

fn targets(spec: &InstanceSpec) -> Vec<String> {
    let plan = planned(spec, VirtType::Qemu);
    plan.disks.into_iter().map(|disk| disk.target).collect()
}

/// The one fault there is.
fn fault(spec: &InstanceSpec) -> String {
    let faults = faults(spec);
    let [(field, description)] = &faults[..] else {
        panic!("{faults:#?}");
    };
    format!("{field} {description}")
}

fn full() -> InstanceSpec {
    let mut spec = spec();
    spec.flavor.ephemeral = Some(Bytes(1 << 30));
    spec.flavor.swap = Some(Bytes(1 << 30));
    spec.block_devices = vec![blank("data", None, None)];
    spec.config_drive = true;
    spec
}

#[test]
fn disks_are_named_in_the_order_of_their_roles() {
    let plan = planned(&full(), VirtType::Qemu);
    let rows = plan.disks.iter().map(|disk| {
        let raw = disk.format == Format::Raw;
        (disk.file_name.as_str(), disk.target.as_str(), raw)
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            ("disk", "vda", false),
            ("disk.ephemeral0", "vdb", false),
            ("disk.swap", "vdc", true),
            ("disk.data", "vdd", false),
            ("disk.config", "sda", true),
        ]
    );
    let config = plan.disks.last().unwrap();
    assert_eq!(config.device, DiskDevice::Cdrom);
    assert_eq!(config.bus, DiskBus::Scsi);
}

#[test]
fn a_volume_that_is_the_root_disk_comes_first_and_the_others_are_tried_in_their_order() {
    let mut spec = full();
    spec.image = None;
    spec.flavor.root = None;
    let booted = |device: BlockDevice, index| BlockDevice {
        boot_index: Some(index),
        ..device
    };
    let last = booted(blank("last", None, None), u32::MAX);
    spec.block_devices
        .extend([last, booted(volume("vol"), 0), booted(volume("next"), 3)]);
    let plan = planned(&spec, VirtType::Qemu);
    let rows = plan.disks.iter().map(|disk| {
        let turns = (disk.boot_index, disk.boot_order);
        (disk.id.as_str(), disk.target.as_str(), turns)
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            ("vol", "vda", (Some(0), Some(1))),
            ("ephemeral0", "vdb", (None, None)),
            ("swap", "vdc", (None, None)),
            ("data", "vdd", (None, None)),
            ("last", "vde", (Some(u32::MAX), Some(3))),
            ("next", "vdf", (Some(3), Some(2))),
            ("config", "sda", (None, None)),
        ]
    );
    assert!(plan.disks[0].is_root() && !plan.disks[4].is_root());
    assert_eq!(plan.image, None);
    let files = local(&spec, Bytes(0)).map(|(name, _)| name);
    let files: Vec<_> = files.collect();
    assert!(!files.contains(&"disk".to_owned()), "{files:?}");
}

#[test]
fn a_root_volume_has_the_name_that_either_field_says_and_its_own_bus() {
    let mut spec = spec();
    spec.image = None;
    spec.flavor.root = None;
    let root = BlockDevice {
        boot_index: Some(0),
        bus: Some(DiskBus::Scsi),
        ..volume("vol")
    };
    spec.block_devices = vec![blank("data", None, None), root.clone()];
    assert_eq!(targets(&spec), ["sda", "vda"]);
    spec.block_devices[1].bus = None;
    spec.block_devices[1].device_name = Some("vdb".to_owned());
    assert_eq!(targets(&spec), ["vdb", "vda"]);
    spec.block_devices[1].device_name = None;
    spec.root_device_name = Some("vdb".to_owned());
    assert_eq!(targets(&spec), ["vdb", "vda"]);
    spec.block_devices[1].id = "root".parse().unwrap();
    assert_eq!(
        fault(&spec),
        "block_devices[1].disk_id root is the id of another disk"
    );
}

#[test]
fn buses_have_their_own_names_and_the_config_drive_comes_last() {
    let mut spec = full();
    spec.properties.disk_bus = Some(DiskBus::Scsi);
    spec.properties.cdrom_bus = Some(DiskBus::Scsi);
    assert_eq!(targets(&spec), ["sda", "sdb", "sdc", "sdd", "sde"]);
    spec.properties.machine = Some(MachineType::Pc);
    spec.properties.cdrom_bus = None;
    assert_eq!(targets(&spec), ["sda", "sdb", "sdc", "sdd", "hda"]);
}

#[test]
fn wanted_names_come_true() {
    let mut spec = spec();
    spec.root_device_name = Some("/dev/vdb".to_owned());
    spec.block_devices = vec![
        blank("a", None, None),
        blank("b", Some("vdc"), None),
        blank("c", Some("sda"), Some(DiskBus::Scsi)),
    ];
    assert_eq!(targets(&spec), ["vdb", "vda", "vdc", "sda"]);
}

#[test]
fn wanted_names_that_would_not_come_true_are_refused() {
    let with = |name: &str, bus| {
        let mut spec = spec();
        spec.block_devices = vec![blank("data", Some(name), bus)];
        fault(&spec)
    };
    let field = "block_devices[0].device_name";
    assert!(with("vda", None).starts_with(&format!("{field} cannot be vda: another")));
    assert!(with("vdc", None).contains("the guest would call it vdb"));
    for bad in ["", "vd", "sdb", "vdB", "vd1", "vdaaa", "../vdb", "/dev/"] {
        let fault = with(bad, None);
        assert!(fault.starts_with(&format!("{field} must be vd")), "{fault}");
    }
    let mut root = spec();
    root.root_device_name = Some("vdb".to_owned());
    assert!(fault(&root).starts_with("root_device_name cannot be vdb"));
}

#[test]
fn ids_of_our_own_disks_are_not_for_others() {
    for id in ["root", "ephemeral0", "swap", "config"] {
        let mut spec = spec();
        spec.block_devices = vec![blank("data", None, None), blank(id, None, None)];
        assert!(fault(&spec).starts_with("block_devices[1].disk_id"));
    }
}

#[test]
fn buses_that_the_board_lacks_are_refused() {
    let mut spec = full();
    spec.properties.disk_bus = Some(DiskBus::Ide);
    assert!(fault(&spec).starts_with("image.properties.hw_disk_bus cannot be IDE on q35"));
    spec.properties.machine = Some(MachineType::Pc);
    assert!(fault(&spec).contains("more than four disks"));
    spec.properties.disk_bus = None;
    spec.properties.cdrom_bus = Some(DiskBus::Virtio);
    assert!(fault(&spec).starts_with("image.properties.hw_cdrom_bus cannot be virtio"));
}

#[test]
fn serials_are_the_ids_and_never_the_same() {
    let mut spec = spec();
    let long = "0123456789012345678901234567890123456789";
    spec.block_devices = vec![
        blank(&format!("{long}a"), None, None),
        blank(&format!("{long}b"), None, None),
        blank(&format!("{long}c"), None, Some(DiskBus::Scsi)),
    ];
    let plan = planned(&spec, VirtType::Qemu);
    let serials = plan.disks.iter().map(|disk| disk.serial.as_deref());
    assert_eq!(
        serials.collect::<Vec<_>>(),
        [Some("root"), Some(&long[..20]), None, Some(&long[..36])]
    );
}

fn bus() -> impl Strategy<Value = Option<DiskBus>> {
    prop::option::of(prop::sample::select(vec![
        DiskBus::Virtio,
        DiskBus::Scsi,
        DiskBus::Sata,
        DiskBus::Ide,
    ]))
}

fn name() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.3, "(vd|sd|hd)[a-h]")
}

prop_compose! {
    fn asked()(
        devices in prop::collection::vec((name(), bus()), 0..8),
        (root, root_bus) in (name(), bus()),
        cdrom_bus in bus(),
        pc in any::<bool>(),
        (swap, config_drive) in any::<(bool, bool)>(),
    ) -> InstanceSpec {
        let mut spec = spec();
        spec.root_device_name = root;
        spec.properties.disk_bus = root_bus;
        spec.properties.cdrom_bus = cdrom_bus;
        spec.properties.machine = pc.then_some(MachineType::Pc);
        spec.flavor.swap = swap.then_some(Bytes(1 << 30));
        spec.config_drive = config_drive;
        let devices = devices.iter().enumerate();
        spec.block_devices = devices
            .map(|(i, (name, bus))| blank(&format!("d{i}"), name.as_deref(), *bus))
            .collect();
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_two_disks_share_a_name_and_every_name_fits_its_bus(spec in asked()) {
        let settings = PlanSettings::default();
        let Ok(plan) = build(&spec, &capabilities(VirtType::Qemu), &settings) else {
            return Ok(());
        };
        let names: BTreeSet<_> = plan.disks.iter().map(|disk| &disk.target).collect();
        prop_assert_eq!(names.len(), plan.disks.len());
        let files: BTreeSet<_> = plan.disks.iter().map(|disk| &disk.file_name).collect();
        prop_assert_eq!(files.len(), plan.disks.len());
        for disk in &plan.disks {
            let prefix = match disk.bus {
                DiskBus::Virtio => "vd",
                DiskBus::Scsi | DiskBus::Sata => "sd",
                DiskBus::Ide => "hd",
            };
            prop_assert!(disk.target.starts_with(prefix), "{}", disk.target);
            // A disk that is not the first follows another of its bus.
            let last = disk.target.as_bytes()[2];
            if last > b'a' {
                let before = format!("{prefix}{}", char::from(last - 1));
                prop_assert!(names.contains(&before), "{before} is free");
            }
        }
        for device in &spec.block_devices {
            let disk = plan.disks.iter().find(|disk| disk.id == device.id).unwrap();
            prop_assert!(device.device_name.as_ref().is_none_or(|name| *name == disk.target));
        }
    }
}
