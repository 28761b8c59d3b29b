//! Devices of guests in memory.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fake, FakeGuest, is_on, wrong_state};
use crate::{
    domain::Device,
    hypervisor::{
        HypervisorError, Result,
        device::{Detached, Devices},
    },
    model::{Bytes, Event, EventKind, InstanceId},
};

impl Fake {
    /// Sets the size of a guest's disk, as its emulator knows it.
    pub fn set_disk_size(&self, id: InstanceId, target: &str, size: Bytes) {
        self.sizes.lock().insert((id, target.to_owned()), size);
    }

    pub(super) fn guest<T>(
        &self,
        id: InstanceId,
        look: impl FnOnce(&mut FakeGuest) -> T,
    ) -> Result<T> {
        let mut guests = self.guests.lock();
        let ours = guests.get_mut(&id).filter(|guest| guest.domain.is_some());
        ours.map(look).ok_or(HypervisorError::NotFound(id))
    }
}

#[async_trait]
impl Devices for Fake {
    async fn attach(&self, id: InstanceId, device: &Device) -> Result<()> {
        self.enter("attach").await?;
        if let Device::Disk(disk) = device {
            self.unlock([&**disk])?;
        }
        let fresh = self.guest(id, |guest| {
            let fresh = !guest.has(device);
            match &mut guest.live {
                Some(live) => drop(live.entry(device.alias()).or_insert_with(|| device.clone())),
                None => return Err(wrong_state(id, "domain is not running")),
            }
            Ok(fresh)
        })??;
        if fresh {
            let added = Event::of(id, EventKind::DeviceAdded).device(device.id());
            self.signals.event(id, added);
        }
        self.faults.leave("attach")
    }

    /// A guest lets go unless it was told to be deaf, see [`Fake::deafen`].
    async fn detach(&self, id: InstanceId, device: &Device, _: Duration) -> Result<Detached> {
        self.enter("detach").await?;
        let deaf = self.deaf.lock().contains(&id);
        let had = self.guest(id, |guest| {
            let had = guest.has(device);
            if let Some(live) = guest.live.as_mut().filter(|_| !deaf) {
                live.remove(&device.alias());
            }
            had
        })?;
        if had && deaf {
            return self.faults.leave("detach").map(|()| Detached::Held);
        }
        if had {
            let removed = Event::of(id, EventKind::DeviceRemoved).device(device.id());
            self.signals.event(id, removed);
        }
        self.faults.leave("detach").map(|()| Detached::Gone)
    }

    async fn has(&self, id: InstanceId, device: &Device) -> Result<bool> {
        self.enter("has").await?;
        let has = self.guest(id, |guest| guest.has(device))?;
        self.faults.leave("has").map(|()| has)
    }

    async fn set_vcpus(&self, id: InstanceId, vcpus: u32) -> Result<()> {
        self.enter("set_vcpus").await?;
        self.guest(id, |guest| match is_on(guest.state) {
            true => {
                guest.vcpus = Some(vcpus);
                Ok(())
            }
            false => Err(wrong_state(id, "domain is not running")),
        })??;
        self.faults.leave("set_vcpus")
    }

    async fn disk_size(&self, id: InstanceId, target: &str) -> Result<Bytes> {
        self.enter("disk_size").await?;
        // Nothing, until it is told of one.
        let known = self.sizes.lock().get(&(id, target.to_owned())).copied();
        self.faults.leave("disk_size")?;
        Ok(known.unwrap_or_default())
    }

    async fn resize_disk(&self, id: InstanceId, target: &str, size: Bytes) -> Result<()> {
        self.enter("resize_disk").await?;
        self.guest(id, |_| ())?;
        self.set_disk_size(id, target, size);
        self.faults.leave("resize_disk")
    }
}
