use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service, service_fn};

use super::GateLayer;

const UNARY: &str = "/computedriver.v1.HostService/GetHostUptime";
const STREAM: &str = "/computedriver.v1.InstanceService/Spawn";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

fn request(path: &str) -> Request<Body> {
    Request::builder().uri(path).body(Body::empty()).unwrap()
}

fn gate(calls: usize, streams: usize) -> GateLayer {
    GateLayer::new(calls, streams, CancellationToken::new())
}

/// An open stream that says nothing.
fn open() -> Body {
    let never = stream::pending::<Result<Frame<Bytes>, Status>>();
    Body::new(StreamBody::new(never))
}

fn ok(body: Body) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(body))
}

fn told(headers: &HeaderMap) -> (Code, String, Status) {
    let status = Status::from_header_map(headers).expect("it failed");
    let info = status.get_details_error_info().expect("it says why");
    assert_eq!(info.domain, "computedriver");
    (status.code(), info.reason, status)
}

async fn failure(response: Result<Response<Body>, Infallible>) -> (Code, String, Status) {
    told(response.unwrap().headers())
}

#[tokio::test]
async fn one_call_too_many_is_refused_with_a_pause_and_streams_count_apart() {
    let mut service = gate(1, 1).layer(service_fn(|_| async { ok(open()) }));
    let stream = service.call(request(STREAM)).await.unwrap();
    let call = service.call(request(UNARY)).await.unwrap();

    for path in [UNARY, STREAM] {
        let (code, reason, status) = failure(service.call(request(path)).await).await;
        assert_eq!(
            (code, reason.as_str()),
            (Code::ResourceExhausted, "OVERLOADED")
        );
        let retry = status.get_details_retry_info().expect("a pause");
        assert!(retry.retry_delay > Some(Duration::ZERO));
    }
    let health = service.call(request(HEALTH)).await.unwrap();
    assert!(health.headers().is_empty());

    drop(call);
    let again = service.call(request(UNARY)).await.unwrap();
    assert!(again.headers().is_empty());
    drop(stream);
    let again = service.call(request(STREAM)).await.unwrap();
    assert!(again.headers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call_with_its_own_code_just_before_the_callers_clock() {
    let never = || service_fn(|_| std::future::pending::<Result<Response<Body>, Infallible>>());
    let mut service = gate(1, 1).layer(never());
    let mut late = request(UNARY);
    late.headers_mut()
        .insert("grpc-timeout", "100m".parse().unwrap());
    let begun = tokio::time::Instant::now();
    let (code, reason, _) = failure(service.call(late).await).await;
    assert_eq!(
        (code, reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE")
    );
    let waited = begun.elapsed().as_millis();
    assert!((90..100).contains(&waited), "{waited} ms");
    let free = service.limits.calls.available_permits();
    assert_eq!(free, 1, "its place is given back");
}

#[tokio::test]
async fn a_panic_is_an_internal_failure_that_tells_nothing_of_itself() {
    let inside = service_fn(|request: Request<Body>| async move {
        assert!(request.uri().path() == STREAM, "secret");
        let panicking = stream::poll_fn(
            |_| -> std::task::Poll<Option<Result<Frame<Bytes>, Status>>> { panic!("secret") },
        );
        ok(Body::new(StreamBody::new(panicking)))
    });
    let mut service = gate(1, 1).layer(inside);
    let (code, reason, status) = failure(service.call(request(UNARY)).await).await;
    assert_eq!((code, reason.as_str()), (Code::Internal, "INTERNAL"));
    assert!(!status.message().contains("secret"));

    let stream = service.call(request(STREAM)).await.unwrap();
    let end = stream.into_body().collect().await.expect("it ends");
    let (code, reason, _) = told(end.trailers().expect("with a status"));
    assert_eq!((code, reason.as_str()), (Code::Internal, "INTERNAL"));
}

#[tokio::test]
async fn streams_end_when_the_door_closes_and_say_when_to_come_back() {
    let close = CancellationToken::new();
    let mut service =
        GateLayer::new(1, 1, close.clone()).layer(service_fn(|_| async { ok(open()) }));
    let mut stream = service.call(request(STREAM)).await.unwrap().into_body();
    assert!(futures::poll!(stream.frame()).is_pending());
    close.cancel();
    let end = stream.frame().await.expect("a status").expect("no fault");
    let (code, reason, status) = told(end.trailers_ref().expect("trailers"));
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "DRAINING"));
    assert!(status.get_details_retry_info().is_some());
    assert!(stream.frame().await.is_none());
    assert_eq!(service.limits.streams.available_permits(), 1);
}

#[tokio::test]
async fn failures_that_are_not_ours_get_their_reason() {
    let cases = [
        (
            Status::unimplemented(""),
            Code::Unimplemented,
            "NOT_SUPPORTED",
        ),
        (
            Status::out_of_range("decoded message length too large: found 9 bytes"),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            Status::internal("failed to decode Protobuf message: buffer underflow"),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            Status::internal("h2 protocol error"),
            Code::Internal,
            "INTERNAL",
        ),
    ];
    for (bare, code, reason) in cases {
        let said = bare.message().to_owned();
        let inside = service_fn(move |_| {
            let bare = bare.clone();
            async move { Ok::<_, Infallible>(bare.into_http()) }
        });
        let mut service = gate(1, 1).layer(inside);
        let (got, why, status) = failure(service.call(request(UNARY)).await).await;
        assert_eq!((got, why.as_str()), (code, reason));
        assert!(status.message().contains(&said));
    }
}

#[tokio::test]
async fn messages_go_by_as_they_are() {
    let inside = service_fn(|_| async {
        let frames = ["one", "two"].map(|text| Ok::<_, Status>(Frame::data(Bytes::from(text))));
        ok(Body::new(StreamBody::new(stream::iter(frames).boxed())))
    });
    let mut service = gate(1, 1).layer(inside);
    let all = service.call(request(STREAM)).await.unwrap().into_body();
    assert_eq!(all.collect().await.unwrap().to_bytes(), "onetwo");
    assert_eq!(service.limits.streams.available_permits(), 1);
}
