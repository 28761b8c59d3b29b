//! The end of a call: what it came to is logged, its place is given back, and a stream that panics fails like a call.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tracing::{Span, debug};

use super::{panicked, told};
use crate::{
    api::status::status,
    error::Error,
    metrics::{Active, CALLS, CALLS_ACTIVE},
    operation::OperationError,
    serve::method::{self, Shape},
};

/// A call that has not ended yet. Its end is logged when it is dropped, so that a client who leaves is seen too.
#[derive(Debug)]
pub(super) struct Ending {
    span: Span,
    begun: Instant,
    code: Option<Code>,
    method: &'static str,
    _active: Active,
}

impl Ending {
    pub(super) fn new(span: Span, path: &str, shape: Shape) -> Self {
        Self {
            span,
            begun: Instant::now(),
            code: None,
            method: method::name(path),
            _active: CALLS_ACTIVE.of([shape.as_str()]).enter(),
        }
    }

    /// Ends with a failure of ours.
    pub(super) fn refuse(mut self, e: &Error) -> Response<Body> {
        let response = told(e);
        self.saw(response.headers());
        response
    }

    /// Ends when the body does, which then lets `hold` go.
    pub(super) fn answer(mut self, response: Response<Body>, hold: Hold) -> Response<Body> {
        self.saw(response.headers());
        response.map(|inner| {
            Body::new(Followed {
                inner,
                ending: self,
                hold,
            })
        })
    }

    fn saw(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let elapsed = self.begun.elapsed();
        let elapsed_ms = elapsed.as_secs_f64() * 1e3;
        let code = code_name(self.code.unwrap_or(Code::Cancelled));
        let failed = if self.code == Some(Code::Ok) {
            ""
        } else {
            code
        };
        let call = CALLS.of(["grpc", self.method, code, failed]);
        call.record(elapsed);
        self.span.in_scope(|| match self.code {
            Some(code) => debug!(?code, elapsed_ms, "call ended"),
            None => debug!(elapsed_ms, "the caller left"),
        });
        self.span.record("code", code);
    }
}

/// gRPC's own word for a code, as the conventions of OpenTelemetry want it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What a call holds until it ends, and what ends it from our side.
pub(super) struct Hold {
    _permit: Option<OwnedSemaphorePermit>,
    close: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Hold {
    pub(super) fn new(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            _permit: permit,
            close: None,
        }
    }

    /// Ends the call when `close` is cancelled.
    pub(super) fn until(mut self, close: CancellationToken) -> Self {
        self.close = Some(Box::pin(close.cancelled_owned()));
        self
    }
}

struct Followed {
    inner: Body,
    ending: Ending,
    hold: Hold,
}

impl Followed {
    /// Says nothing more but why.
    fn fail(&mut self, e: &Error) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // What was there is not asked again.
        self.inner = Body::empty();
        self.hold = Hold::new(None);
        let mut trailers = HeaderMap::new();
        let told = status(e).add_header(&mut trailers);
        Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
    }
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let span = this.ending.span.clone();
        let _within = span.enter();
        let inner = &mut this.inner;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        let mut polled = polled.unwrap_or_else(|panic| this.fail(&panicked(&*panic)));
        if polled.is_pending()
            && let Some(close) = &mut this.hold.close
            && close.as_mut().poll(cx).is_ready()
        {
            polled = this.fail(&OperationError::Draining.into());
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.ending.saw(trailers);
                }
            }
            Poll::Ready(None) => this.hold = Hold::new(None),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
