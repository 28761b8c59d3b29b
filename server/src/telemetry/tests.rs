use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tracing::{Level, span};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use super::{
    export::Exporter,
    outbox::{BATCH, QUEUE},
    settings::Settings,
};
use crate::{
    config::{Telemetry, Text},
    metrics::{TELEMETRY_DROPPED, TELEMETRY_EXPORTS},
};

/// The counters belong to the process, and so, without nextest, to all its tests: one at a time, and each counts from
/// where it began.
static COUNTERS: Mutex<()> = Mutex::const_new(());

/// Settings for a collector at this port, with a short time limit.
fn settings(port: u16) -> Settings {
    let ours = Telemetry {
        otlp_endpoint: Some(Text(format!("http://127.0.0.1:{port}"))),
        sample_ratio: 1.0,
        export_interval: Duration::from_millis(10),
    };
    let variable = |name: &str| (name == "OTEL_EXPORTER_OTLP_TIMEOUT").then(|| "100".to_owned());
    Settings::resolve(&ours, variable).unwrap().unwrap()
}

#[tokio::test]
async fn a_collector_that_accepts_and_never_answers_neither_blocks_nor_hoards() {
    let _alone = COUNTERS.lock().await;
    // The kernel accepts for it; nobody reads.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let (exporter, spans, _records) = Exporter::new(settings(hole.local_addr().unwrap().port()));
    let subscriber = Registry::default().with(spans);
    let before = TELEMETRY_DROPPED.of(["traces"]).get();
    let dropped = || TELEMETRY_DROPPED.of(["traces"]).get() - before;
    let timeouts = TELEMETRY_EXPORTS.of(["traces", "timeout"]);
    let early = timeouts.get();
    let exporting = exporter.start().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 * QUEUE {
            span!(target: "computelet::test", Level::INFO, "rpc", method = "x/Y").in_scope(|| {});
        }
    });
    // Nobody else ran meanwhile: two thirds found no room.
    assert_eq!(dropped(), 2 * QUEUE as u64);
    while timeouts.get() == early {
        tokio::task::yield_now().await;
    }
    let lost = dropped() - 2 * QUEUE as u64;
    assert!(
        lost >= BATCH as u64,
        "{lost} were in the message that nobody took"
    );
    let begun = Instant::now();
    exporting.finish().await;
    println!("the end took {:?}", begun.elapsed());
    assert_eq!(dropped(), 3 * QUEUE as u64, "all are accounted for");
}

#[tokio::test]
async fn a_collector_that_is_absent_costs_what_it_misses() {
    let _alone = COUNTERS.lock().await;
    let before = TELEMETRY_DROPPED.of(["traces"]).get();
    let absent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = absent.local_addr().unwrap().port();
    drop(absent);
    let (exporter, spans, _records) = Exporter::new(settings(port));
    let exporting = exporter.start().unwrap();
    tracing::subscriber::with_default(Registry::default().with(spans), || {
        span!(target: "computelet::test", Level::INFO, "rpc").in_scope(|| {});
    });
    exporting.finish().await;
    assert_eq!(TELEMETRY_DROPPED.of(["traces"]).get() - before, 1);
}
