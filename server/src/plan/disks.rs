//! Which disks an instance has, how each is attached, and what the guest calls it.
//!
//! Names are promises. Guests name disks by their order on a bus, so the names of a bus must have no gap, and a wanted
//! name that would not come true is refused.

use std::collections::BTreeSet;

use super::{DiskPlan, DiskRole, Faults, PlanSettings, extra_specs::Wishes};
use crate::{
    domain::{Cache, DiskDevice, Format, IoTune},
    model::{
        BlockSource, Bytes, DiskBus, DiskFormat, DiskId, InstanceSpec, MachineType, Pin, Volume,
    },
};

mod name;

pub(super) use name::{Names, prefix};

/// Units that an IDE controller has room for.
pub(super) const IDE_UNITS: usize = 4;

/// A disk before it has a name.
struct Wanted<'a> {
    id: DiskId,
    role: DiskRole,
    size: Option<Bytes>,
    bus: DiskBus,
    /// The field that asks for the bus.
    bus_field: String,
    /// The name that it must have, and the field that asks for it.
    name: Option<(&'a str, String)>,
    /// Where it is already.
    pin: Option<&'a Pin>,
    /// Its place among those that the caller asks for; none is one of our own.
    place: Option<usize>,
    boot_index: Option<u32>,
    volume: Option<&'a Volume>,
}

impl Wanted<'_> {
    fn device(&self) -> DiskDevice {
        match self.role {
            DiskRole::ConfigDrive => DiskDevice::Cdrom,
            _ => DiskDevice::Disk,
        }
    }
}

/// Plans all disks, in the order in which the guest numbers them unless names say otherwise.
pub(super) fn plan(
    (spec, board): (&InstanceSpec, MachineType),
    wishes: &Wishes,
    settings: &PlanSettings,
    faults: &mut Faults,
) -> Vec<DiskPlan> {
    let wanted = wanted(spec, board);
    check(&wanted, board, faults);
    let mut names = Names::default();
    let targets = assign(&wanted, &mut names, faults);
    let pinned: BTreeSet<_> = wanted.iter().filter_map(|disk| disk.pin?.unit).collect();
    let mut units = (0..).filter(|unit| !pinned.contains(unit));
    let mut serials = BTreeSet::new();
    let order = BootOrder::of(&wanted);
    let plans = wanted.into_iter().zip(targets).map(|(wanted, target)| {
        let on_scsi = wanted.bus == DiskBus::Scsi;
        DiskPlan {
            file_name: file_name(&wanted),
            format: format(&wanted, settings),
            device: wanted.device(),
            unit: wanted
                .pin
                .and_then(|pin| pin.unit)
                .or_else(|| on_scsi.then(|| units.next()).flatten()),
            serial: serial(&wanted).filter(|serial| serials.insert(serial.clone())),
            boot_index: wanted.boot_index,
            boot_order: order.of_disk(wanted.boot_index),
            // What others write must be read, and what is written must reach them.
            cache: match wanted.volume {
                Some(volume) if volume.shared => Cache::None,
                _ => settings.disk_cache,
            },
            tune: match (wanted.role, wanted.volume) {
                (_, Some(volume)) => volume.qos.into(),
                (DiskRole::ConfigDrive, None) => IoTune::default(),
                _ => wishes.io,
            },
            volume: wanted.volume.cloned(),
            id: wanted.id,
            role: wanted.role,
            size: wanted.size,
            bus: wanted.bus,
            target,
        }
    });
    plans.collect()
}

/// The disks that the firmware tries, in their order. The hypervisor counts from 1, without gaps.
struct BootOrder(BTreeSet<u32>);

impl BootOrder {
    fn of(wanted: &[Wanted<'_>]) -> Self {
        Self(wanted.iter().filter_map(|disk| disk.boot_index).collect())
    }

    fn of_disk(&self, index: Option<u32>) -> Option<u32> {
        let place = self.0.iter().position(|other| Some(*other) == index)?;
        u32::try_from(place + 1).ok()
    }
}

fn wanted(spec: &InstanceSpec, board: MachineType) -> Vec<Wanted<'_>> {
    let bus = spec.properties.disk_bus.unwrap_or(DiskBus::Virtio);
    let bus_field = || "image.properties.hw_disk_bus".to_owned();
    let own = |id: &str, role, size| Wanted {
        id: id.parse().expect("the ids of our own disks are plain"),
        role,
        size,
        bus,
        bus_field: bus_field(),
        name: None,
        pin: None,
        place: None,
        boot_index: None,
        volume: None,
    };
    let (volume, further): (Vec<_>, Vec<_>) =
        further(spec, bus).partition(|disk| disk.boot_index == Some(0));
    let mut wanted = match volume.is_empty() {
        false => volume,
        true => vec![Wanted {
            boot_index: Some(0),
            ..own("root", DiskRole::Root, spec.flavor.root)
        }],
    };
    // The root disk is the first of its bus, unless the caller says otherwise.
    if let Some(root) = wanted.first_mut() {
        let field = "root_device_name".to_owned();
        root.name = Some(match (spec.root_device_name.as_deref(), root.name.take()) {
            (Some(name), _) => (name, field),
            (None, Some(own)) => own,
            (None, None) => (name::first(root.bus), field),
        });
    }
    let flavor = &spec.flavor;
    if let Some(size) = flavor.ephemeral {
        wanted.push(own("ephemeral0", DiskRole::Ephemeral, Some(size)));
    }
    if let Some(size) = flavor.swap {
        wanted.push(own("swap", DiskRole::Swap, Some(size)));
    }
    wanted.extend(further);
    if spec.config_drive {
        // Kernels made for clouds have no AHCI driver: a guest with virtio or SCSI disks surely has one for SCSI.
        let by_board = match (board, bus) {
            (MachineType::Pc, _) => DiskBus::Ide,
            (MachineType::Q35, DiskBus::Virtio | DiskBus::Scsi) => DiskBus::Scsi,
            (MachineType::Q35, _) => DiskBus::Sata,
        };
        wanted.push(Wanted {
            bus: spec.properties.cdrom_bus.unwrap_or(by_board),
            bus_field: "image.properties.hw_cdrom_bus".to_owned(),
            ..own("config", DiskRole::ConfigDrive, None)
        });
    }
    for disk in &mut wanted {
        disk.pin = spec.pins.get(&disk.id);
    }
    wanted
}

/// The disks beside those of the flavor. `own`: the bus of disks that say none.
fn further(spec: &InstanceSpec, own: DiskBus) -> impl Iterator<Item = Wanted<'_>> {
    let further = spec.block_devices.iter().enumerate();
    further.map(move |(i, device)| {
        let (role, size) = match &device.source {
            BlockSource::Blank { size } => (DiskRole::Blank, Some(*size)),
            BlockSource::Volume(volume) => {
                let size = volume.seen.as_ref().map(|seen| seen.size);
                (DiskRole::Volume, size)
            }
        };
        let name = device.device_name.as_deref();
        Wanted {
            id: device.id.clone(),
            role,
            size,
            bus: device.bus.unwrap_or(own),
            bus_field: match device.bus {
                Some(_) => format!("block_devices[{i}].bus"),
                None => "image.properties.hw_disk_bus".to_owned(),
            },
            name: name.map(|name| (name, format!("block_devices[{i}].device_name"))),
            pin: None,
            place: Some(i),
            boot_index: device.boot_index,
            volume: device.volume(),
        }
    })
}

/// The files of an instance's disks in its folder, each with the size that the guest sees; without the config drive, which
/// is as large as it will ever be. `root`: the size of the root disk.
pub fn local(spec: &InstanceSpec, root: Bytes) -> impl Iterator<Item = (String, Bytes)> {
    // No board moves a disk to another file.
    wanted(spec, MachineType::Q35)
        .into_iter()
        .filter_map(move |disk| {
            let size = match disk.role {
                DiskRole::Root => Some(root),
                DiskRole::ConfigDrive | DiskRole::Volume | DiskRole::Rescue => None,
                DiskRole::Ephemeral | DiskRole::Swap | DiskRole::Blank => disk.size,
            };
            size.map(|size| (file_name(&disk), size))
        })
}

/// What does not fit the board, and ids that are used twice.
fn check(wanted: &[Wanted<'_>], board: MachineType, faults: &mut Faults) {
    let mut ids = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut ide = 0;
    for disk in wanted {
        let taken = !ids.insert(&disk.id) || is_reserved(&disk.id);
        if let Some(place) = disk.place.filter(|_| taken) {
            let field = format!("block_devices[{place}].disk_id");
            faults.add(field, format!("{} is the id of another disk", disk.id));
        }
        ide += usize::from(disk.bus == DiskBus::Ide);
        let fault = match (disk.bus, disk.device(), board) {
            (DiskBus::Virtio, DiskDevice::Cdrom, _) => "cannot be virtio: a CD-ROM needs another",
            (DiskBus::Ide, _, MachineType::Q35) => "cannot be IDE on q35: use SATA",
            (DiskBus::Ide, ..) if ide > IDE_UNITS => "cannot be IDE for more than four disks",
            _ => continue,
        };
        if told.insert((&disk.bus_field, fault)) {
            faults.add(disk.bus_field.as_str(), fault);
        }
    }
}

/// Whether it is the id of one of our own disks, be it there this time or not: what it names must not change with
/// the flavor.
fn is_reserved(id: &DiskId) -> bool {
    ["root", "ephemeral0", "swap", "config", "rescue"].contains(&id.as_str())
}

/// Gives every disk its name: wanted names first, then the free ones in order, CD-ROMs after all disks.
fn assign(wanted: &[Wanted<'_>], names: &mut Names, faults: &mut Faults) -> Vec<String> {
    let mut targets: Vec<Option<String>> = Vec::with_capacity(wanted.len());
    for disk in wanted {
        let pinned = disk.pin.map(|pin| names.take(disk.bus, &pin.target).ok());
        targets.push(pinned.flatten());
    }
    for (disk, target) in wanted.iter().zip(&mut targets) {
        let Some((name, field)) = disk.name.as_ref().filter(|_| target.is_none()) else {
            continue;
        };
        let taken = names.take(disk.bus, name);
        *target = taken.map_err(|fault| faults.add(field, fault)).ok();
    }
    for device in [DiskDevice::Disk, DiskDevice::Cdrom] {
        for (disk, target) in wanted.iter().zip(&mut targets) {
            if target.is_none() && disk.device() == device {
                *target = Some(names.next(disk.bus));
            }
        }
        if device == DiskDevice::Disk {
            gaps(wanted, (&targets, names), faults);
        }
    }
    targets.into_iter().flatten().collect()
}

fn gaps(wanted: &[Wanted<'_>], (targets, names): (&[Option<String>], &Names), faults: &mut Faults) {
    for (disk, target) in wanted.iter().zip(targets) {
        let (Some((_, field)), Some(target), None) = (&disk.name, target, disk.pin) else {
            continue;
        };
        if let Some(gap) = names.gap_before(target) {
            let why = format!("cannot be {target}: the guest would call it {gap}, which is free");
            faults.add(field, why);
        }
    }
}

fn file_name(disk: &Wanted<'_>) -> String {
    match disk.role {
        DiskRole::Root => "disk".to_owned(),
        DiskRole::Volume => String::new(),
        _ => format!("disk.{}", disk.id),
    }
}

fn format(disk: &Wanted<'_>, settings: &PlanSettings) -> Format {
    match disk.role {
        DiskRole::Volume => match disk.volume.map(Volume::format_now) {
            Some(DiskFormat::Qcow2) => Format::Qcow2,
            _ => Format::Raw,
        },
        DiskRole::Root | DiskRole::Ephemeral | DiskRole::Blank | DiskRole::Rescue => {
            settings.disk_format
        }
        DiskRole::Swap | DiskRole::ConfigDrive => Format::Raw,
    }
}

/// The disk's id, or what its volume says, as far as its bus can carry it: the guest finds it under `/dev/disk/by-id`.
fn serial(disk: &Wanted<'_>) -> Option<String> {
    let room = match disk.bus {
        DiskBus::Scsi => 36,
        DiskBus::Virtio | DiskBus::Sata | DiskBus::Ide => 20,
    };
    let of_volume = disk.volume.map(|volume| match &volume.serial {
        Some(serial) => serial.clone(),
        None => volume.id.to_string(),
    });
    let mut serial = of_volume.unwrap_or_else(|| disk.id.to_string());
    // An id is ASCII, and a serial may have nothing else.
    serial.truncate(room);
    Some(serial)
}
