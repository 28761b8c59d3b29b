//! What the host counts of guests. Nothing here asks a guest's monitor.

use std::{collections::HashSet, time::Duration};

use tracing::debug;
use virt::{
    connect::Connect,
    domain::{Domain as Handle, DomainState, DomainStateEnum},
    error::ErrorNumber,
    sys,
};

use super::{
    super::{
        fault::Fault,
        ffi::{Record, Stats, Value},
        guest::{self, Owned},
    },
    Counters,
    emulator::Sight,
    rows::{Rows, indexed},
    tap::Macs,
};
use crate::{
    hypervisor::{
        HypervisorError,
        stats::{Groups, HostCounters, InterfaceCounters, MemoryUse},
    },
    model::{InstanceId, PowerState},
};

/// Of all guests of ours, those that are off included. Guests that go while we look are left out. What is wrong with one
/// of them is told of that one: only a lost connection ends the look at all.
pub(in super::super) fn all(
    conn: &Connect,
    owned: &Owned,
    counters: &Counters,
    groups: Groups,
) -> Result<Vec<HostCounters>, Fault> {
    let stats = Stats::of_all(conn, asked(groups))?;
    let mut saved = Saved { conn, found: None };
    let mut all = Vec::new();
    for record in stats.records() {
        let Some(id) = record.uuid().map(InstanceId::from) else {
            continue;
        };
        let counted = match ours(&record, owned, id) {
            Ok(true) => count_any(&record, id, counters, groups),
            Ok(false) => continue,
            Err(fault) => Err(fault),
        };
        match counted {
            Ok(counted) => all.push(counted),
            Err(fault) if is_gone(&fault) => {}
            Err(fault) if fault.is_loss() => return Err(fault),
            Err(fault) => {
                debug!(instance = %id, ?fault, "a guest's counters cannot be read");
                all.push(blank(id, PowerState::Unknown));
            }
        }
    }
    for off in all.iter_mut().filter(|guest| guest.life == 0) {
        if off.state == PowerState::Shutdown && saved.has(off.id)? {
            off.state = PowerState::Suspended;
        }
    }
    let present = all.iter().map(|guest| guest.id).collect();
    counters.emulators.keep(&present);
    counters.lives.keep(&present);
    counters.taps.keep(&present);
    Ok(all)
}

/// Of one guest.
pub(in super::super) fn one(
    conn: &Connect,
    owned: &Owned,
    counters: &Counters,
    id: InstanceId,
    groups: Groups,
) -> Result<HostCounters, Fault> {
    let domain = guest::readable(conn, owned, id)?;
    let stats = Stats::of_one(&domain, asked(groups))?;
    let record = stats.records().next();
    let record = record.ok_or(HypervisorError::NotFound(id))?;
    let mut counted = count(&record, id, counters, groups)?;
    if counted.state == PowerState::Shutdown && domain.has_managed_save(0).unwrap_or(false) {
        counted.state = PowerState::Suspended;
    }
    Ok(counted)
}

/// The groups of libvirt's that cost no question to a monitor.
fn asked(groups: Groups) -> u32 {
    let interface = if groups.contains(Groups::INTERFACE) {
        sys::VIR_DOMAIN_STATS_INTERFACE
    } else {
        0
    };
    sys::VIR_DOMAIN_STATS_STATE | interface
}

fn ours(record: &Record<'_>, owned: &Owned, id: InstanceId) -> Result<bool, Fault> {
    let ours = owned.knows(id) || guest::is_ours(&record.domain()?)?;
    if ours {
        owned.note(id);
    }
    Ok(ours)
}

/// It went while we looked.
fn is_gone(fault: &Fault) -> bool {
    fault.is(ErrorNumber::NoDomain) || fault.is(ErrorNumber::OperationInvalid)
}

/// As much as can be counted. Whose taps they are cannot be learnt while somebody is at work on the guest, nor from a
/// definition that cannot be read: the next sweep may.
fn count_any(
    record: &Record<'_>,
    id: InstanceId,
    counters: &Counters,
    groups: Groups,
) -> Result<HostCounters, Fault> {
    match count(record, id, counters, groups) {
        Err(fault)
            if groups.contains(Groups::INTERFACE) && !is_gone(&fault) && !fault.is_loss() =>
        {
            debug!(instance = %id, ?fault, "a guest's interfaces cannot be counted");
            count(record, id, counters, groups - Groups::INTERFACE)
        }
        counted => counted,
    }
}

/// A guest of which nothing is counted.
fn blank(id: InstanceId, state: PowerState) -> HostCounters {
    HostCounters {
        id,
        state,
        life: 0,
        cpu_time_ns: None,
        cpus: Vec::new(),
        memory: None,
        interfaces: Vec::new(),
    }
}

fn count(
    record: &Record<'_>,
    id: InstanceId,
    counters: &Counters,
    groups: Groups,
) -> Result<HostCounters, Fault> {
    let mut told = Told::read(record);
    if !groups.contains(Groups::INTERFACE) {
        told.taps.clear();
    }
    let mut counted = blank(id, guest::power(told.state, false));
    let Some(run) = record.run() else {
        return Ok(counted);
    };
    let sight = counters.emulators.look_at_running(id);
    counted.life = counters.life(id, sight.as_ref(), run);
    take(&mut counted, record, sight.as_ref(), groups)?;
    if let Some(sight) = sight.filter(|_| groups.contains(Groups::VCPU)) {
        counted.cpus = counters.emulators.cpus(id, &sight);
    }
    if !told.taps.is_empty() {
        let macs = macs(record, counters, &counted, &told)?;
        let named = told.taps.into_iter().filter_map(|tap| {
            let mac = macs.get(tap.name)?.clone();
            Some((mac, tap.counters))
        });
        counted.interfaces = named.collect();
    }
    Ok(counted)
}

/// Processor time and memory. What a guest may have and has only libvirt knows; it tells processor time with that.
fn take(
    counted: &mut HostCounters,
    record: &Record<'_>,
    sight: Option<&Sight>,
    groups: Groups,
) -> Result<(), Fault> {
    let cpu = groups.contains(Groups::CPU);
    counted.cpu_time_ns = sight.filter(|_| cpu).map(Sight::cpu_time_ns);
    let memory = groups.contains(Groups::MEMORY);
    if !memory && (!cpu || sight.is_some()) {
        return Ok(());
    }
    let info = record.domain()?.info()?;
    if cpu {
        counted.cpu_time_ns.get_or_insert(info.cpu_time);
    }
    counted.memory = memory.then(|| MemoryUse {
        maximum_kib: info.max_mem,
        current_kib: Some(info.memory),
        rss_kib: sight.map(Sight::rss_kib),
    });
    Ok(())
}

fn macs(
    record: &Record<'_>,
    counters: &Counters,
    counted: &HostCounters,
    told: &Told<'_>,
) -> Result<std::sync::Arc<Macs>, Fault> {
    let (id, life) = (counted.id, counted.life);
    let names = told.taps.iter().map(|tap| tap.name);
    if let Some(macs) = counters.taps.known(id, life, names) {
        return Ok(macs);
    }
    let definition = guest::definition(&record.domain()?, Duration::ZERO)?;
    let live = crate::domain::read(&definition).map_err(|e| guest::unreadable(&e))?;
    let taps = live.interfaces.into_iter();
    let macs = taps.filter_map(|nic| Some((nic.target?, nic.mac.to_string())));
    Ok(counters.taps.learn(id, life, macs.collect()))
}

/// What libvirt's record says.
struct Told<'a> {
    state: DomainState,
    taps: Vec<Tap<'a>>,
}

#[derive(Default)]
struct Tap<'a> {
    name: &'a str,
    counters: InterfaceCounters,
}

impl<'a> Told<'a> {
    fn read(record: &Record<'a>) -> Self {
        let mut state = DomainState::NoState;
        let mut taps = Rows::new();
        for (name, value) in record.values() {
            if name == "state.state" {
                state = word(value).unwrap_or(state);
            } else if let Some((index, name)) = indexed(name, "net") {
                interface(taps.at(index), name, value);
            }
        }
        // An interface without a tap has no name.
        let named = taps
            .into_values()
            .filter(|tap: &Tap<'_>| !tap.name.is_empty());
        Self {
            state,
            taps: named.collect(),
        }
    }
}

/// A state newer than this program's list is none that it has a word for.
pub(super) fn word(value: Value<'_>) -> Option<DomainState> {
    let raw = u32::try_from(value.number()?).ok()?;
    let state = DomainStateEnum::from_raw(raw);
    Some(state.unwrap_or(DomainState::NoState))
}

/// libvirt tells the guest's side: what the host sends to a tap is what the guest receives.
fn interface<'a>(tap: &mut Tap<'a>, name: &str, value: Value<'a>) {
    let counters = &mut tap.counters;
    let field = match name {
        "name" => {
            tap.name = value.text().unwrap_or_default();
            return;
        }
        "rx.bytes" => &mut counters.rx_bytes,
        "rx.pkts" => &mut counters.rx_packets,
        "rx.errs" => &mut counters.rx_errs,
        "rx.drop" => &mut counters.rx_drop,
        "tx.bytes" => &mut counters.tx_bytes,
        "tx.pkts" => &mut counters.tx_packets,
        "tx.errs" => &mut counters.tx_errs,
        "tx.drop" => &mut counters.tx_drop,
        _ => return,
    };
    *field = value.number();
}

/// Guests with a saved state that waits for their next start: asked once, and only when a guest is off.
struct Saved<'a> {
    conn: &'a Connect,
    found: Option<HashSet<InstanceId>>,
}

impl Saved<'_> {
    fn has(&mut self, id: InstanceId) -> Result<bool, Fault> {
        let found = match self.found.take() {
            Some(found) => found,
            None => {
                let saved = sys::VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE;
                let listed = self.conn.list_all_domains(saved)?;
                let ids = listed.iter().map(Handle::uuid);
                ids.map(|id| id.map(InstanceId::from))
                    .collect::<Result<_, _>>()?
            }
        };
        Ok(self.found.insert(found).contains(&id))
    }
}
