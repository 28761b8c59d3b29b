//! What the host has, has promised and uses: Nova's `get_available_resource`.
//!
//! Everything comes from memory, one listing of the hypervisor and a `stat` of each disk. No disk is opened: how large it
//! looks to its guest is in the store, and a header in it may be the guest's own work.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use super::{Amount, Host};
use crate::{
    error::{Error, Result},
    model::{Bytes, InstanceState, PowerState},
    plan, sys,
};

/// What the host has, has promised and uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Virtual processors, and those of guests that run.
    pub vcpus: (Amount, u64),
    /// Memory in MiB, and what of it could not be had without swapping.
    pub memory_mib: (Amount, u64),
    /// Disk in GiB, and what of it is written.
    pub disk_gib: (Amount, u64),
    /// What is free on the disk in GiB, less what instances' disks may still grow by.
    pub disk_least_gib: i64,
    /// Instances that run.
    pub running: usize,
    /// Instances in all.
    pub instances: usize,
}

/// What is in use on the disk.
struct Disk {
    used: u64,
    least: i64,
}

impl Host {
    /// What the host has, has promised and uses, as of now.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked, or the file system cannot be measured.
    pub async fn resources(&self) -> Result<Resources> {
        self.learn_totals().await?;
        let guests = self.hypervisor.list().await?;
        let running = guests
            .iter()
            .filter(|(_, guest)| guest.state == PowerState::Running);
        let vcpus = running.clone().map(|(_, guest)| u64::from(guest.num_cpu));
        let memory = sys::memory::read()
            .map_err(|e| Error::internal(format!("the host's memory cannot be measured: {e}")))?;
        let disk = self.disk().await?;
        let [cpu, ram, room] = self.claims.amounts();
        Ok(Resources {
            vcpus: (cpu, vcpus.sum()),
            memory_mib: (ram, memory.used().0 >> 20),
            disk_gib: (room, disk.used),
            disk_least_gib: disk.least,
            running: running.count(),
            instances: self.store.count(),
        })
    }

    async fn disk(&self) -> Result<Disk> {
        let disks = self.promised();
        let state = self.paths.state.clone();
        // Thousands of small looks at a file system, which may be busy.
        let measured = tokio::task::spawn_blocking(move || {
            let room = rustix::fs::statvfs(&state)?;
            let block = room.f_frsize;
            let free = i128::from(room.f_bavail * block) - i128::from(growth(&disks));
            Ok::<_, rustix::io::Errno>(Disk {
                used: ((room.f_blocks - room.f_bfree) * block) >> 30,
                least: i64::try_from(free >> 30).unwrap_or(i64::MIN),
            })
        });
        let wrong = |e: &dyn std::fmt::Display| {
            Error::internal(format!("the state directory cannot be measured: {e}"))
        };
        let measured = measured.await.map_err(|e| wrong(&e))?;
        measured.map_err(|e| wrong(&e))
    }

    /// The files of all instances' disks, with the size that each may grow to.
    fn promised(&self) -> Vec<(PathBuf, Bytes)> {
        let records = self.store.instances();
        let there = records
            .iter()
            .filter(|record| record.state != InstanceState::Deleting);
        let disks = there.flat_map(|record| {
            let folder = self.paths.instance(record.spec.id);
            let root = record.root.or(record.spec.flavor.root);
            let disks = plan::local_disks(&record.spec, root.unwrap_or(Bytes(0)));
            disks.map(move |(file, size)| (folder.join(file), size))
        });
        disks.collect()
    }
}

/// What the disks may still grow by; one that is not made yet, by all of its size.
fn growth(disks: &[(PathBuf, Bytes)]) -> u64 {
    let grown = |(path, size): &(PathBuf, Bytes)| {
        let taken = std::fs::metadata(path).map_or(0, |file| file.blocks() * 512);
        size.0.saturating_sub(taken)
    };
    disks.iter().map(grown).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hypervisor::{HypervisorError, fake::Happening},
        model::{Flavor, InstanceSpec, Limits},
        testing::TestHost,
    };

    #[tokio::test]
    async fn what_is_claimed_what_runs_and_what_may_grow_is_told() {
        let t = TestHost::new().await;
        let before = t.host.resources().await.unwrap();
        assert_eq!((before.instances, before.running), (0, 0));
        let flavor = Flavor {
            vcpus: 2,
            root: Some(Bytes(3 << 40)),
            ..t.spec().flavor
        };
        let limits = Limits {
            disk: Some(Bytes(1 << 50)),
            ..Limits::default()
        };
        let large = InstanceSpec {
            flavor,
            limits,
            ..t.spec()
        };
        let one = t.spawned(large).await;
        let limits = Limits {
            disk: Some(Bytes(1 << 50)),
            ..Limits::default()
        };
        t.spawned(InstanceSpec { limits, ..t.spec() }).await;
        let told = t.host.resources().await.unwrap();
        assert_eq!((told.instances, told.running), (2, 2));
        assert_eq!((told.vcpus.0.claimed, told.vcpus.1), (3, 3));
        assert_eq!(told.memory_mib.0.claimed, 128);
        assert!(told.memory_mib.1 > 0 && told.disk_gib.1 <= told.disk_gib.0.total);
        let grows = before.disk_least_gib - told.disk_least_gib;
        // What else is written on this file system meanwhile is not ours to know.
        assert!((2 << 10..4 << 10).contains(&grows), "{grows} GiB");
        t.fake.emit(one, Happening::PowerOff);
        let told = t.host.resources().await.unwrap();
        assert_eq!((told.running, told.vcpus.1), (1, 1));
        assert_eq!(told.vcpus.0.claimed, 3, "what is off still holds its claim");
    }

    #[tokio::test]
    async fn nothing_is_told_while_the_hypervisor_is_away() {
        let t = TestHost::new().await;
        t.fake.go_down("gone");
        let refused = t.host.resources().await.unwrap_err();
        let away = HypervisorError::Unavailable {
            reason: String::new(),
        };
        assert_eq!(refused.reason(), crate::error::Classify::reason(&away));
    }
}
