//! One guest as the table shows it, and its recent past.

use std::collections::VecDeque;

use computedriver_client::{InstanceUsage, Standing, v1};
use prost_types::Timestamp;

use crate::text;

/// Samples that a sparkline can reach back.
pub(super) const PAST: usize = 64;

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Cpu,
    Memory,
    Read,
    Write,
    Receive,
    Send,
}

impl Metric {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "MEM",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Receive => "RX",
            Self::Send => "TX",
        }
    }

    /// The least that fills a sparkline, so that noise does not look like load.
    pub(super) fn floor(self) -> f64 {
        match self {
            Self::Cpu => 10.0,
            Self::Memory => 1.0,
            Self::Read | Self::Write | Self::Receive | Self::Send => 4096.0,
        }
    }
}

/// One value a metric, in the order of [`Metric`]: percent of a processor, bytes of the host, bytes a second.
pub(super) type Values = [Option<f64>; 6];

/// The last samples of one guest, newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    samples: VecDeque<Values>,
    /// The memory that the guest may have.
    memory: f64,
}

impl Past {
    pub(super) fn push(&mut self, usage: &InstanceUsage) {
        if self.samples.len() == PAST {
            self.samples.pop_front();
        }
        self.samples.push_back(values(usage));
        let memory = usage.counters().memory.as_ref();
        self.memory = memory.map_or(self.memory, |m| bytes(m.maximum_kib));
    }

    /// The last `count` values of a metric, as parts of what fills a sparkline.
    pub(super) fn trend(&self, metric: Metric, count: usize) -> Vec<Option<f64>> {
        let values: Vec<_> = self.samples.iter().map(|v| v[metric as usize]).collect();
        let full = match metric {
            Metric::Memory => self.memory,
            _ => metric.floor(),
        };
        let full = values.iter().flatten().copied().fold(full, f64::max);
        let skip = values.len().saturating_sub(count);
        let part = |value: Option<f64>| value.map(|v| if full > 0.0 { v / full } else { 0.0 });
        values.into_iter().skip(skip).map(part).collect()
    }
}

/// One guest.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: State,
    pub(super) values: Values,
    pub(super) past: Past,
}

/// What the state column says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Power(v1::PowerState),
    Busy,
    /// For so many seconds.
    Stale(Option<u64>),
}

impl Row {
    pub(super) fn new(
        usage: &InstanceUsage,
        name: &str,
        past: &Past,
        now: Option<Timestamp>,
    ) -> Self {
        let state = match usage.standing() {
            Standing::Stale { since } => State::Stale(age(since, now)),
            Standing::Busy => State::Busy,
            _ => State::Power(usage.counters().power_state()),
        };
        Self {
            id: usage.id().to_owned(),
            name: text::printable(name),
            state,
            values: values(usage),
            past: past.clone(),
        }
    }

    pub(super) fn value(&self, metric: Metric) -> Option<f64> {
        self.values[metric as usize]
    }

    /// Whether it shows the past.
    pub(super) fn is_dim(&self) -> bool {
        self.state != State::Power(v1::PowerState::Running)
    }
}

/// Both by the server's clock.
fn age(since: Option<Timestamp>, now: Option<Timestamp>) -> Option<u64> {
    u64::try_from(now?.seconds - since?.seconds).ok()
}

fn values(usage: &InstanceUsage) -> Values {
    let rates = usage.rates();
    let memory = usage.counters().memory.as_ref();
    let memory = memory.and_then(|m| m.rss_kib.or(m.current_kib));
    [
        rates.cpu.map(|processors| processors * 100.0),
        memory.map(bytes),
        rates.read_bytes,
        rates.write_bytes,
        rates.rx_bytes,
        rates.tx_bytes,
    ]
}

/// Shown with three digits: what the conversion loses is far below that.
#[allow(clippy::cast_precision_loss)]
fn bytes(kib: u64) -> f64 {
    kib as f64 * 1024.0
}
