//! Counters as lines of cells: what is absent is an empty cell, never zero.

use std::io;

use computedriver_client::v1;
use prost_types::Timestamp;

use crate::text;

/// The columns that every line begins with.
const COMMON: [&str; 6] = [
    "time",
    "sequence",
    "instance",
    "status",
    "stale_since",
    "reset",
];
const INSTANCE: [&str; 8] = [
    "power_state",
    "cpu_time_ns",
    "vcpus",
    "memory_maximum_kib",
    "memory_current_kib",
    "memory_unused_kib",
    "memory_available_kib",
    "memory_rss_kib",
];
const BLOCK: [&str; 10] = [
    "disk",
    "rd_req",
    "rd_bytes",
    "rd_time_ns",
    "wr_req",
    "wr_bytes",
    "wr_time_ns",
    "fl_req",
    "fl_time_ns",
    "errs",
];
const INTERFACE: [&str; 9] = [
    "interface",
    "rx_bytes",
    "rx_packets",
    "rx_errs",
    "rx_drop",
    "tx_bytes",
    "tx_packets",
    "tx_errs",
    "tx_drop",
];

/// The lines of one batch.
pub(super) struct Sheet {
    /// The contract's name of the message.
    pub(super) message: &'static str,
    /// Whether lines of the same kind went before.
    pub(super) begun: bool,
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// A batch that knows its lines.
pub(super) trait Rows {
    /// Its name in the contract.
    const MESSAGE: &'static str;
    /// Its own columns.
    const HEADERS: &'static [&'static str];

    fn place(&self) -> (Option<Timestamp>, u64);

    /// Whose, and the cells of each line; an instance has one at least.
    fn lines(&self) -> Vec<(&v1::SampleState, Vec<String>)>;
}

impl Sheet {
    pub(super) fn of<B: Rows>(batch: &B) -> Self {
        let (time, sequence) = batch.place();
        let row = |(sample, cells): (&v1::SampleState, Vec<String>)| {
            let reset = if sample.reset { "true" } else { "false" };
            let status = text::sample_status(sample.status()).to_owned();
            let common = [
                moment(time.as_ref()),
                sequence.to_string(),
                sample.instance_id.clone(),
                status,
                moment(sample.stale_since.as_ref()),
                reset.to_owned(),
            ];
            common.into_iter().chain(cells).collect()
        };
        Self {
            message: B::MESSAGE,
            begun: false,
            headers: COMMON.iter().chain(B::HEADERS).copied().collect(),
            rows: batch.lines().into_iter().map(row).collect(),
        }
    }

    /// One disk, measured now.
    pub(super) fn of_disk(instance: String, answer: &v1::GetBlockStatsResponse) -> Self {
        let cells = disk(&answer.counters.clone().unwrap_or_default());
        let time = answer.collect_time.as_ref();
        Self::once("GetBlockStatsResponse", &BLOCK, (time, instance, cells))
    }

    /// One interface, measured now.
    pub(super) fn of_interface(instance: String, answer: &v1::GetInterfaceStatsResponse) -> Self {
        let cells = interface(&answer.counters.clone().unwrap_or_default());
        let time = answer.collect_time.as_ref();
        Self::once(
            "GetInterfaceStatsResponse",
            &INTERFACE,
            (time, instance, cells),
        )
    }

    fn once(
        message: &'static str,
        headers: &[&'static str],
        (time, instance, cells): (Option<&Timestamp>, String, Vec<String>),
    ) -> Self {
        Self {
            message,
            begun: false,
            headers: ["time", "instance"]
                .iter()
                .chain(headers)
                .copied()
                .collect(),
            rows: vec![[moment(time), instance].into_iter().chain(cells).collect()],
        }
    }

    /// RFC 4180; the header once.
    pub(super) fn csv(&self) -> io::Result<Vec<u8>> {
        let mut writer = csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .from_writer(Vec::new());
        if !self.begun {
            writer.write_record(&self.headers)?;
        }
        for row in &self.rows {
            writer.write_record(row)?;
        }
        writer
            .into_inner()
            .map_err(|e| io::Error::other(e.to_string()))
    }

    /// For people: columns that say nothing are left out.
    pub(super) fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let silent = |cell: &String| cell.is_empty() || cell == "false";
        let told: Vec<usize> = (0..self.headers.len())
            .filter(|&column| self.rows.iter().any(|row| !silent(&row[column])))
            .collect();
        let rows = self.rows.iter();
        let rows = rows.map(|row| told.iter().map(|&column| row[column].clone()).collect());
        let headers = told.iter().map(|&column| self.headers[column]);
        (headers.collect(), rows.collect())
    }
}

impl Rows for v1::StreamInstanceStatsResponse {
    const MESSAGE: &'static str = "StreamInstanceStatsResponse";
    const HEADERS: &'static [&'static str] = &INSTANCE;

    fn place(&self) -> (Option<Timestamp>, u64) {
        (self.collect_time, self.sequence)
    }

    fn lines(&self) -> Vec<(&v1::SampleState, Vec<String>)> {
        let line = |i| -> Option<_> {
            let i: &v1::InstanceStats = i;
            Some((i.sample.as_ref()?, instance(i)))
        };
        self.instances.iter().filter_map(line).collect()
    }
}

impl Rows for v1::StreamBlockStatsResponse {
    const MESSAGE: &'static str = "StreamBlockStatsResponse";
    const HEADERS: &'static [&'static str] = &BLOCK;

    fn place(&self) -> (Option<Timestamp>, u64) {
        (self.collect_time, self.sequence)
    }

    fn lines(&self) -> Vec<(&v1::SampleState, Vec<String>)> {
        let of = self.instances.iter().filter_map(|i| {
            let disks = i.disks.iter().map(disk).collect();
            Some(devices(i.sample.as_ref()?, disks, BLOCK.len()))
        });
        of.flatten().collect()
    }
}

impl Rows for v1::StreamInterfaceStatsResponse {
    const MESSAGE: &'static str = "StreamInterfaceStatsResponse";
    const HEADERS: &'static [&'static str] = &INTERFACE;

    fn place(&self) -> (Option<Timestamp>, u64) {
        (self.collect_time, self.sequence)
    }

    fn lines(&self) -> Vec<(&v1::SampleState, Vec<String>)> {
        let of = self.instances.iter().filter_map(|i| {
            let interfaces = i.interfaces.iter().map(interface).collect();
            Some(devices(i.sample.as_ref()?, interfaces, INTERFACE.len()))
        });
        of.flatten().collect()
    }
}

/// An instance whose devices could not be counted, or that has none, still has a line that says so.
fn devices(
    sample: &v1::SampleState,
    mut lines: Vec<Vec<String>>,
    columns: usize,
) -> Vec<(&v1::SampleState, Vec<String>)> {
    if lines.is_empty() {
        lines.push(vec![String::new(); columns]);
    }
    lines.into_iter().map(|cells| (sample, cells)).collect()
}

fn instance(stats: &v1::InstanceStats) -> Vec<String> {
    let power = match stats.power_state() {
        v1::PowerState::Unspecified => "",
        state => text::power_state(state),
    };
    let vcpus = Some(stats.cpus.len()).filter(|count| *count > 0);
    let memory = stats.memory.as_ref();
    vec![
        power.to_owned(),
        cell(stats.cpu_time_ns),
        cell(vcpus),
        cell(memory.map(|m| m.maximum_kib)),
        cell(memory.and_then(|m| m.current_kib)),
        cell(memory.and_then(|m| m.unused_kib)),
        cell(memory.and_then(|m| m.available_kib)),
        cell(memory.and_then(|m| m.rss_kib)),
    ]
}

fn disk(d: &v1::BlockCounters) -> Vec<String> {
    let counters = [
        d.rd_req,
        d.rd_bytes,
        d.rd_time_ns,
        d.wr_req,
        d.wr_bytes,
        d.wr_time_ns,
        d.fl_req,
        d.fl_time_ns,
        d.errs,
    ];
    let id = d.disk_id.clone();
    [id].into_iter().chain(counters.map(cell)).collect()
}

fn interface(i: &v1::InterfaceCounters) -> Vec<String> {
    let counters = [
        i.rx_bytes,
        i.rx_packets,
        i.rx_errs,
        i.rx_drop,
        i.tx_bytes,
        i.tx_packets,
        i.tx_errs,
        i.tx_drop,
    ];
    let id = i.interface_id.clone();
    [id].into_iter().chain(counters.map(cell)).collect()
}

fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// To the millisecond, so that samples a second apart never share one.
fn moment(wire: Option<&Timestamp>) -> String {
    let time = wire.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok());
    let time = time.and_then(|t| t.round(jiff::Unit::Millisecond).ok());
    time.map(|t| t.to_string()).unwrap_or_default()
}
