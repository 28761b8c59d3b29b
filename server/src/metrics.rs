//! What the server counts of itself: instruments that any part calls, and one snapshot of them for every way out.
//!
//! ```text
//!   parts ── a few atomics ──▶ instruments ──┐
//!   what is known only when asked ──────────┴▶ snapshot ──▶ Prometheus page · OTLP
//! ```
//!
//! A registry of our own: the page and OTLP must tell the same series under the same names, a call must cost some tens of
//! nanoseconds whether or not anybody listens, and neither of OpenTelemetry's Prometheus bridge (text 0.0.4 only, and its
//! authors advise against it for new projects) nor `prometheus-client` (no OTLP) gives both. A label's value is a word of
//! this program (`&'static str`), never a caller's: so there can be only so many series.

mod catalog;
mod family;
mod instrument;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use catalog::*;
pub use family::{Family, Kind, Metric, Point, Value};
pub use instrument::{Active, Counter, Gauge, Histogram, Instrument, Series};
pub use text::{Format, write};

/// Makes a snapshot with all that must be looked up for it.
pub type Scrape = Arc<dyn Fn() -> BoxFuture<'static, Vec<Metric>> + Send + Sync>;

/// All instruments as they stand.
pub fn snapshot() -> Vec<Metric> {
    INSTRUMENTS
        .iter()
        .map(|instrument| instrument.read())
        .collect()
}
