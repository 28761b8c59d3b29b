//! What the kernel counts of a guest's emulator, from /proc: no call to libvirt, and none that the guest could hold up.
//!
//! libvirt leaves each emulator's process id in a file. Where that cannot be read, as of a libvirt on another host, the
//! counters come from libvirt itself, as far as it tells them without asking a monitor.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::param::{clock_ticks_per_second, page_size};
use url::Url;

use super::super::{
    process::{self, Halt, Process, Scheduled, Status},
    stray,
};
use crate::{domain::Domain, hypervisor::stats::CpuCounters, model::InstanceId};

/// How long an emulator that could not be seen is taken for one that cannot: as where process ids are not for us to read.
const HIDDEN: Duration = Duration::from_secs(30);
const SECOND_NS: u128 = 1_000_000_000;
/// Where a libvirtd of the host keeps its sockets.
const RUN: &str = "/run/libvirt";

/// The folder in which the libvirt of that address keeps process ids, when it is the host's own.
pub(in super::super) fn folder(uri: &str) -> Option<PathBuf> {
    let uri = Url::parse(uri).ok()?;
    let local = matches!(uri.scheme(), "qemu" | "qemu+unix")
        && uri.host_str().is_none_or(str::is_empty)
        && uri.path() == "/system";
    let socket = uri.query_pairs().find(|(key, _)| key == "socket");
    let run = match &socket {
        // Its driver's folder lies beside its socket.
        Some((_, socket)) => Path::new(&**socket).parent()?,
        None => Path::new(RUN),
    };
    local.then(|| run.join("qemu"))
}

/// The emulators that have been seen.
#[derive(Debug)]
pub(in super::super) struct Emulators {
    folder: Option<PathBuf>,
    seen: Mutex<HashMap<InstanceId, Emulator>>,
    /// Of guests that run, and when that was tried.
    hidden: Mutex<HashMap<InstanceId, Instant>>,
}

#[derive(Clone, Debug)]
struct Emulator {
    pid: i32,
    started: u64,
    threads: u64,
    /// Number and thread of each vCPU.
    cpus: Vec<(u32, i32)>,
}

/// An emulator as it is now.
#[derive(Debug)]
pub(super) struct Sight {
    emulator: Emulator,
    process: Process,
}

impl Emulators {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            seen: Mutex::default(),
            hidden: Mutex::default(),
        }
    }

    /// Looks at the guest's emulator; none when it cannot be seen from here.
    pub(super) fn look(&self, id: InstanceId) -> Option<Sight> {
        if let Some(sight) = self.again(id) {
            return Some(sight);
        }
        let name = Domain::name_of(id);
        let file = self.folder.as_ref()?.join(format!("{name}.pid"));
        let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        let process = Process::read(pid).ok()?;
        // A process id of another pid namespace, or one that was used again, is somebody else's here. The command line of
        // a process that waits for a device may have to be waited for too.
        if process.status == Status::Zombie
            || process.halt == Some(Halt::Device)
            || stray::name(&process::arguments(pid).ok()?) != Some(&name)
        {
            return None;
        }
        let emulator = Emulator {
            pid,
            started: process.started,
            threads: 0,
            cpus: Vec::new(),
        };
        self.seen.lock().insert(id, emulator.clone());
        Some(Sight { emulator, process })
    }

    /// Looks at the emulator of a guest that runs, and remembers where that cannot be seen.
    pub(super) fn look_at_running(&self, id: InstanceId) -> Option<Sight> {
        let sight = self.look(id);
        let mut hidden = self.hidden.lock();
        if sight.is_some() {
            hidden.remove(&id);
        } else if self.folder.is_some() {
            hidden.insert(id, Instant::now());
        }
        sight
    }

    /// Whether the guest's emulator may be seen from here, but nobody has looked yet, or not lately.
    pub(super) fn is_unseen(&self, id: InstanceId) -> bool {
        let known = || self.seen.lock().contains_key(&id);
        let hidden = || {
            let since = self.hidden.lock().get(&id).copied();
            since.is_some_and(|since| since.elapsed() < HIDDEN)
        };
        self.folder.is_some() && !known() && !hidden()
    }

    /// Why the guest's emulator does nothing, if it has been seen before and that can be seen now.
    pub(super) fn halt(&self, id: InstanceId) -> Option<Halt> {
        self.again(id)?.process.halt
    }

    /// Counters of each vCPU, in the order of their numbers.
    pub(super) fn cpus(&self, id: InstanceId, sight: &Sight) -> Vec<CpuCounters> {
        let Sight { emulator, process } = sight;
        let known = (emulator.threads == process.threads).then(|| count(emulator));
        if let Some(Some(counted)) = known {
            return counted;
        }
        let mut emulator = emulator.clone();
        emulator.threads = process.threads;
        emulator.cpus = vcpus(emulator.pid);
        let counted = count(&emulator).unwrap_or_default();
        self.seen.lock().insert(id, emulator);
        counted
    }

    /// Forgets all guests but these.
    pub(super) fn keep(&self, present: &HashSet<InstanceId>) {
        self.seen.lock().retain(|id, _| present.contains(id));
        self.hidden.lock().retain(|id, _| present.contains(id));
    }

    /// Looks at an emulator that was seen before; none when it is gone.
    pub(super) fn again(&self, id: InstanceId) -> Option<Sight> {
        let emulator = self.seen.lock().get(&id).cloned()?;
        let process = Process::read(emulator.pid).ok()?;
        let same = process.started == emulator.started && process.status == Status::Alive;
        same.then_some(Sight { emulator, process })
    }
}

impl Sight {
    /// Another number for each emulator since the host's start: process ids have at most 22 bits.
    pub(super) fn life(&self) -> u64 {
        let pid = u64::try_from(self.emulator.pid).unwrap_or_default();
        (self.process.started << 22) | pid
    }

    /// Processor time of all its threads, ns.
    pub(super) fn cpu_time_ns(&self) -> u64 {
        let ns = u128::from(self.process.ticks) * SECOND_NS;
        let per_second = u128::from(clock_ticks_per_second().max(1));
        u64::try_from(ns / per_second).unwrap_or(u64::MAX)
    }

    /// What it takes of the host, KiB.
    pub(super) fn rss_kib(&self) -> u64 {
        let page = u64::try_from(page_size()).unwrap_or_default();
        self.process.pages.saturating_mul(page) / 1024
    }
}

/// None when one of the threads is gone.
fn count(emulator: &Emulator) -> Option<Vec<CpuCounters>> {
    let one = |(id, thread): &(u32, i32)| {
        let counted = Scheduled::read(emulator.pid, *thread).ok()?;
        Some(CpuCounters {
            id: *id,
            time_ns: Some(counted.ran),
            delay_ns: Some(counted.waited),
        })
    };
    emulator.cpus.iter().map(one).collect()
}

/// Threads that QEMU named as those of vCPUs, in the order of these.
fn vcpus(pid: i32) -> Vec<(u32, i32)> {
    let threads = process::threads(pid).unwrap_or_default();
    let mut found: Vec<_> = threads
        .iter()
        .filter_map(|(thread, name)| Some((vcpu(name)?, *thread)))
        .collect();
    found.sort_unstable();
    found
}

/// `CPU 3/TCG`, `CPU 3/KVM`
fn vcpu(name: &str) -> Option<u32> {
    let (number, _) = name.strip_prefix("CPU ")?.split_once('/')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulators_can_be_seen_of_a_libvirt_on_this_host() {
        let at = |uri: &str| folder(uri).map(|path| path.display().to_string());
        assert_eq!(at("qemu:///system").as_deref(), Some("/run/libvirt/qemu"));
        let beside = "qemu+unix:///system?socket=/x/run/libvirt-sock";
        assert_eq!(at(beside).as_deref(), Some("/x/run/qemu"));
        for far in [
            "qemu+ssh://host/system",
            "qemu://host/system",
            "qemu:///session",
            "test:///default",
            "nonsense",
        ] {
            assert_eq!(at(far), None, "{far}");
        }
    }

    #[test]
    fn an_emulator_that_cannot_be_seen_is_not_looked_for_each_time() {
        let (id, other) = (InstanceId::random(), InstanceId::random());
        let far = Emulators::new(None);
        assert!(!far.is_unseen(id), "there is nothing to look at");
        let empty = tempfile::tempdir().unwrap();
        let emulators = Emulators::new(Some(empty.path().to_owned()));
        assert!(emulators.is_unseen(id));
        assert!(emulators.look_at_running(id).is_none());
        assert!(!emulators.is_unseen(id));
        assert!(emulators.is_unseen(other));
        emulators.keep(&HashSet::new());
        assert!(emulators.is_unseen(id));
    }

    #[test]
    fn threads_of_vcpus_are_told_by_their_names() {
        assert_eq!(vcpu("CPU 3/TCG"), Some(3));
        assert_eq!(vcpu("CPU 10/KVM"), Some(10));
        for other in ["ALL CPUs/TCG", "qemu-system-x86", "worker", "CPU x/TCG"] {
            assert_eq!(vcpu(other), None, "{other}");
        }
    }
}
