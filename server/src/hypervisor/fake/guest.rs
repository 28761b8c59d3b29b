//! A guest as the fake keeps it, and what is read of it.

use std::collections::BTreeMap;

use crate::{
    domain::{Device, Domain, InterfaceSource},
    hypervisor::{GuestInfo, HypervisorError},
    model::{InstanceId, PowerState},
};

/// A guest as the fake keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeGuest {
    /// Its definition; none when the domain is not ours.
    pub domain: Option<Domain>,
    /// Its power state.
    pub state: PowerState,
    /// The devices that it has while it runs, or would have from its saved memory, by the hypervisor's names.
    pub live: Option<BTreeMap<String, Device>>,
    /// The processors that it has while it runs.
    pub vcpus: Option<u32>,
}

impl FakeGuest {
    /// A guest that runs has devices beside those of its definition: what it was started with, and what came and went.
    pub(super) fn settle(&mut self) {
        if self.state == PowerState::Suspended {
            self.vcpus = None;
        } else if !is_on(self.state) {
            self.live = None;
            self.vcpus = None;
        } else if let Some(domain) = &self.domain {
            self.live.get_or_insert_with(|| devices(domain));
            self.vcpus.get_or_insert(domain.machine.vcpus);
        }
    }

    /// None when the domain is not ours.
    pub(super) fn info(&self) -> Option<GuestInfo> {
        let machine = &self.domain.as_ref()?.machine;
        let memory = machine.memory.kib();
        Some(GuestInfo {
            state: self.state,
            max_mem_kib: memory,
            mem_kib: memory,
            num_cpu: self.vcpus.unwrap_or(machine.vcpus),
            cpu_time_ns: 0,
        })
    }

    pub(super) fn has(&self, device: &Device) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|live| live.contains_key(&device.alias()))
    }
}

fn devices(domain: &Domain) -> BTreeMap<String, Device> {
    let disks = domain.disks.iter().cloned().map(Box::new).map(Device::Disk);
    let nics = domain.interfaces.iter().cloned().map(Box::new);
    let devices = disks.chain(nics.map(Device::Interface));
    devices.map(|device| (device.alias(), device)).collect()
}

pub(super) fn is_on(state: PowerState) -> bool {
    matches!(state, PowerState::Running | PowerState::Paused)
}

pub(super) fn wrong_state(guest: InstanceId, message: &str) -> HypervisorError {
    HypervisorError::State {
        guest,
        message: message.to_owned(),
    }
}

pub(super) fn taps(domain: &Domain) -> Vec<(String, String)> {
    let taps = domain
        .interfaces
        .iter()
        .filter_map(|nic| match &nic.source {
            InterfaceSource::Bridge { tap, .. } => Some((nic.mac.to_string(), tap.to_string())),
            InterfaceSource::User | InterfaceSource::Unbound => None,
        });
    taps.collect()
}
