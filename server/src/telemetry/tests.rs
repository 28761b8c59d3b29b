use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

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
    // The kernel accepts for it; nobody reads.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let (exporter, spans, _records) = Exporter::new(settings(hole.local_addr().unwrap().port()));
    let subscriber = Registry::default().with(spans);
    let dropped = TELEMETRY_DROPPED.of(["traces"]);
    let exporting = exporter.start().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 * QUEUE {
            span!(target: "computelet::test", Level::INFO, "rpc", method = "x/Y").in_scope(|| {});
        }
    });
    // Nobody else ran meanwhile: two thirds found no room.
    assert_eq!(dropped.get(), 2 * QUEUE as u64);
    let timeouts = TELEMETRY_EXPORTS.of(["traces", "timeout"]);
    while timeouts.get() == 0 {
        tokio::task::yield_now().await;
    }
    let lost = dropped.get() - 2 * QUEUE as u64;
    assert!(
        lost >= BATCH as u64,
        "{lost} were in the message that nobody took"
    );
    let begun = Instant::now();
    exporting.finish().await;
    println!("the end took {:?}", begun.elapsed());
    assert_eq!(dropped.get(), 3 * QUEUE as u64, "all are accounted for");
}

#[tokio::test]
async fn a_collector_that_is_absent_costs_what_it_misses() {
    let absent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = absent.local_addr().unwrap().port();
    drop(absent);
    let (exporter, spans, _records) = Exporter::new(settings(port));
    let exporting = exporter.start().unwrap();
    tracing::subscriber::with_default(Registry::default().with(spans), || {
        span!(target: "computelet::test", Level::INFO, "rpc").in_scope(|| {});
    });
    exporting.finish().await;
    assert_eq!(TELEMETRY_DROPPED.of(["traces"]).get(), 1);
}
