//! A body that is waited for so long and no longer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use super::call::silent;

/// Ends a body with an error when nothing came for `silence`, or when `until` has passed.
pub(super) struct Patience {
    inner: Body,
    silence: Option<Duration>,
    until: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(inner: Body, silence: Option<Duration>, until: Option<Instant>) -> Self {
        let mut body = Self {
            inner,
            silence,
            until,
            alarm: None,
        };
        body.alarm = body.due().map(|at| Box::pin(sleep_until(at)));
        body
    }

    fn due(&self) -> Option<Instant> {
        let silent = self.silence.map(|silence| Instant::now() + silence);
        match (silent, self.until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn rearm(&mut self) {
        let due = self.due();
        if let (Some(alarm), Some(at)) = (&mut self.alarm, due) {
            alarm.as_mut().reset(at);
        }
    }

    fn verdict(&self) -> Status {
        let passed = self.until.is_some_and(|until| until <= Instant::now());
        match self.silence {
            Some(silence) if !passed => silent(silence),
            _ => Status::deadline_exceeded("the deadline passed before the answer was whole"),
        }
    }
}

impl HttpBody for Patience {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.rearm();
            return Poll::Ready(frame);
        }
        let Some(alarm) = &mut self.alarm else {
            return Poll::Pending;
        };
        ready!(alarm.as_mut().poll(cx));
        self.alarm = None;
        Poll::Ready(Some(Err(self.verdict())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
