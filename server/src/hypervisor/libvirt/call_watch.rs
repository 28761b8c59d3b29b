//! Watches one call to libvirt: a span with its wait for a worker, and a place in the histograms.

use std::time::{Duration, Instant};

use tracing::{Span, debug_span, field};

use crate::metrics::HYPERVISOR_CALLS;

/// What no call or operation asked for, as a look at all guests for the metrics, begins no trace of its own.
fn span(name: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    debug_span!(
        "hypervisor_call",
        call = name,
        wait_ms = field::Empty,
        outcome = field::Empty
    )
}

/// A call from the queue to its end. Its span is a child of whatever asked for it.
#[derive(Debug)]
pub(super) struct CallWatch {
    name: &'static str,
    since: Instant,
    span: Span,
}

impl CallWatch {
    /// The call is about to wait for a worker.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            since: Instant::now(),
            span: span(name),
        }
    }

    /// A worker has it.
    pub(super) fn begin(mut self) -> Self {
        let wait = self.since.elapsed();
        self.span.record("wait_ms", wait.as_secs_f64() * 1e3);
        self.since += wait;
        self
    }

    /// libvirt has answered.
    pub(super) fn end(self, outcome: &'static str) {
        self.span.record("outcome", outcome);
        let call = HYPERVISOR_CALLS.of([self.name, outcome]);
        call.record(self.since.elapsed());
    }

    /// Nobody waits for it any more.
    pub(super) fn timed_out(name: &'static str, limit: Duration) {
        HYPERVISOR_CALLS.of([name, "timeout"]).record(limit);
    }
}
