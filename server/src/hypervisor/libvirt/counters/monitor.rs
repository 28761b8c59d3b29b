//! What only a guest's monitor knows: counters of its disks, and what the guest says of its memory.

use virt::{connect::Connect, domain::DomainState, sys};

use super::{
    super::{
        fault::Fault,
        ffi::{Record, Stats, Value},
        guest::{self, Owned},
    },
    Counters,
    host::word,
    rows::{Rows, indexed},
};
use crate::{
    hypervisor::{
        HypervisorError,
        stats::{BalloonCounters, BlockCounters, Groups, MonitorCounters},
    },
    model::InstanceId,
};

/// Asks the guest. Waits for its monitor, but not for another job that has it: that is `Busy`.
///
/// One call for both groups: three questions to the monitor for all disks, two for the balloon. Cheaper ones exist for a
/// single disk only, and tell no times.
pub(in super::super) fn ask(
    conn: &Connect,
    owned: &Owned,
    counters: &Counters,
    id: InstanceId,
    groups: Groups,
) -> Result<MonitorCounters, Fault> {
    let domain = guest::readable(conn, owned, id)?;
    let stats = Stats::of_one(&domain, asked(groups))?;
    let record = stats.records().next();
    let record = record.ok_or(HypervisorError::NotFound(id))?;
    let told = Told::read(&record);
    let run = record.run().filter(|_| told.state != DomainState::Shutoff);
    let Some(run) = run else {
        return Err(guest::wrong_state(id, "domain is not running"));
    };
    if !told.has_answered(groups) {
        return Err(HypervisorError::Busy.into());
    }
    let sight = counters.emulators.look(id);
    Ok(MonitorCounters {
        life: counters.life(id, sight.as_ref(), run),
        disks: told.disks,
        balloon: told.balloon.filter(|_| groups.contains(Groups::BALLOON)),
    })
}

fn asked(groups: Groups) -> u32 {
    let ours_and_libvirts = [
        (Groups::BLOCK, sys::VIR_DOMAIN_STATS_BLOCK),
        (Groups::BALLOON, sys::VIR_DOMAIN_STATS_BALLOON),
    ];
    let asked = ours_and_libvirts
        .into_iter()
        .filter(|(ours, _)| groups.contains(*ours));
    asked.fold(sys::VIR_DOMAIN_STATS_STATE, |all, (_, group)| all | group)
}

/// What libvirt's record says.
#[derive(Debug)]
struct Told {
    state: DomainState,
    disks: Vec<(String, BlockCounters)>,
    balloon: Option<BalloonCounters>,
    /// What libvirt adds to a balloon's values from the host, and only if it could ask the monitor.
    rss: bool,
}

impl Told {
    fn read(record: &Record<'_>) -> Self {
        Self::of(record.values())
    }

    fn of<'a>(values: impl Iterator<Item = (&'a str, Value<'a>)>) -> Self {
        let mut told = Self {
            state: DomainState::NoState,
            disks: Vec::new(),
            balloon: None,
            rss: false,
        };
        let mut disks = Rows::new();
        for (name, value) in values {
            match name {
                "state.state" => told.state = word(value).unwrap_or(told.state),
                "balloon.rss" => told.rss = true,
                "balloon.unused" => told.balloon().unused_kib = value.number(),
                "balloon.usable" => told.balloon().available_kib = value.number(),
                _ => {
                    if let Some((index, name)) = indexed(name, "block") {
                        disk(disks.at(index), name, value);
                    }
                }
            }
        }
        // A drive without a name cannot be told from others.
        let named = disks
            .into_values()
            .filter(|(name, _): &(String, _)| !name.is_empty());
        told.disks = named.collect();
        told
    }

    fn balloon(&mut self) -> &mut BalloonCounters {
        self.balloon.get_or_insert_default()
    }

    /// Whether the monitor was asked: while another job has it libvirt leaves out what it cannot know.
    fn has_answered(&self, groups: Groups) -> bool {
        let disks = !groups.contains(Groups::BLOCK)
            || self.disks.is_empty()
            || self
                .disks
                .iter()
                .any(|(_, disk)| *disk != BlockCounters::default());
        let balloon = !groups.contains(Groups::BALLOON) || self.rss;
        disks && balloon
    }
}

fn disk((target, counters): &mut (String, BlockCounters), name: &str, value: Value<'_>) {
    let field = match name {
        "name" => {
            value.text().unwrap_or_default().clone_into(target);
            return;
        }
        "rd.reqs" => &mut counters.rd_req,
        "rd.bytes" => &mut counters.rd_bytes,
        "rd.times" => &mut counters.rd_time_ns,
        "wr.reqs" => &mut counters.wr_req,
        "wr.bytes" => &mut counters.wr_bytes,
        "wr.times" => &mut counters.wr_time_ns,
        "fl.reqs" => &mut counters.fl_req,
        "fl.times" => &mut counters.fl_time_ns,
        "errors" => &mut counters.errs,
        _ => return,
    };
    *field = value.number();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(values: &[(&'static str, Value<'static>)]) -> Told {
        Told::of(values.iter().copied())
    }

    #[test]
    fn disks_are_told_by_target_and_what_is_unknown_is_passed_over() {
        let told = told(&[
            ("state.state", Value::Number(1)),
            ("block.count", Value::Number(2)),
            ("block.0.name", Value::Text("vda")),
            ("block.0.rd.reqs", Value::Number(5)),
            ("block.0.rd.reqs.new", Value::Number(9)),
            ("block.0.wr.bytes", Value::Text("not a number")),
            ("block.1.name", Value::Text("sda")),
            ("block.1.fl.times", Value::Number(7)),
            ("block.2.rd.reqs", Value::Number(7)),
            ("what.is.this", Value::Number(7)),
        ]);
        assert_eq!(told.state, DomainState::Running);
        let [(vda, first), (sda, second)] = &told.disks[..] else {
            panic!("{told:?}");
        };
        assert_eq!(
            (&vda[..], first.rd_req, first.wr_bytes),
            ("vda", Some(5), None)
        );
        assert_eq!((&sda[..], second.fl_time_ns), ("sda", Some(7)));
        assert!(told.has_answered(Groups::BLOCK));
    }

    #[test]
    fn a_guest_whose_monitor_another_job_has_did_not_answer() {
        let without = told(&[
            ("block.0.name", Value::Text("vda")),
            ("block.0.path", Value::Text("/x")),
            ("balloon.current", Value::Number(1)),
        ]);
        assert!(!without.has_answered(Groups::BLOCK));
        assert!(!without.has_answered(Groups::BALLOON));
        let diskless = told(&[("balloon.rss", Value::Number(1))]);
        assert!(diskless.has_answered(Groups::BLOCK | Groups::BALLOON));
        assert_eq!(diskless.balloon, None);
    }
}
