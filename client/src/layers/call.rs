//! One call, by its shape.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;
use tower::{Service as _, ServiceExt as _};

use super::patience::Patience;
use super::{Rules, Silence};
use crate::method::{Effect, Method};

const TIMEOUT: &str = "grpc-timeout";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A call outside the contract, or one whose silence means nothing.
pub(super) async fn plain(
    mut channel: Channel,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    channel.call(request).await.map_err(failed)
}

/// A call with many answers: lost when it is silent for too long.
pub(super) async fn stream(
    mut channel: Channel,
    rules: Arc<Rules>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let until = asked(request.headers()).map(|wait| Instant::now() + wait);
    let expected = request.extensions().get::<Silence>();
    let silence = rules.silence + expected.map_or(Duration::ZERO, |silence| silence.0);
    let opening = timeout_at(Instant::now() + rules.silence, channel.call(request));
    let response = opening
        .await
        .map_err(|_| silent(rules.silence))?
        .map_err(failed)?;
    Ok(response.map(|body| Body::new(Patience::new(body, Some(silence), until))))
}

/// A call with one answer, within its deadline; repeated when that is safe and the server was away.
pub(super) async fn unary(
    channel: Channel,
    rules: Arc<Rules>,
    method: &'static Method,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let wait = asked(request.headers()).unwrap_or(match method.effect {
        Effect::Read => rules.read,
        Effect::Idempotent | Effect::Once => rules.change,
    });
    let until = Instant::now() + wait;
    let attempts = attempts(channel, &rules, method, (request, until));
    let response = timeout_at(until, attempts)
        .await
        .map_err(|_| late(method, wait))?;
    match response {
        Err(status) if timed_out(&status) => Err(late(method, wait)),
        answered => Ok(answered?.map(|body| Body::new(Patience::new(body, None, Some(until))))),
    }
}

async fn attempts(
    mut channel: Channel,
    rules: &Rules,
    method: &Method,
    (request, until): (Request<Body>, Instant),
) -> Result<Response<Body>, Status> {
    let (head, body) = request.into_parts();
    // A unary request is one message, kept to be sent again.
    let body = body.collect().await?.to_bytes();
    let mut attempt = 1;
    loop {
        let mut request = Request::from_parts(head.clone(), resend(body.clone()));
        tell_deadline(request.headers_mut(), until);
        let ready = channel.ready().await.map_err(failed)?;
        let answer = ready.call(request).await.map_err(failed);
        let Some((status, pushback)) = refusal(&answer) else {
            rules.throttle.succeeded();
            return answer;
        };
        let allowed = method.repeatable() && away(&status) && rules.throttle.failed();
        if !allowed || attempt >= rules.retry.attempts() {
            return answer;
        }
        let pause = match pushback {
            Pushback::Never => return answer,
            Pushback::After(pause) => pause,
            Pushback::Free => rules.retry.backoff(attempt),
        };
        if Instant::now() + pause >= until {
            return answer;
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

fn resend(body: Bytes) -> Body {
    Body::new(Full::new(body).map_err(|never| match never {}))
}

/// What the server says about trying again.
enum Pushback {
    /// Nothing.
    Free,
    /// Not before this has passed.
    After(Duration),
    /// Not at all.
    Never,
}

/// The failure inside an answer that carries nothing else; one that has begun to carry an answer is never repeated.
fn refusal(answer: &Result<Response<Body>, Status>) -> Option<(Status, Pushback)> {
    let response = match answer {
        Err(status) => return Some((status.clone(), Pushback::Free)),
        Ok(response) => response,
    };
    let status = Status::from_header_map(response.headers())?;
    if status.code() == Code::Ok {
        return None;
    }
    let pushback = match response.headers().get(PUSHBACK) {
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|ms| ms.parse().ok())
            .map_or(Pushback::Never, |ms| {
                Pushback::After(Duration::from_millis(ms))
            }),
        None => retry_info(&status).map_or(Pushback::Free, Pushback::After),
    };
    Some((status, pushback))
}

/// What the server asks to wait before the next attempt.
fn retry_info(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Whether the call found no server, or lost it.
fn away(status: &Status) -> bool {
    status.code() == Code::Unavailable || left(status)
}

/// Whether the failure is one of the connection: the server said nothing of it.
pub(crate) fn left(status: &Status) -> bool {
    use std::error::Error as _;
    status.source().is_some() && !timed_out(status)
}

fn timed_out(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Status {
    Status::from_error(error.into())
}

fn late(method: &Method, wait: Duration) -> Status {
    let (name, wait) = (&method.name, wait.as_secs_f64());
    Status::deadline_exceeded(format!("{name} was not answered within {wait} s"))
}

pub(super) fn silent(wait: Duration) -> Status {
    let wait = wait.as_secs_f64();
    Status::unavailable(format!("the stream was silent for {wait} s"))
}

/// The deadline that the caller set on the request itself.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(count.saturating_mul(60))),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Tells the server what is left of the deadline; the wire has room for eight digits.
fn tell_deadline(headers: &mut HeaderMap, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let text = match left.as_millis() {
        ms @ 0..=99_999_999 => format!("{ms}m"),
        _ => format!("{}S", left.as_secs().min(99_999_999)),
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TIMEOUT, value);
    }
}
