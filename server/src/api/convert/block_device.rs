//! Disks that a caller asks for besides those of the flavor, and which of them are booted from.

use computedriver::v1;

use super::{fault::Faults, image::bus, spawn::size, volume::volume};
use crate::model::{BlockDevice, BlockSource, Bytes};

/// Whether a volume is to be the root disk; with what cannot be asked for beside it.
pub(super) fn root(faults: &mut Faults, asked: &v1::SpawnRequest) -> bool {
    use v1::block_device::Source;
    let devices = &asked.block_devices;
    let first = |device: &v1::BlockDevice| device.boot_index == Some(0);
    let Some(place) = devices.iter().position(first) else {
        return false;
    };
    let (root, at) = (&devices[place], format!("block_devices[{place}]"));
    if matches!(root.source, Some(Source::Blank(_))) {
        let why = "must not be 0: there is nothing on a new disk to boot from";
        faults.wrong(&format!("{at}.boot_index"), why);
    }
    if asked
        .flavor
        .as_ref()
        .is_some_and(|flavor| flavor.root_gib > 0)
    {
        let why = format!("must be 0: {at} is the root disk, and has a size of its own");
        faults.wrong("flavor.root_gib", why);
    }
    let bare = |name: &str| name.strip_prefix("/dev/").unwrap_or(name).to_owned();
    let (own, said) = (bare(&root.device_name), bare(&asked.root_device_name));
    if !own.is_empty() && !said.is_empty() && own != said {
        let why = format!("must be that of the same disk, {at}.device_name, or be left out");
        faults.wrong("root_device_name", why);
    }
    true
}

pub(super) fn device_name(faults: &mut Faults, field: &str, name: &str) -> Option<Option<String>> {
    let bare = name.strip_prefix("/dev/").unwrap_or(name);
    let plain = matches!(bare.len(), 3..=6) && bare.chars().all(|c| c.is_ascii_lowercase());
    match bare {
        "" => Some(None),
        _ if plain
            && ["vd", "sd", "hd"]
                .iter()
                .any(|prefix| bare.starts_with(prefix)) =>
        {
            Some(Some(bare.to_owned()))
        }
        _ => {
            faults.wrong(field, "must be a disk's name like vda, sdb or hdc");
            None
        }
    }
}

pub(super) fn block_devices(
    faults: &mut Faults,
    devices: Vec<v1::BlockDevice>,
) -> Option<Vec<BlockDevice>> {
    faults.at_most("block_devices", devices.len(), 64);
    let mut taken: Vec<Option<BlockDevice>> = Vec::new();
    for (i, device) in devices.into_iter().take(64).enumerate() {
        let device = block_device(faults, &format!("block_devices[{i}]"), device);
        let twice = device
            .as_ref()
            .is_some_and(|device| taken.iter().flatten().any(|other| other.id == device.id));
        if twice {
            faults.wrong(&format!("block_devices[{i}].disk_id"), "is used twice");
        }
        let turn = device.as_ref().and_then(|device| device.boot_index);
        let mut others = taken.iter().flatten();
        if turn.is_some() && others.any(|other| other.boot_index == turn) {
            faults.wrong(&format!("block_devices[{i}].boot_index"), "is used twice");
        }
        taken.push(device);
    }
    taken.into_iter().collect()
}

pub(crate) fn block_device(
    faults: &mut Faults,
    field: &str,
    device: v1::BlockDevice,
) -> Option<BlockDevice> {
    use v1::block_device::Source;
    let at = |name: &str| format!("{field}.{name}");
    let id = faults.take(&at("disk_id"), device.disk_id.parse());
    let asked_bus = device.bus.map(|_| device.bus());
    let bus = bus(faults, &at("bus"), asked_bus);
    let device_name = device_name(faults, &at("device_name"), &device.device_name);
    faults.refuse(&at("tags"), !device.tags.is_empty());
    let source = match device.source {
        Some(Source::Blank(blank)) => {
            faults.refuse(&at("blank.filesystem"), blank.filesystem.is_some());
            faults.refuse(&at("blank.label"), !blank.label.is_empty());
            if blank.size_gib == 0 {
                faults.wrong(&at("blank.size_gib"), "must be 1 to 65536");
            }
            let size = size(
                faults,
                &at("blank.size_gib"),
                (blank.size_gib, 65536),
                Bytes::from_gib,
            );
            size.flatten().map(|size| BlockSource::Blank { size })
        }
        Some(Source::Image(_)) => {
            faults.refuse(&at("image"), true);
            None
        }
        Some(Source::Volume(asked)) => {
            let volume = volume(faults, &at("volume"), asked);
            volume.map(Box::new).map(BlockSource::Volume)
        }
        None => {
            faults.wrong(&at("source"), "is required, as blank or volume");
            None
        }
    };
    Some(BlockDevice {
        id: id?,
        device_name: device_name?,
        bus: bus?,
        boot_index: device.boot_index,
        source: source?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::spawn;
    use computedriver::v1;

    /// A request that boots from a volume.
    fn booting() -> v1::SpawnRequest {
        let target = v1::volume_connection::Target::Local(v1::LocalTarget {
            path: "/srv/volume".to_owned(),
        });
        let volume = v1::VolumeConnection {
            volume_id: "1c0dd3e8-0b1e-4c59-9d55-0d6b8f1f2a10".to_owned(),
            target: Some(target),
            ..Default::default()
        };
        v1::SpawnRequest {
            instance_id: "7f3c1a52-0b1e-4c59-9d55-0d6b8f1f2a10".to_owned(),
            flavor: Some(v1::Flavor {
                vcpus: 1,
                memory_mib: 64,
                ..Default::default()
            }),
            block_devices: vec![v1::BlockDevice {
                disk_id: "boot".to_owned(),
                boot_index: Some(0),
                source: Some(v1::block_device::Source::Volume(volume)),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn image() -> v1::Image {
        v1::Image {
            image_id: "debian".to_owned(),
            location: "file:///debian.raw".to_owned(),
            format: v1::DiskFormat::Raw.into(),
            ..Default::default()
        }
    }

    /// The fields that are told when the request is changed like that.
    fn told(change: impl FnOnce(&mut v1::SpawnRequest)) -> Vec<String> {
        let mut asked = booting();
        change(&mut asked);
        let e = spawn(asked, true).expect_err("it is refused");
        assert_eq!(e.reason(), "INVALID_REQUEST", "{e}");
        let faults = e.details().violations.iter();
        faults.map(|fault| fault.field.clone()).collect()
    }

    #[test]
    fn a_volume_is_booted_from_with_what_is_said_of_its_hardware() {
        let mut asked = booting();
        asked.image = Some(v1::Image {
            properties: Some(v1::ImageProperties {
                hw_machine_type: Some("pc".to_owned()),
                img_config_drive_mandatory: Some(true),
                ..Default::default()
            }),
            kernel: Some(v1::KernelImage {
                image_id: "kernel".to_owned(),
                location: "file:///vmlinuz".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        });
        let spec = spawn(asked, false).unwrap().spec;
        assert!(spec.image.is_none() && spec.kernel.is_some() && spec.config_drive);
        assert_eq!(spec.properties.machine, Some(crate::model::MachineType::Pc));
        assert!(spec.root_volume().is_some());
        let bare = spawn(booting(), false).unwrap().spec;
        assert!(bare.root_volume().is_some());
    }

    #[test]
    fn what_does_not_go_with_a_root_volume_is_told_by_name() {
        let both = told(|asked| asked.image = Some(image()));
        assert_eq!(both, ["image.image_id", "image.location", "image.format"]);
        let sized = told(|asked| asked.flavor.as_mut().unwrap().root_gib = 1);
        assert_eq!(sized, ["flavor.root_gib"]);
        let names = told(|asked| {
            asked.root_device_name = "vdb".to_owned();
            asked.block_devices[0].device_name = "/dev/vda".to_owned();
        });
        assert_eq!(names, ["root_device_name"]);
        let twice = told(|asked| {
            let mut other = asked.block_devices[0].clone();
            other.disk_id = "other".to_owned();
            asked.block_devices.push(other);
        });
        assert_eq!(twice, ["block_devices[1].boot_index"]);
        let blank = told(|asked| {
            let blank = v1::BlankDisk {
                size_gib: 1,
                ..Default::default()
            };
            asked.block_devices[0].source = Some(v1::block_device::Source::Blank(blank));
        });
        assert_eq!(blank, ["block_devices[0].boot_index"]);
        let nothing = told(|asked| asked.block_devices[0].boot_index = Some(1));
        assert_eq!(nothing, ["image"]);
    }
}
