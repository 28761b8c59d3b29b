//! What the daemon says about itself: lines to standard error, and, when there is a collector, traces, metrics and logs
//! over OTLP.
//!
//! ```text
//!   tracing ──▶ lines
//!      │    ──▶ spans, records ──▶ bounded queues ──┐
//!      └ metrics, every so often ──────────────────┴▶ collector (OTLP over gRPC, one connection)
//! ```
//!
//! Set up once by `main`, before anything else runs. Records carry ids, counts and reasons, never guests' content and
//! never a secret: secrets are `Secret<T>`, whose `Debug` is blank. A queue that is full drops and counts, a message that
//! is not taken in time is given up and counted: the collector cannot make the server wait or grow.

mod collector;
mod export;
mod outbox;
mod record;
mod series;
mod settings;
mod span;

#[cfg(test)]
mod tests;

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TraceId},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt,
};

pub use export::{Exporter, Exporting};
pub use settings::SettingsError;

use crate::config::{Log, LogFormat, Telemetry};
use settings::Settings;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("the log filter cannot be used")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// What OpenTelemetry's variables say cannot be used.
    #[error("the collector cannot be used")]
    Collector(#[from] SettingsError),
    /// Something in this process logs already.
    #[error("the log is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Whether spans have an identity that others may know.
static TRACING: AtomicBool = AtomicBool::new(false);

/// What sends it would only make more to send.
const OUR_OWN: [&str; 6] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "opentelemetry",
];

/// Sets up the log of this process, and what is to be sent, which [`Exporter::start`] then sends.
///
/// # Errors
/// When the filter or the collector's settings cannot be used, or when called twice.
pub fn init(log: &Log, telemetry: &Telemetry) -> Result<Option<Exporter>, TelemetryError> {
    let filter = EnvFilter::builder().parse(&log.filter.0)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let mut layers = vec![lines.with_filter(filter).boxed()];
    let mut exporter = None;
    if let Some(settings) = Settings::resolve(telemetry, |name| std::env::var(name).ok())? {
        let (sent, spans, records) = Exporter::new(settings);
        let directives = OUR_OWN.map(|target| format!("{target}=off")).join(",");
        let filter = EnvFilter::builder().parse(format!("{},{directives}", log.filter.0))?;
        // Spans first, so that a record finds the one that it belongs to.
        layers.insert(0, spans);
        layers.push(records.with_filter(filter).boxed());
        exporter = Some(sent);
    }
    tracing_subscriber::registry().with(layers).try_init()?;
    TRACING.store(exporter.is_some(), Relaxed);
    Ok(exporter)
}

/// Makes `span` part of the caller's trace, when W3C's headers name one; answers the trace that it is part of, when spans
/// are sent at all.
pub fn adopt(span: &Span, headers: &HeaderMap) -> Option<TraceId> {
    if !TRACING.load(Relaxed) {
        return None;
    }
    if headers.contains_key("traceparent") {
        let caller = TraceContextPropagator::new().extract(&Headers(headers));
        // Only a span that has begun already refuses, and this one has not.
        let _ = span.set_parent(caller);
    }
    let context = span.context();
    let trace = context.span().span_context().trace_id();
    (trace != TraceId::INVALID).then_some(trace)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
