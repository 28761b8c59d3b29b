//! Requests for streams of counters ⇄ wishes of the sampler, and its batches → wire.

mod pages;

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::Bytes;
use computedriver::v1;

use super::{
    fault::Faults,
    out::{duration, power_state, timestamp},
    stats::{block_counters, cpu_counters, interface_counters, memory, wire},
};
use crate::{
    error::Error,
    hypervisor::stats::Groups,
    model::InstanceId,
    sampler::{Batch, Entry, Health, View},
};

/// Between batches when the caller does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// What intervals may be.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// More instances than this are asked for by asking for all.
const IDS: usize = 1000;

/// A stream of counters as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) view: View,
    pub(crate) groups: Groups,
    /// Only these; none is all.
    pub(crate) ids: Option<Arc<BTreeSet<InstanceId>>>,
    pub(crate) interval: Duration,
    pub(crate) full_every: Option<Duration>,
}

pub(crate) fn block_watch(request: &v1::StreamBlockStatsRequest) -> Result<Watch, Error> {
    let mut faults = Faults::default();
    let what = Some((View::Disks, Groups::BLOCK));
    let times = (request.interval, request.full_every);
    let watch = watch(&mut faults, what, &request.instance_ids, times);
    faults.into_result(|| watch)
}

pub(crate) fn interface_watch(request: &v1::StreamInterfaceStatsRequest) -> Result<Watch, Error> {
    let mut faults = Faults::default();
    let what = Some((View::Interfaces, Groups::INTERFACE));
    let times = (request.interval, request.full_every);
    let watch = watch(&mut faults, what, &request.instance_ids, times);
    faults.into_result(|| watch)
}

pub(crate) fn instance_watch(request: &v1::StreamInstanceStatsRequest) -> Result<Watch, Error> {
    let mut faults = Faults::default();
    let groups = groups(&mut faults, &request.groups);
    let what = groups.map(|groups| (View::Whole, groups));
    let times = (request.interval, request.full_every);
    let watch = watch(&mut faults, what, &request.instance_ids, times);
    faults.into_result(|| watch)
}

fn watch(
    faults: &mut Faults,
    what: Option<(View, Groups)>,
    ids: &[String],
    (interval, full_every): (Option<prost_types::Duration>, Option<prost_types::Duration>),
) -> Option<Watch> {
    let ids = selected(faults, ids);
    let interval = faults.time("interval", interval, TIMES);
    let full_every = faults.time("full_every", full_every, TIMES);
    let (view, groups) = what?;
    Some(Watch {
        view,
        groups,
        ids: ids?.map(Arc::new),
        interval: interval?.unwrap_or(INTERVAL),
        full_every: full_every?,
    })
}

/// The instances; `Some(None)` is all of them.
fn selected(faults: &mut Faults, ids: &[String]) -> Option<Option<BTreeSet<InstanceId>>> {
    if ids.is_empty() {
        return Some(None);
    }
    faults.at_most("instance_ids", ids.len(), IDS);
    let parsed = ids.iter().take(IDS).enumerate();
    let parsed = parsed.map(|(at, id)| faults.take(&format!("instance_ids[{at}]"), id.parse()));
    let parsed: Vec<Option<InstanceId>> = parsed.collect();
    parsed.into_iter().collect::<Option<_>>().map(Some)
}

fn groups(faults: &mut Faults, asked: &[i32]) -> Option<Groups> {
    if asked.is_empty() {
        return Some(Groups::all());
    }
    let mut groups = Groups::empty();
    let mut seen = BTreeSet::new();
    for (at, group) in asked.iter().enumerate() {
        let field = format!("groups[{at}]");
        let known = match v1::StatsGroup::try_from(*group) {
            Ok(v1::StatsGroup::Unspecified) | Err(_) => Err("must be one of the groups by name"),
            Ok(_) if !seen.insert(*group) => Err("must be named once"),
            Ok(group) => Ok(measured(group)),
        };
        groups |= faults.take(&field, known).unwrap_or_default();
    }
    Some(groups)
}

fn measured(group: v1::StatsGroup) -> Groups {
    match group {
        v1::StatsGroup::Unspecified | v1::StatsGroup::State => Groups::empty(),
        v1::StatsGroup::Cpu => Groups::CPU,
        v1::StatsGroup::Vcpu => Groups::VCPU,
        v1::StatsGroup::Memory => Groups::MEMORY,
        // What the guest says is of little use without what it has, which costs next to nothing.
        v1::StatsGroup::Balloon => Groups::BALLOON | Groups::MEMORY,
        v1::StatsGroup::Block => Groups::BLOCK,
        v1::StatsGroup::Interface => Groups::INTERFACE,
    }
}

impl Watch {
    /// The batch on the wire, in as many messages as it takes. Who looks at the same instances shares the bytes.
    pub(crate) fn encode(&self, batch: &Batch) -> Arc<[Bytes]> {
        let encode = || match self.view {
            View::Disks => self.disks(batch),
            View::Interfaces => self.interfaces(batch),
            View::Whole => self.whole(batch),
        };
        batch.encoded((self.view, self.groups, self.ids.clone()), encode)
    }

    fn looks_at(&self, id: InstanceId) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }

    /// What is told of each instance, `tell` from its entry and `gone` of one that is not here any more.
    fn each<T>(
        &self,
        batch: &Batch,
        tell: impl Fn(v1::SampleState, &Entry) -> T,
        gone: impl Fn(v1::SampleState) -> T,
    ) -> Vec<T> {
        let entries = batch.entries(self.groups).map(Arc::as_ref);
        let entries = entries.filter(|entry: &&Entry| self.looks_at(entry.id));
        let told = entries.map(|entry| tell(self.state(batch, entry), entry));
        let left = batch.gone().filter(|id| self.looks_at(*id));
        // It went between the request and the first sample.
        let first = self.ids.iter().flat_map(|ids| ids.iter().copied());
        let first = first.filter(|id| batch.is_first() && batch.sample.entry(*id).is_none());
        told.chain(left.chain(first).map(|id| gone(departed(id))))
            .collect()
    }

    fn state(&self, batch: &Batch, entry: &Entry) -> v1::SampleState {
        let (status, since) = match entry.health(self.groups) {
            Health::Measured => (v1::SampleStatus::Ok, None),
            Health::Skipped { .. } => (v1::SampleStatus::BusySkipped, None),
            Health::Stale { since } => (v1::SampleStatus::Stale, Some(since)),
        };
        v1::SampleState {
            instance_id: entry.id.to_string(),
            status: status.into(),
            stale_since: since.map(timestamp),
            reset: batch.reset(entry),
        }
    }

    fn disks(&self, batch: &Batch) -> Arc<[Bytes]> {
        let tell = |sample, entry: &Entry| v1::InstanceBlockStats {
            sample: Some(sample),
            disks: disks(entry),
        };
        let gone = |sample| v1::InstanceBlockStats {
            sample: Some(sample),
            ..v1::InstanceBlockStats::default()
        };
        pages::encode(self.each(batch, tell, gone), |page| {
            v1::StreamBlockStatsResponse {
                sequence: batch.sample.sequence,
                collect_time: Some(timestamp(batch.sample.time)),
                interval: batch.interval().map(duration),
                full: batch.is_full() && page.first,
                instances: page.items,
                more: page.more,
            }
        })
    }

    fn interfaces(&self, batch: &Batch) -> Arc<[Bytes]> {
        let tell = |sample, entry: &Entry| v1::InstanceInterfaceStats {
            sample: Some(sample),
            interfaces: interfaces(entry),
        };
        let gone = |sample| v1::InstanceInterfaceStats {
            sample: Some(sample),
            ..v1::InstanceInterfaceStats::default()
        };
        pages::encode(self.each(batch, tell, gone), |page| {
            v1::StreamInterfaceStatsResponse {
                sequence: batch.sample.sequence,
                collect_time: Some(timestamp(batch.sample.time)),
                interval: batch.interval().map(duration),
                full: batch.is_full() && page.first,
                instances: page.items,
                more: page.more,
            }
        })
    }

    fn whole(&self, batch: &Batch) -> Arc<[Bytes]> {
        let gone = |sample| v1::InstanceStats {
            sample: Some(sample),
            ..v1::InstanceStats::default()
        };
        pages::encode(
            self.each(batch, |sample, entry| self.usage(sample, entry), gone),
            |page| v1::StreamInstanceStatsResponse {
                sequence: batch.sample.sequence,
                collect_time: Some(timestamp(batch.sample.time)),
                interval: batch.interval().map(duration),
                full: batch.is_full() && page.first,
                instances: page.items,
                more: page.more,
            },
        )
    }

    /// A sample may hold more than was asked for here: others ask too.
    fn usage(&self, sample: v1::SampleState, entry: &Entry) -> v1::InstanceStats {
        let asked = |group| self.groups.contains(group);
        let mut stats = v1::InstanceStats {
            sample: Some(sample),
            power_state: power_state(entry.state).into(),
            ..v1::InstanceStats::default()
        };
        if asked(Groups::CPU) {
            stats.cpu_time_ns = wire(entry.cpu_time_ns);
        }
        if asked(Groups::VCPU) {
            stats.cpus = entry.cpus.iter().map(cpu_counters).collect();
        }
        if asked(Groups::MEMORY) {
            let balloon = entry.balloon.filter(|_| asked(Groups::BALLOON));
            stats.memory = memory(entry.memory, balloon);
        }
        if asked(Groups::BLOCK) {
            stats.disks = disks(entry);
        }
        if asked(Groups::INTERFACE) {
            stats.interfaces = interfaces(entry);
        }
        stats
    }
}

fn departed(id: InstanceId) -> v1::SampleState {
    v1::SampleState {
        instance_id: id.to_string(),
        status: v1::SampleStatus::Gone.into(),
        ..v1::SampleState::default()
    }
}

fn disks(entry: &Entry) -> Vec<v1::BlockCounters> {
    let disks = entry.disks.iter();
    disks
        .map(|(id, counters)| block_counters(id, counters))
        .collect()
}

fn interfaces(entry: &Entry) -> Vec<v1::InterfaceCounters> {
    let interfaces = entry.interfaces.iter();
    interfaces
        .map(|(id, counters)| interface_counters(id, counters))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_wishes_is_of_everything_each_ten_seconds() {
        let watch = instance_watch(&v1::StreamInstanceStatsRequest::default()).unwrap();
        let wanted = Watch {
            view: View::Whole,
            groups: Groups::all(),
            ids: None,
            interval: Duration::from_secs(10),
            full_every: None,
        };
        assert_eq!(watch, wanted);
    }

    #[test]
    fn only_groups_that_are_named_are_wanted() {
        use v1::StatsGroup::{Balloon, Cpu, State};
        for (asked, wanted) in [
            (vec![State], Groups::empty()),
            (vec![State, Cpu], Groups::CPU),
            (vec![Balloon], Groups::BALLOON | Groups::MEMORY),
        ] {
            let request = v1::StreamInstanceStatsRequest {
                groups: asked.iter().map(|group| (*group).into()).collect(),
                ..Default::default()
            };
            assert_eq!(instance_watch(&request).unwrap().groups, wanted);
        }
    }

    #[test]
    fn every_fault_of_a_request_is_told() {
        let wrong = v1::StreamInstanceStatsRequest {
            instance_ids: vec!["nobody".to_owned(); 1001],
            interval: Some(prost_types::Duration {
                seconds: 0,
                nanos: 999_999_999,
            }),
            full_every: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
            groups: vec![2, 2, 99],
        };
        let refused = instance_watch(&wrong).unwrap_err();
        let violations = &refused.details().violations;
        let fields: Vec<_> = violations.iter().map(|fault| &*fault.field).collect();
        let first = ["groups[1]", "groups[2]", "instance_ids", "instance_ids[0]"];
        assert_eq!(fields[..4], first);
        assert_eq!(refused.fields()["faults"], "1005");
        let right = v1::StreamBlockStatsRequest {
            interval: Some(prost_types::Duration {
                seconds: 3600,
                nanos: 0,
            }),
            ..Default::default()
        };
        assert!(block_watch(&right).is_ok());
    }
}
