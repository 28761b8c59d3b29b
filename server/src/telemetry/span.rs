//! Spans as they leave: named by OpenTelemetry's conventions, where the parts use plain words of the log.

use std::time::Duration;

use opentelemetry::{
    Context, Key, KeyValue, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};

use super::outbox::Outbox;

/// Puts ended spans into the queue.
#[derive(Debug)]
pub(super) struct Spans(pub(super) Outbox<SpanData>);

impl SpanProcessor for Spans {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        name(&mut span);
        self.0.put(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Codes by which a server says that it is at fault, not its caller.
const OUR_FAULT: [&str; 6] = [
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
];

fn name(span: &mut SpanData) {
    match &*span.name {
        "rpc" => call(span),
        "operation" => title(span, "verb"),
        "step" | "undo" => title(span, "step"),
        "hypervisor_call" => {
            span.span_kind = SpanKind::Client;
            title(span, "call");
        }
        _ => {}
    }
    for attribute in &mut span.attributes {
        let key = attribute.key.as_str();
        if !key.contains('.') {
            attribute.key = Key::new(format!("computelet.{key}"));
        }
    }
    let outcome = text(span, "computelet.outcome");
    let bad = ["failed", "FAILED", "timeout", "refused"];
    if outcome.is_some_and(|outcome| bad.contains(&&*outcome)) {
        span.status = Status::error("");
    }
}

fn call(span: &mut SpanData) {
    span.span_kind = SpanKind::Server;
    title(span, "method");
    // It is the span's own, and in no need of an attribute.
    span.attributes
        .retain(|attribute| attribute.key.as_str() != "trace_id");
    for attribute in &mut span.attributes {
        match attribute.key.as_str() {
            "method" => attribute.key = Key::from_static_str("rpc.method"),
            "code" => attribute.key = Key::from_static_str("rpc.response.status_code"),
            _ => {}
        }
    }
    span.attributes
        .push(KeyValue::new("rpc.system.name", "grpc"));
    let code = text(span, "rpc.response.status_code").filter(|code| code != "OK");
    if let Some(code) = code {
        if OUR_FAULT.contains(&&*code) {
            span.status = Status::error("");
        }
        span.attributes.push(KeyValue::new("error.type", code));
    }
}

/// Names the span after one of its attributes.
fn title(span: &mut SpanData, attribute: &str) {
    if let Some(text) = text(span, attribute) {
        span.name = text.into();
    }
}

fn text(span: &SpanData, key: &str) -> Option<String> {
    let mut found = span.attributes.iter().filter(|a| a.key.as_str() == key);
    match &found.next()?.value {
        Value::String(text) => Some(text.as_str().to_owned()),
        other => Some(other.to_string()),
    }
}
