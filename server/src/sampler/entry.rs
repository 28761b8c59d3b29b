//! What is known of one guest, and in which sample each part of it last changed.
//!
//! An entry is never changed once it is published: what is learned makes the next one of it.

use std::{sync::Arc, time::SystemTime};

use crate::{
    hypervisor::{
        HypervisorError,
        stats::{
            BalloonCounters, BlockCounters, CpuCounters, Groups, HostCounters, InterfaceCounters,
            MemoryUse, MonitorCounters,
        },
    },
    model::{InstanceId, PowerState},
};

/// Whether a part of a guest's counters could be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was, or there was nothing to measure.
    Measured,
    /// It was passed over this once.
    Skipped {
        /// When.
        since: SystemTime,
    },
    /// It has not answered for longer.
    Stale {
        /// Since when.
        since: SystemTime,
    },
}

impl Health {
    /// After one more time without an answer. `hung` when it is known that none will come soon.
    fn missed(self, now: SystemTime, hung: bool) -> Self {
        match self {
            Self::Measured if hung => Self::Stale { since: now },
            Self::Measured => Self::Skipped { since: now },
            Self::Skipped { since } | Self::Stale { since } => Self::Stale { since },
        }
    }
}

/// What one sample knows of a guest.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which guest.
    pub id: InstanceId,
    /// Whether the host's part could be measured. While not, no counters are known.
    pub host: Health,
    /// Whether the monitor's part could be measured.
    pub monitor: Health,
    /// Whether it runs.
    pub state: PowerState,
    /// Processor time, ns.
    pub cpu_time_ns: Option<u64>,
    /// Of each vCPU.
    pub cpus: Vec<CpuCounters>,
    /// Memory as the host sees it.
    pub memory: Option<MemoryUse>,
    /// Interfaces by their ids.
    pub interfaces: Vec<(Arc<str>, InterfaceCounters)>,
    /// What the guest says of its memory.
    pub balloon: Option<BalloonCounters>,
    /// Disks by their ids.
    pub disks: Vec<(Arc<str>, BlockCounters)>,
    /// Its present start, or its last one while it is off; none before the host has told of it, 0 before the first.
    life: Option<u64>,
    /// Whether it was on when the host last told.
    on: bool,
    marks: Marks,
}

/// Sequences of the samples in which parts of an entry last changed.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    /// Whether it can be measured, and its power state: of interest to everyone.
    whole: u64,
    /// Of each group, by its bit.
    groups: [u64; 8],
    /// When its counters were seen to have begun at 0.
    reset: u64,
}

impl Marks {
    fn touch(&mut self, groups: Groups, sequence: u64) {
        for (bit, mark) in self.groups.iter_mut().enumerate() {
            if groups.bits() & (1 << bit) != 0 {
                *mark = sequence;
            }
        }
    }
}

impl Entry {
    /// A guest of which nothing is known yet, seen first in sample `sequence`. There may have been another with its id.
    pub(super) fn new(id: InstanceId, sequence: u64) -> Self {
        let marks = Marks {
            whole: sequence,
            reset: sequence,
            ..Marks::default()
        };
        Self {
            id,
            host: Health::Measured,
            monitor: Health::Measured,
            state: PowerState::NoState,
            cpu_time_ns: None,
            cpus: Vec::new(),
            memory: None,
            interfaces: Vec::new(),
            balloon: None,
            disks: Vec::new(),
            life: None,
            on: false,
            marks,
        }
    }

    /// Whether what is seen of it through `groups` changed after sample `base`.
    pub fn changed(&self, groups: Groups, base: u64) -> bool {
        let mut marks = self.marks.groups.iter().enumerate();
        self.marks.whole > base
            || marks.any(|(bit, mark)| groups.bits() & (1 << bit) != 0 && *mark > base)
    }

    /// Whether its counters began at 0 after sample `base`.
    pub fn reset(&self, base: u64) -> bool {
        self.marks.reset > base
    }

    /// Whether all of `groups` could be measured.
    pub fn health(&self, groups: Groups) -> Health {
        if self.host == Health::Measured && groups.intersects(Groups::MONITOR) {
            self.monitor
        } else {
            self.host
        }
    }

    /// Whether its monitor can be asked.
    pub(super) fn is_on(&self) -> bool {
        self.on && self.host == Health::Measured
    }

    /// Whether an answer that `groups` rest on was missed: the host's, or its monitor's.
    pub(super) fn is_missed(&self, groups: Groups) -> bool {
        (groups.intersects(Groups::HOST) && self.host != Health::Measured)
            || (groups.intersects(Groups::MONITOR) && self.monitor != Health::Measured)
    }

    /// Forgets that answers were missed, when nobody is there who could be told.
    pub(super) fn lapse(&mut self, groups: Groups) {
        if groups.intersects(Groups::HOST) {
            self.host = Health::Measured;
        }
        if groups.intersects(Groups::MONITOR) {
            self.monitor = Health::Measured;
        }
    }

    /// The host has told of it; `None` when it told of others and not of this one. Interfaces bear their own ids already.
    pub(super) fn told(&mut self, host: Option<Told>, sequence: u64) {
        let Some(told) = host else {
            self.off(PowerState::NoState, sequence);
            return;
        };
        let counters = told.counters;
        if counters.life == 0 {
            self.off(counters.state, sequence);
            return;
        }
        let whole = self.host != Health::Measured || self.state != counters.state;
        self.host = Health::Measured;
        self.state = counters.state;
        if self.life != Some(counters.life) {
            if self.life.is_some() {
                self.marks.reset = sequence;
                self.marks.whole = sequence;
            }
            self.life = Some(counters.life);
            self.unmonitor(sequence);
        }
        self.on = true;
        if whole {
            self.marks.whole = sequence;
        }
        let mut changed = Groups::empty();
        let mut note = |differs, group| changed.set(group, differs);
        note(self.cpu_time_ns != counters.cpu_time_ns, Groups::CPU);
        note(self.cpus != counters.cpus, Groups::VCPU);
        note(self.memory != counters.memory, Groups::MEMORY);
        note(self.interfaces != told.interfaces, Groups::INTERFACE);
        self.marks.touch(changed, sequence);
        self.cpu_time_ns = counters.cpu_time_ns;
        self.cpus = counters.cpus;
        self.memory = counters.memory;
        self.interfaces = told.interfaces;
    }

    /// The hypervisor did not tell of any guest, or could not read this one.
    pub(super) fn untold(&mut self, now: SystemTime, away: bool, sequence: u64) {
        let health = self.host.missed(now, away);
        if self.host != health || self.state != PowerState::Unknown {
            self.marks.whole = sequence;
        }
        self.host = health;
        self.state = PowerState::Unknown;
        self.bare(sequence);
        self.set_monitored(None, Vec::new(), sequence);
    }

    /// Its monitor was asked. Disks bear their own ids already.
    pub(super) fn answered(&mut self, answer: Answer, now: SystemTime, sequence: u64) {
        let (health, balloon, disks) = match answer {
            // Of another start than the host told of: one of the two comes from before.
            Answer::Counters { life, .. } if Some(life) != self.life => {
                (self.monitor.missed(now, false), None, Vec::new())
            }
            Answer::Counters { balloon, disks, .. } => (Health::Measured, balloon, disks),
            Answer::Nothing => (Health::Measured, None, Vec::new()),
            Answer::Missing { hung } => (self.monitor.missed(now, hung), None, Vec::new()),
        };
        if self.monitor != health {
            self.marks.touch(Groups::MONITOR, sequence);
        }
        self.monitor = health;
        self.set_monitored(balloon, disks, sequence);
    }

    /// Forgets what its monitor said.
    fn unmonitor(&mut self, sequence: u64) {
        self.monitor = Health::Measured;
        self.set_monitored(None, Vec::new(), sequence);
    }

    fn set_monitored(
        &mut self,
        balloon: Option<BalloonCounters>,
        disks: Vec<(Arc<str>, BlockCounters)>,
        sequence: u64,
    ) {
        let mut changed = Groups::empty();
        changed.set(Groups::BALLOON, self.balloon != balloon);
        changed.set(Groups::BLOCK, self.disks != disks);
        self.marks.touch(changed, sequence);
        self.balloon = balloon;
        self.disks = disks;
    }

    fn off(&mut self, state: PowerState, sequence: u64) {
        if self.host != Health::Measured || self.state != state {
            self.marks.whole = sequence;
        }
        self.host = Health::Measured;
        self.state = state;
        self.on = false;
        self.life = self.life.or(Some(0));
        self.bare(sequence);
        self.unmonitor(sequence);
    }

    /// Without the host's counters.
    fn bare(&mut self, sequence: u64) {
        let mut lost = Groups::empty();
        lost.set(Groups::CPU, self.cpu_time_ns.take().is_some());
        lost.set(Groups::VCPU, !std::mem::take(&mut self.cpus).is_empty());
        lost.set(Groups::MEMORY, self.memory.take().is_some());
        let interfaces = std::mem::take(&mut self.interfaces);
        lost.set(Groups::INTERFACE, !interfaces.is_empty());
        self.marks.touch(lost, sequence);
    }
}

/// What the host told of a guest, its interfaces under their own ids.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) counters: HostCounters,
    pub(super) interfaces: Vec<(Arc<str>, InterfaceCounters)>,
}

/// What came of asking a guest's monitor.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its counters, disks under their own ids.
    Counters {
        life: u64,
        balloon: Option<BalloonCounters>,
        disks: Vec<(Arc<str>, BlockCounters)>,
    },
    /// There is nothing to count: it is off, or this hypervisor does not count.
    Nothing,
    /// No answer came.
    Missing {
        /// And none is to be expected soon.
        hung: bool,
    },
}

impl Answer {
    pub(super) fn of(
        answer: Result<MonitorCounters, HypervisorError>,
        disk: impl Fn(&str) -> Option<Arc<str>>,
    ) -> Self {
        match answer {
            Ok(counters) => Self::Counters {
                life: counters.life,
                balloon: counters.balloon,
                disks: counters
                    .disks
                    .iter()
                    .filter_map(|(target, counters)| Some((disk(target)?, *counters)))
                    .collect(),
            },
            Err(
                HypervisorError::State { .. }
                | HypervisorError::NotFound(_)
                | HypervisorError::Unsupported { .. },
            ) => Self::Nothing,
            Err(HypervisorError::Timeout { .. } | HypervisorError::Unavailable { .. }) => {
                Self::Missing { hung: true }
            }
            Err(_) => Self::Missing { hung: false },
        }
    }
}
