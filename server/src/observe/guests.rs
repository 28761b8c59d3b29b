//! The guests' own series, for the page: of the sampler that streams are fed by, so that a scrape costs libvirt no more
//! than one more listener does.
//!
//! A guest that does not answer shows as not fresh, and its counters are absent: a counter that stood still would look
//! like a guest that does nothing.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use tracing::debug;

use super::{LOOK, state_word};
use crate::{
    host::Host,
    hypervisor::stats::Groups,
    metrics::{self, Family, GUESTS, Metric, Value},
    sampler::{Entry, Health, Sampler},
};

/// Two Prometheus that scrape in turn share a sample; none shows what is older.
const AGE: Duration = Duration::from_secs(1);

/// The guests' series, as far as they can be had in time.
pub(super) async fn look(host: &Host, sampler: &Sampler) -> Vec<Metric> {
    let mut told = Told::default();
    let records = host.store.instances();
    for record in &records {
        let spec = &record.spec;
        let (id, flavor) = (spec.id.to_string(), &spec.flavor.name);
        let labels = [&*id, &*spec.display_name, &**flavor];
        told.put(&metrics::INSTANCE, &labels, Some(Value::Int(1)));
    }
    match timeout(LOOK, sampler.now(Groups::all(), AGE)).await {
        Ok(Some(sample)) => sample.entries.iter().for_each(|entry| told.guest(entry)),
        Ok(None) => debug!("the sampler has ended"),
        Err(_) => {
            debug!("guests cannot be measured in time");
            for record in &records {
                told.fresh(&record.spec.id.to_string(), [false, false]);
            }
        }
    }
    let mut told = told.0;
    let families = GUESTS.iter().filter_map(|family| told.remove(family.name));
    families.collect()
}

/// Series by the names of their families.
#[derive(Debug, Default)]
struct Told(BTreeMap<&'static str, Metric>);

fn seconds(nanos: Option<u64>) -> Option<Value> {
    nanos.map(|nanos| Value::Float(Duration::from_nanos(nanos).as_secs_f64()))
}

fn bytes(kib: Option<u64>) -> Option<Value> {
    kib.map(|kib| Value::Int(kib.saturating_mul(1024)))
}

fn count(value: Option<u64>) -> Option<Value> {
    value.map(Value::Int)
}

impl Told {
    fn put(&mut self, family: &'static Family, labels: &[&str], value: Option<Value>) {
        let Some(value) = value else { return };
        let metric = self.0.entry(family.name);
        let metric = metric.or_insert_with(|| Metric::new(family));
        let labels = labels.iter().map(|label| (*label).to_owned().into());
        metric.push(labels.collect(), value);
    }

    /// Whether the host's part and the monitor's are fresh.
    fn fresh(&mut self, id: &str, fresh: [bool; 2]) {
        for (source, fresh) in ["host", "monitor"].into_iter().zip(fresh) {
            let fresh = Value::Int(u64::from(fresh));
            self.put(&metrics::GUEST_FRESH, &[id, source], Some(fresh));
        }
    }

    fn guest(&mut self, entry: &Entry) {
        let id = &*entry.id.to_string();
        self.fresh(
            id,
            [entry.host, entry.monitor].map(|health| health == Health::Measured),
        );
        let state = state_word(entry.state);
        self.put(&metrics::GUEST_STATE, &[id, state], Some(Value::Int(1)));
        if entry.host == Health::Measured {
            self.host(id, entry);
        }
        if entry.host == Health::Measured && entry.monitor == Health::Measured {
            self.monitor(id, entry);
        }
    }

    fn host(&mut self, id: &str, entry: &Entry) {
        self.put(&metrics::GUEST_CPU, &[id], seconds(entry.cpu_time_ns));
        for cpu in &entry.cpus {
            let vcpu = [id, &*cpu.id.to_string()];
            self.put(&metrics::GUEST_VCPU, &vcpu, seconds(cpu.time_ns));
            self.put(&metrics::GUEST_VCPU_DELAY, &vcpu, seconds(cpu.delay_ns));
        }
        if let Some(memory) = &entry.memory {
            self.put(
                &metrics::GUEST_MEMORY_MAX,
                &[id],
                bytes(Some(memory.maximum_kib)),
            );
            self.put(&metrics::GUEST_MEMORY, &[id], bytes(memory.current_kib));
            self.put(
                &metrics::GUEST_MEMORY_RESIDENT,
                &[id],
                bytes(memory.rss_kib),
            );
        }
        for (interface, counters) in &entry.interfaces {
            let labels = [id, &**interface];
            let rows = [
                (&metrics::GUEST_RX, counters.rx_bytes),
                (&metrics::GUEST_RX_PACKETS, counters.rx_packets),
                (&metrics::GUEST_RX_ERRORS, counters.rx_errs),
                (&metrics::GUEST_RX_DROPS, counters.rx_drop),
                (&metrics::GUEST_TX, counters.tx_bytes),
                (&metrics::GUEST_TX_PACKETS, counters.tx_packets),
                (&metrics::GUEST_TX_ERRORS, counters.tx_errs),
                (&metrics::GUEST_TX_DROPS, counters.tx_drop),
            ];
            for (family, value) in rows {
                self.put(family, &labels, count(value));
            }
        }
    }

    fn monitor(&mut self, id: &str, entry: &Entry) {
        if let Some(balloon) = &entry.balloon {
            self.put(
                &metrics::GUEST_MEMORY_UNUSED,
                &[id],
                bytes(balloon.unused_kib),
            );
            self.put(
                &metrics::GUEST_MEMORY_USABLE,
                &[id],
                bytes(balloon.available_kib),
            );
        }
        for (disk, counters) in &entry.disks {
            let labels = [id, &**disk];
            let rows = [
                (&metrics::GUEST_READ, count(counters.rd_bytes)),
                (&metrics::GUEST_READS, count(counters.rd_req)),
                (&metrics::GUEST_READ_TIME, seconds(counters.rd_time_ns)),
                (&metrics::GUEST_WRITE, count(counters.wr_bytes)),
                (&metrics::GUEST_WRITES, count(counters.wr_req)),
                (&metrics::GUEST_WRITE_TIME, seconds(counters.wr_time_ns)),
                (&metrics::GUEST_FLUSHES, count(counters.fl_req)),
                (&metrics::GUEST_FLUSH_TIME, seconds(counters.fl_time_ns)),
                (&metrics::GUEST_BLOCK_ERRORS, count(counters.errs)),
            ];
            for (family, value) in rows {
                self.put(family, &labels, value);
            }
        }
    }
}
