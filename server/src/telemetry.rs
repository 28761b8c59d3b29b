//! What the daemon says about itself: one subscriber for all of the process, to standard error.
//!
//! Set up once by `main`, before anything else runs. Records carry ids, counts and reasons, never guests' content and
//! never a secret: secrets are `Secret<T>`, whose `Debug` is blank.

use std::io;

use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("the log filter cannot be used")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("the log is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up the log of this process.
///
/// # Errors
/// When the filter cannot be parsed, or when called twice.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(&log.filter.0)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Another exporter is one more layer here.
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    registry.try_init()?;
    Ok(())
}
