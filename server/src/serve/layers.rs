//! What every call goes through before it reaches its service, and its answer on the way back.
//!
//!   span ▷ panics ▷ in-flight limit ▷ deadline ▷ service ▷ explanation ▷ body
//!
//! One layer instead of five: each is a few lines, and one future and one body a call are cheaper than five of each.

mod answer;
mod deadline;
mod explain;
mod trace;

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{Instrument, error};

use super::method::{Shape, shape};
use crate::{
    api::status::status,
    error::{Details, Error, Kind},
};
use answer::{Ending, Hold};

/// Long enough for a burst to pass, short enough that a caller does not give up.
const RETRY: Duration = Duration::from_secs(1);
/// How a service manager learns that we live; an overloaded server is not a dead one.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Health and reflection, whose failures are told by their own contracts.
const STANDARD: &str = "/grpc.";

/// Puts a service behind the gate.
#[derive(Clone, Debug)]
pub(super) struct GateLayer {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    close: CancellationToken,
}

impl GateLayer {
    /// At most `calls` with one answer at once, and beside them `streams` open streams: an idle follower must not take the
    /// place of a caller who wants one answer. Streams that are still open when `close` is cancelled end then.
    pub(super) fn new(calls: usize, streams: usize, close: CancellationToken) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(calls)),
            streams: Arc::new(Semaphore::new(streams)),
            close,
        }
    }

    fn admit(&self, path: &str, shape: Shape) -> Result<Option<OwnedSemaphorePermit>, Error> {
        if path.starts_with(HEALTH) {
            return Ok(None);
        }
        let (gate, what) = match shape {
            Shape::Unary => (&self.calls, "calls are worked on"),
            Shape::Stream => (&self.streams, "streams are open"),
        };
        gate.clone().try_acquire_owned().map(Some).map_err(|_| {
            let message = format!("too many {what} already");
            Error::new(Kind::Exhausted, "OVERLOADED", message).detailed(Details {
                retry_after: Some(RETRY),
                ..Details::default()
            })
        })
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            limits: self.clone(),
        }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    inner: S,
    limits: GateLayer,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shape = shape(request.uri().path());
        // Outermost, so that refused and failed calls are seen too.
        let span = trace::span(&request);
        let ending = Ending::new(span.clone(), request.uri().path(), shape);
        // Refused before any work is done for it. Held until the body ends: an open stream is a call in flight.
        let permit = match self.limits.admit(request.uri().path(), shape) {
            Ok(permit) => permit,
            Err(e) => return Box::pin(std::future::ready(Ok(ending.refuse(&e)))),
        };
        // A stream's caller may wait as long as it likes: the work goes on without it, and so does a deadline of its own.
        let limit = match shape {
            Shape::Unary => deadline::of(request.headers()),
            Shape::Stream => None,
        };
        let ours = !request.uri().path().starts_with(STANDARD);
        let mut hold = Hold::new(permit);
        if shape == Shape::Stream {
            hold = hold.until(self.limits.close.clone());
        }
        let work = std::panic::catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let work = async move {
            let work = match work {
                Ok(work) => work,
                Err(panic) => return Ok(ending.refuse(&panicked(&*panic))),
            };
            // Innermost around the service: what it has begun as an operation goes on.
            let work = deadline::within(limit, work);
            Ok(match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(Ok(response))) if ours => ending.answer(explain::explained(response), hold),
                Ok(Ok(Ok(response))) => ending.answer(response, hold),
                Ok(Err(e)) => ending.refuse(&e),
                Err(panic) => ending.refuse(&panicked(&*panic)),
            })
        };
        Box::pin(work.instrument(span))
    }
}

/// A panic as a failure. What it said is for the log alone.
fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let said = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(said, "a call panicked");
    Error::internal("the server failed in a way that it did not foresee")
}

fn told(e: &Error) -> Response<Body> {
    status(e).into_http()
}

#[cfg(test)]
mod tests;
