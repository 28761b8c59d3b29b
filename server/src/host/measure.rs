//! What the host has and uses, measured: Nova's `get_host_stats`.

use std::time::SystemTime;

use super::Host;
use crate::{
    error::{Error, Result},
    hypervisor::HypervisorError,
    model::{Bytes, CpuModel, PowerState},
    sys::{self, initiator::Initiator},
};

/// What the host has and uses, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// When it was measured.
    pub time: SystemTime,
    /// Processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// Memory that could be used without swapping.
    pub memory_free: Bytes,
    /// Size of the file system with the instances.
    pub disk: Bytes,
    /// What is left of it.
    pub disk_free: Bytes,
    /// What the image cache takes of it.
    pub image_cache: Bytes,
    /// Instances that run.
    pub running: usize,
    /// Instances in all.
    pub instances: usize,
    /// Mean number of runnable tasks over a minute.
    pub load: f64,
    /// The best processor that a guest can be given; none when the hypervisor does not tell.
    pub cpu: Option<CpuModel>,
}

fn wrong(what: &str, e: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("{what} cannot be measured: {e}"))
}

impl Host {
    /// Measures what the host has and uses.
    ///
    /// # Errors
    /// When the hypervisor, the kernel or the image cache cannot be asked.
    pub async fn measure(&self) -> Result<Measured> {
        let capabilities = self.hypervisor.capabilities().await?;
        let guests = self.hypervisor.list().await?;
        let cached = self.images.list().await?;
        let running = guests
            .iter()
            .filter(|(_, guest)| guest.state == PowerState::Running);
        let memory = sys::memory::read().map_err(|e| wrong("the host's memory", &e))?;
        let load = sys::uptime::read().map_err(|e| wrong("the host's load", &e))?;
        let state = self.paths.state.clone();
        // A file system may be busy, or away.
        let room = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&state)).await;
        let room = room.map_err(|e| wrong("the state directory", &e))?;
        let room = room.map_err(|e| wrong("the state directory", &e))?;
        Ok(Measured {
            time: SystemTime::now(),
            cpus: capabilities.cpus,
            memory: Bytes(capabilities.memory),
            memory_free: memory.available,
            disk: Bytes(room.f_blocks * room.f_frsize),
            disk_free: Bytes(room.f_bavail * room.f_frsize),
            image_cache: Bytes(cached.iter().map(|image| image.allocated.0).sum()),
            running: running.count(),
            instances: self.store.count(),
            load: load.load[0],
            cpu: self.best_cpu().await?,
        })
    }

    /// The best processor that a guest can be given; none when the hypervisor does not tell.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked.
    pub async fn best_cpu(&self) -> Result<Option<CpuModel>> {
        match self.hypervisor.cpu().await {
            Ok(cpu) => Ok(Some(cpu)),
            Err(HypervisorError::Unsupported { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The host as an initiator of storage connections. Where it has no name for iSCSI, it gets one that is made of its
    /// identity: QEMU's own initiator needs no other.
    ///
    /// # Errors
    /// When a name is written down and cannot be read.
    pub async fn initiator(&self) -> Result<Initiator> {
        let read = tokio::task::spawn_blocking(sys::initiator::read).await;
        let read = read.map_err(|e| Error::internal(e.to_string()))?;
        let mut initiator = read.map_err(|e| {
            Error::internal(format!("the host's names for storage cannot be read: {e}"))
        })?;
        let own = || format!("iqn.2008-11.org.linux-kvm:{}", self.store.node().id);
        initiator.iqn.get_or_insert_with(own);
        Ok(initiator)
    }
}

#[cfg(test)]
mod tests {
    use crate::{hypervisor::fake::Times, testing::TestHost};

    use super::*;

    #[tokio::test]
    async fn what_is_measured_is_what_is_there() {
        let t = TestHost::new().await;
        let id = t.spawned(t.spec()).await;
        let told = t.host.measure().await.unwrap();
        assert_eq!((told.running, told.instances, told.cpus), (1, 1, 8));
        assert!(told.memory_free < Bytes(u64::MAX) && told.disk_free <= told.disk);
        assert!(told.image_cache.0 > 0, "the image of {id} is cached");
        assert_eq!(told.cpu.unwrap().model, "Fake");
    }

    #[tokio::test]
    async fn a_hypervisor_that_does_not_tell_its_processor_tells_the_rest() {
        let t = TestHost::new().await;
        let message = String::new();
        let silent = HypervisorError::Unsupported { message };
        t.fake.fail("cpu", Times::Always, silent);
        assert_eq!(t.host.measure().await.unwrap().cpu, None);
    }

    #[tokio::test]
    async fn the_hosts_identity_is_made_once() {
        let t = TestHost::new().await;
        let id = t.host.store.node().id;
        let next = t.next_life().await;
        assert_eq!(next.host.store.node().id, id);
        let initiator = next.host.initiator().await.unwrap();
        let other = TestHost::new().await;
        assert_ne!(other.host.store.node().id, id);
        assert_eq!(initiator, t.host.initiator().await.unwrap());
    }
}
