//! Sends what was put aside, beside the server's own work, until the end.

use std::time::Duration;

use futures::future::BoxFuture;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{
    logs::SdkLoggerProvider,
    trace::{Sampler, SdkTracerProvider, SpanData},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{Level, Metadata, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{Layer, Registry, filter::FilterFn};

use super::{
    collector::Collector,
    outbox::{Outgoing, outbox},
    record::{Record, Records},
    settings::Settings,
    span::Spans,
};
use crate::metrics::{Scrape, TELEMETRY_DROPPED};

/// What an orderly end may cost when the collector does not answer.
const FLUSH: Duration = Duration::from_secs(3);

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// What is to be sent, before anything is.
#[derive(Debug)]
pub struct Exporter {
    settings: Settings,
    spans: Outgoing<SpanData>,
    records: Outgoing<Record>,
}

impl Exporter {
    /// An exporter, and the layers that fill it: of spans and of records.
    pub(super) fn new(settings: Settings) -> (Self, Boxed, Boxed) {
        let (spans_in, spans) = outbox("traces");
        let (records_in, records) = outbox("logs");
        let ratio = Sampler::TraceIdRatioBased(settings.sample_ratio);
        let tracer = SdkTracerProvider::builder()
            .with_span_processor(Spans(spans_in))
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .build()
            .tracer("computelet");
        // What a line of code says of itself is in the log; a span is a stretch of work.
        let span_layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(is_ours).with_max_level_hint(LevelFilter::DEBUG));
        let logger = SdkLoggerProvider::builder()
            .with_log_processor(Records(records_in))
            .build();
        let record_layer = OpenTelemetryTracingBridge::new(&logger);
        let exporter = Self {
            settings,
            spans,
            records,
        };
        (exporter, span_layer.boxed(), record_layer.boxed())
    }

    /// Begins to send. Needs a runtime.
    ///
    /// # Errors
    /// When the collector's address cannot be used.
    pub fn start(self) -> Result<Exporting, tonic::transport::Error> {
        let (stop, mut work) = (CancellationToken::new(), JoinSet::new());
        let interval = self.settings.interval;
        info!(collector = self.settings.place(), "telemetry is sent");
        let collector = Collector::new(self.settings)?;
        let to = collector.clone();
        let send = move |spans| {
            let to = to.clone();
            let sent: BoxFuture<'static, bool> = Box::pin(async move { to.spans(spans).await });
            sent
        };
        work.spawn(forward(
            "traces",
            self.spans,
            (interval, stop.clone()),
            send,
        ));
        let to = collector.clone();
        let send = move |records| {
            let to = to.clone();
            let sent: BoxFuture<'static, bool> = Box::pin(async move { to.records(records).await });
            sent
        };
        work.spawn(forward(
            "logs",
            self.records,
            (interval, stop.clone()),
            send,
        ));
        Ok(Exporting {
            collector,
            interval,
            stop,
            work,
        })
    }
}

fn is_ours(of: &Metadata<'_>) -> bool {
    of.is_span() && of.target().starts_with("computelet") && *of.level() <= Level::DEBUG
}

/// Sends batch after batch; one that is not taken is lost, and counted.
async fn forward<T>(
    signal: &'static str,
    mut from: Outgoing<T>,
    (interval, stop): (Duration, CancellationToken),
    send: impl Fn(Vec<T>) -> BoxFuture<'static, bool>,
) {
    let dropped = TELEMETRY_DROPPED.of([signal]);
    while let Some(batch) = from.batch(interval, &stop).await {
        let count = batch.len() as u64;
        if !send(batch).await {
            dropped.add(count);
        }
    }
}

/// What is being sent.
#[derive(Debug)]
pub struct Exporting {
    collector: Collector,
    interval: Duration,
    stop: CancellationToken,
    work: JoinSet<()>,
}

impl Exporting {
    /// Sends metrics too, from now on.
    pub fn metrics(&mut self, scrape: Scrape) {
        let (collector, stop) = (self.collector.clone(), self.stop.clone());
        let mut tick = tokio::time::interval(self.interval);
        // A collector that answers late gets the next one later, not two.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.work.spawn(async move {
            loop {
                // Biased: the end is told once, by a last message.
                let ended = tokio::select! {
                    biased;
                    () = stop.cancelled() => true,
                    _ = tick.tick() => false,
                };
                collector.metrics(&scrape().await).await;
                if ended {
                    break;
                }
            }
        });
    }

    /// Sends what is left, within a bound.
    pub async fn finish(mut self) {
        self.stop.cancel();
        let all = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            warn!("the collector does not take what is left");
        }
    }
}
