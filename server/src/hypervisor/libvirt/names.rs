//! By which ids callers know the devices that libvirt tells of: by alias, or by a disk's target.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::xml::Element;
use crate::{
    domain::{self, Domain},
    model::{Event, InstanceId},
};

/// Targets of a guest's disks, each with the caller's id.
type Disks = Vec<(String, String)>;

/// The names of all guests' disks. What is not known here is told by libvirt's own name.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<InstanceId, Disks>>);

impl Names {
    /// Learns them from what is defined.
    pub(super) fn define(&self, domain: &Domain) {
        let disks = domain.disks.iter();
        let disks = disks.map(|disk| (disk.target.clone(), disk.id.to_string()));
        self.learn(domain.id, disks.collect());
    }

    /// Learns them from a definition of libvirt's.
    pub(super) fn read(&self, guest: InstanceId, definition: &Element) {
        let disks = definition.all(&["devices", "disk"]).filter_map(|disk| {
            let target = disk.first(&["target"])?.attribute("dev")?;
            let alias = disk.first(&["alias"])?.attribute("name")?;
            Some((target.to_owned(), domain::id_of(alias)?))
        });
        self.learn(guest, disks.collect());
    }

    fn learn(&self, guest: InstanceId, disks: Disks) {
        self.0.lock().insert(guest, disks);
    }

    /// Forgets those of one, when it was undefined.
    pub(super) fn forget(&self, guest: InstanceId) {
        self.0.lock().remove(&guest);
    }

    /// The event with its device's id where it has one; libvirt's name of it stays in the detail.
    pub(super) fn named(&self, guest: InstanceId, mut event: Event) -> Event {
        let Some(name) = event.device.take() else {
            return event;
        };
        let id = domain::id_of(&name).or_else(|| self.disk(guest, &name));
        if id.is_some() && event.detail.is_empty() {
            event.detail = format!("libvirt's {name}");
        }
        event.device = Some(id.unwrap_or(name));
        event
    }

    fn disk(&self, guest: InstanceId, target: &str) -> Option<String> {
        let guests = self.0.lock();
        let found = guests
            .get(&guest)?
            .iter()
            .find(|(known, _)| known == target);
        found.map(|(_, id)| id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventKind;

    #[test]
    fn a_device_is_told_by_the_id_that_its_caller_gave_it() {
        let (names, guest) = (Names::default(), InstanceId::random());
        let definition = "<domain><devices><disk><target dev='vda'/><alias name='ua-disk-root'/></disk>\
             <disk><target dev='vdb'/><alias name='virtio-disk1'/></disk></devices></domain>";
        names.read(guest, &Element::parse(definition).unwrap());
        let told = |name: &str| {
            let event = Event::of(guest, EventKind::IoError).device(name);
            let event = names.named(guest, event);
            (event.device.unwrap(), event.detail)
        };
        for (name, id) in [
            ("vda", "root"),
            ("ua-disk-root", "root"),
            ("ua-vif-eth0_d1", "eth0.1"),
        ] {
            assert_eq!(told(name), (id.to_owned(), format!("libvirt's {name}")));
        }
        for name in ["vdb", "virtio-disk1", "net0"] {
            assert_eq!(told(name), (name.to_owned(), String::new()));
        }
        names.forget(guest);
        assert_eq!(told("vda").0, "vda");
    }
}
