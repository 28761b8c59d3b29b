//! Watches one call to libvirt: a span with its wait for a worker, and a place in the histograms.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
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
///
/// Shared by the worker and by whoever waits: the first that knows how it ended ends it, so that a call that hangs is told
/// when its time is over, and not when libvirt lets go of it.
#[derive(Clone, Debug)]
pub(super) struct CallWatch {
    name: &'static str,
    stage: Arc<Mutex<Stage>>,
}

#[derive(Debug)]
enum Stage {
    Waiting { since: Instant, span: Span },
    Begun { since: Instant, span: Span },
    Ended { begun: bool },
}

impl CallWatch {
    /// The call is about to wait for a worker.
    pub(super) fn new(name: &'static str) -> Self {
        let (since, span) = (Instant::now(), span(name));
        Self {
            name,
            stage: Arc::new(Mutex::new(Stage::Waiting { since, span })),
        }
    }

    /// A worker has it.
    pub(super) fn begin(&self) {
        let mut stage = self.stage.lock();
        if let Stage::Waiting { since, span } = &*stage {
            let wait = since.elapsed();
            span.record("wait_ms", wait.as_secs_f64() * 1e3);
            *stage = Stage::Begun {
                since: *since + wait,
                span: span.clone(),
            };
        }
    }

    /// Whether a worker has had it.
    pub(super) fn has_begun(&self) -> bool {
        match &*self.stage.lock() {
            Stage::Waiting { .. } => false,
            Stage::Begun { .. } => true,
            Stage::Ended { begun } => *begun,
        }
    }

    /// libvirt has answered, or nobody waits for it any more.
    pub(super) fn end(&self, outcome: &'static str) {
        if let Some(took) = self.close(outcome) {
            HYPERVISOR_CALLS.of([self.name, outcome]).record(took);
        }
    }

    /// libvirt was never asked.
    pub(super) fn refuse(&self) {
        self.close("refused");
    }

    /// Ends the span, and says how long it took; none when that was done before.
    fn close(&self, outcome: &'static str) -> Option<Duration> {
        let mut stage = self.stage.lock();
        let begun = matches!(&*stage, Stage::Begun { .. });
        match std::mem::replace(&mut *stage, Stage::Ended { begun }) {
            Stage::Waiting { since, span } | Stage::Begun { since, span } => {
                span.record("outcome", outcome);
                Some(since.elapsed())
            }
            Stage::Ended { begun } => {
                *stage = Stage::Ended { begun };
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use pretty_assertions::assert_eq;
    use tracing::{
        Subscriber,
        field::{Field, Visit},
        info_span,
        span::{Id, Record},
    };
    use tracing_subscriber::{
        Layer, Registry,
        layer::{Context, SubscriberExt},
        registry::LookupSpan,
    };

    use super::CallWatch;
    use crate::metrics::{HYPERVISOR_CALLS, Instrument};

    /// Writes down the outcomes of calls, and where a span ended.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Visit for Told {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.lock().push(format!("{field}={value}"));
        }

        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    }

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
        fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
            values.record(&mut self.clone());
        }

        fn on_close(&self, id: Id, context: Context<'_, S>) {
            let span = context.span(&id).unwrap();
            self.0.lock().push(format!("{} ended", span.name()));
        }
    }

    fn counted(call: &str) -> usize {
        let points = HYPERVISOR_CALLS.read().points;
        points
            .iter()
            .filter(|point| point.labels[0] == call)
            .count()
    }

    #[test]
    fn a_call_that_hangs_is_told_when_its_time_is_over_and_only_then() {
        let told = Told::default();
        tracing::subscriber::with_default(Registry::default().with(told.clone()), || {
            let _asker = info_span!("rpc").entered();
            let watch = CallWatch::new("test hang");
            let worker = watch.clone();
            worker.begin();
            assert!(watch.has_begun());
            watch.end("timeout");
            let so_far = ["outcome=timeout", "hypervisor_call ended"];
            assert_eq!(*told.0.lock(), so_far);
            worker.end("ok");
            assert_eq!(*told.0.lock(), so_far);
        });
        assert_eq!(counted("test hang"), 1);
    }

    #[test]
    fn a_call_that_was_refused_is_in_its_trace_and_in_no_histogram() {
        let told = Told::default();
        tracing::subscriber::with_default(Registry::default().with(told.clone()), || {
            let _asker = info_span!("rpc").entered();
            let watch = CallWatch::new("test refuse");
            watch.refuse();
            assert!(!watch.has_begun());
            assert_eq!(*told.0.lock(), ["outcome=refused", "hypervisor_call ended"]);
        });
        assert_eq!(counted("test refuse"), 0);
    }
}
