//! The span of a call.

use http::{HeaderMap, Request};
use tonic::body::Body;
use tracing::{Span, field, info_span};

use crate::{serve::Peer, telemetry};

/// A span that names the method, the peer and, when the caller sent one, its trace.
pub(super) fn span(request: &Request<Body>) -> Span {
    let span = info_span!(
        "rpc",
        method = request.uri().path().trim_start_matches('/'),
        peer = field::Empty,
        trace_id = field::Empty,
        code = field::Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(peer) = request.extensions().get::<Peer>() {
        span.record("peer", field::display(peer));
    }
    let own = telemetry::adopt(&span, request.headers());
    if let Some(id) = trace_id(request.headers()) {
        span.record("trace_id", id);
    } else if let Some(id) = own {
        span.record("trace_id", field::display(id));
    }
    span
}

/// The trace that the call belongs to, by W3C's `traceparent`: `00-TRACE-PARENT-FLAGS`.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let lower_hex = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let valid = version.len() == 2 && version != "ff" && id.len() == 32;
    let valid = valid && lower_hex(version) && lower_hex(id) && id.bytes().any(|b| b != b'0');
    valid.then_some(id)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::trace_id;

    #[test]
    fn a_trace_is_told_by_its_header_and_nonsense_is_not() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_str(text).unwrap());
            trace_id(&headers).map(str::to_owned)
        };
        assert_eq!(
            of(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(),
            Some(id)
        );
        assert_eq!(of("00-0af7-00f067aa0ba902b7-01"), None);
        assert_eq!(
            of(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))),
            None
        );
        assert_eq!(
            of(&format!("00-{}-00f067aa0ba902b7-01", "\"x".repeat(16))),
            None
        );
        assert_eq!(trace_id(&HeaderMap::new()), None);
    }
}
