//! One instance: its counters as last read, and how fast they grow.

use std::collections::BTreeMap;

use computedriver::v1;
use computedriver::v1::SampleStatus;
use prost_types::Timestamp;

use super::meter::Meter;

/// Whether the counters of an instance are of now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// They are.
    #[default]
    Measured,
    /// It was busy at the last sample and was passed over.
    Busy,
    /// It has not answered for longer.
    Stale {
        /// Since when, by the server's clock.
        since: Option<Timestamp>,
    },
}

/// Growth a second of what an instance uses; absent where it is not known. Disks and interfaces are sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Processors in use: 1.0 is one whole processor.
    pub cpu: Option<f64>,
    /// Bytes read from disks.
    pub read_bytes: Option<f64>,
    /// Bytes written to disks.
    pub write_bytes: Option<f64>,
    /// Read requests.
    pub read_requests: Option<f64>,
    /// Write requests.
    pub write_requests: Option<f64>,
    /// Bytes received by the guest.
    pub rx_bytes: Option<f64>,
    /// Bytes sent by the guest.
    pub tx_bytes: Option<f64>,
}

/// What is known of one instance; part of a [`StatsView`](super::StatsView).
#[derive(Clone, Debug, Default)]
pub struct InstanceUsage {
    id: String,
    standing: Standing,
    counters: v1::InstanceStats,
    cpu: Meter,
    disks: BTreeMap<String, [Meter; 4]>,
    interfaces: BTreeMap<String, [Meter; 2]>,
}

impl InstanceUsage {
    /// UUID of the instance.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether its counters are of now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Its counters as they were last read: of a guest that does not answer, each group when it was last there.
    #[must_use]
    pub fn counters(&self) -> &v1::InstanceStats {
        &self.counters
    }

    /// How fast its counters grew up to the last sample.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let [read_bytes, write_bytes, read_requests, write_requests] = sums(&self.disks);
        let [rx_bytes, tx_bytes] = sums(&self.interfaces);
        Rates {
            cpu: self.cpu.rate().map(|nanoseconds| nanoseconds / 1e9),
            read_bytes,
            write_bytes,
            read_requests,
            write_requests,
            rx_bytes,
            tx_bytes,
        }
    }

    /// A batch names it.
    pub(super) fn listed(
        &mut self,
        sample: &v1::SampleState,
        stats: v1::InstanceStats,
        at: Option<i128>,
    ) {
        self.id.clone_from(&sample.instance_id);
        self.standing = match sample.status() {
            SampleStatus::BusySkipped => Standing::Busy,
            SampleStatus::Stale => Standing::Stale {
                since: sample.stale_since,
            },
            // A status added to the contract later comes with counters or without; both are taken as they are.
            SampleStatus::Ok | SampleStatus::Unspecified | SampleStatus::Gone => Standing::Measured,
        };
        if sample.reset {
            self.forget();
        }
        let measured = self.standing == Standing::Measured;
        self.cpu.read(cpu_time(&stats), at);
        self.read_devices(&stats, at);
        if measured {
            self.counters = stats;
        } else {
            self.merge(stats);
        }
    }

    /// A batch of what changed does not name it: what was read is as it was.
    pub(super) fn unlisted(&mut self, at: Option<i128>) {
        match self.standing {
            Standing::Measured => self.each(|meter| meter.rest(at)),
            Standing::Busy | Standing::Stale { .. } => self.each(Meter::pause),
        }
    }

    /// Rates begin anew.
    pub(super) fn forget(&mut self) {
        self.each(Meter::forget);
    }

    fn each(&mut self, mut change: impl FnMut(&mut Meter)) {
        change(&mut self.cpu);
        self.disks.values_mut().flatten().for_each(&mut change);
        self.interfaces.values_mut().flatten().for_each(&mut change);
    }

    fn read_devices(&mut self, stats: &v1::InstanceStats, at: Option<i128>) {
        let disks = stats.disks.iter().map(|d| {
            let values = [d.rd_bytes, d.wr_bytes, d.rd_req, d.wr_req];
            (d.disk_id.as_str(), values)
        });
        read_group(&mut self.disks, disks, at);
        let interfaces = stats.interfaces.iter();
        let interfaces = interfaces.map(|i| (i.interface_id.as_str(), [i.rx_bytes, i.tx_bytes]));
        read_group(&mut self.interfaces, interfaces, at);
    }

    /// A group that a guest did not answer keeps its last values.
    fn merge(&mut self, stats: v1::InstanceStats) {
        let before = std::mem::replace(&mut self.counters, stats);
        let now = &mut self.counters;
        now.cpu_time_ns = now.cpu_time_ns.or(before.cpu_time_ns);
        now.memory = match (now.memory, before.memory) {
            (Some(now), Some(before)) => Some(merged(now, before)),
            (now, before) => now.or(before),
        };
        if now.cpus.is_empty() {
            now.cpus = before.cpus;
        }
        if now.disks.is_empty() {
            now.disks = before.disks;
        }
        if now.interfaces.is_empty() {
            now.interfaces = before.interfaces;
        }
    }
}

/// What the host sees of it is of now; what the guest says may be of before.
fn merged(now: v1::MemoryDiagnostics, before: v1::MemoryDiagnostics) -> v1::MemoryDiagnostics {
    v1::MemoryDiagnostics {
        unused_kib: now.unused_kib.or(before.unused_kib),
        available_kib: now.available_kib.or(before.available_kib),
        ..now
    }
}

/// The whole guest's time, or the sum of its processors' where only they are told.
fn cpu_time(stats: &v1::InstanceStats) -> Option<i64> {
    let times = || stats.cpus.iter().map(|cpu| cpu.time_ns);
    let summed = || times().try_fold(0i64, |sum, time| sum.checked_add(time?));
    let told = stats.cpu_time_ns;
    told.or_else(|| (!stats.cpus.is_empty()).then(summed).flatten())
}

/// A device that is gone from its group is forgotten; a group that is absent may come back.
fn read_group<'a, const N: usize>(
    meters: &mut BTreeMap<String, [Meter; N]>,
    devices: impl ExactSizeIterator<Item = (&'a str, [Option<i64>; N])>,
    at: Option<i128>,
) {
    if devices.len() == 0 {
        meters.values_mut().flatten().for_each(Meter::pause);
        return;
    }
    let mut before = std::mem::take(meters);
    for (id, values) in devices {
        let mut known = before.remove(id).unwrap_or_else(|| [Meter::default(); N]);
        for (meter, value) in known.iter_mut().zip(values) {
            meter.read(value, at);
        }
        meters.insert(id.to_owned(), known);
    }
}

/// Sums of the rates that are known; absent when none is.
fn sums<const N: usize>(devices: &BTreeMap<String, [Meter; N]>) -> [Option<f64>; N] {
    std::array::from_fn(|nth| {
        let known = devices.values().filter_map(|meters| meters[nth].rate());
        known.reduce(|sum, rate| sum + rate)
    })
}
