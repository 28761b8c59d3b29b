//! A rescued guest sees another disk first, and its own root disk as the second.
//!
//! Guests count disks in the order of the domain: the rescue disk takes the root disk's place, that one comes next, and
//! whatever follows on the same bus moves on by one.

use super::{
    DiskPlan, DiskRole, Faults, PlanSettings,
    disks::{IDE_UNITS, Names, prefix},
};
use crate::{
    domain::{DiskDevice, IoTune},
    model::{DiskBus, Rescue},
};

/// The rescue disk's file in the instance's folder.
pub const RESCUE_DISK: &str = "disk.rescue";

/// Puts the rescue disk first.
pub(super) fn first(
    disks: &mut Vec<DiskPlan>,
    (rescue, settings): (&Rescue, &PlanSettings),
    faults: &mut Faults,
) {
    let Some(at) = disks.iter().position(DiskPlan::is_root) else {
        return;
    };
    let own = disks.remove(at);
    let rescue = DiskPlan {
        id: "rescue"
            .parse()
            .expect("the ids of our own disks are plain"),
        role: DiskRole::Rescue,
        file_name: RESCUE_DISK.to_owned(),
        format: settings.disk_format,
        cache: settings.disk_cache,
        volume: None,
        size: Some(rescue.size),
        serial: Some("rescue".to_owned()),
        boot_index: Some(0),
        boot_order: Some(1),
        tune: IoTune::default(),
        ..own.clone()
    };
    // Nothing else is tried: a rescue disk that does not boot must not bring up what is to be rescued.
    for disk in disks.iter_mut() {
        (disk.boot_index, disk.boot_order) = (None, None);
    }
    let own = DiskPlan {
        boot_index: None,
        boot_order: None,
        ..own
    };
    // As the guest has counted them so far; its own order of a bus is that of the names.
    disks.sort_by_cached_key(|disk| {
        let cdrom = disk.device == DiskDevice::Cdrom;
        (cdrom, disk.target.len(), disk.target.clone())
    });
    disks.splice(0..0, [rescue, own]);
    if disks.iter().filter(|d| d.bus == DiskBus::Ide).count() > IDE_UNITS {
        faults.add("image", "leaves no room on the IDE bus for a rescue disk");
    }
    name(disks);
}

/// Names the disks of the first one's bus anew, in their order.
fn name(disks: &mut [DiskPlan]) {
    let mut names = Names::default();
    let mut units = 0..;
    let Some(moved) = disks.first().map(|disk| prefix(disk.bus)) else {
        return;
    };
    for disk in disks {
        if prefix(disk.bus) == moved {
            disk.target = names.next(disk.bus);
        }
        disk.unit = disk.unit.and_then(|_| units.next());
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        model::{Bytes, InstanceSpec, VirtType},
        plan::{
            PlanError, PlanSettings, planned,
            tests::{blank, capabilities, spec},
        },
    };

    fn rescued(spec: &InstanceSpec) -> Result<Vec<DiskPlan>, PlanError> {
        let rescue = Rescue {
            since: SystemTime::UNIX_EPOCH,
            until: None,
            fingerprint: String::new(),
            image: String::new(),
            size: Bytes(1 << 20),
        };
        let settings = PlanSettings::default();
        let plan = planned(
            (spec, Some(&rescue)),
            &capabilities(VirtType::Test),
            &settings,
        );
        Ok(plan?.disks)
    }

    fn seen(disks: &[DiskPlan]) -> Vec<(&str, &str)> {
        let seen = disks.iter();
        seen.map(|disk| (disk.id.as_str(), &*disk.target)).collect()
    }

    #[test]
    fn a_rescued_guest_sees_the_rescue_disk_first_and_its_own_second() {
        let mut spec = spec();
        spec.config_drive = true;
        spec.block_devices = vec![blank("data", None, None), blank("more", Some("vdb"), None)];
        let disks = rescued(&spec).unwrap();
        let names = [
            ("rescue", "vda"),
            ("root", "vdb"),
            ("more", "vdc"),
            ("data", "vdd"),
            ("config", "sda"),
        ];
        assert_eq!(seen(&disks), names);
        let boots: Vec<_> = disks.iter().map(|disk| disk.boot_order).collect();
        assert_eq!(boots, [Some(1), None, None, None, None]);
    }

    #[test]
    fn a_scsi_bus_is_counted_anew_with_its_cd_rom_last() {
        let mut spec = spec();
        spec.config_drive = true;
        spec.properties.disk_bus = Some(DiskBus::Scsi);
        let disks = rescued(&spec).unwrap();
        let names = [("rescue", "sda"), ("root", "sdb"), ("config", "sdc")];
        assert_eq!(seen(&disks), names);
        let units: Vec<_> = disks.iter().map(|disk| disk.unit).collect();
        assert_eq!(units, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_rescue_disk_that_has_no_room_on_its_bus_is_refused() {
        let mut spec = spec();
        spec.properties.machine = Some(crate::model::MachineType::Pc);
        spec.properties.disk_bus = Some(DiskBus::Ide);
        spec.block_devices = ["b", "c"].map(|id| blank(id, None, None)).to_vec();
        assert_eq!(rescued(&spec).unwrap().len(), 4);
        spec.block_devices.push(blank("d", None, None));
        assert!(matches!(rescued(&spec), Err(PlanError::Refused { .. })));
    }
}
