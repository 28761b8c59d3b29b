//! What every call passes on its way out: deadline, watchdog, repeats, trace context.
//!
//! The rules of an RPC come from the contract's descriptor, by its path. Services outside the contract, as health or
//! reflection, pass untouched.

mod call;
mod patience;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;
use uuid::Uuid;

use crate::method::{self, Shape};
use crate::retry::{RetryPolicy, Throttle};

pub(crate) use call::left;

/// The transport under the generated clients: a channel with this library's rules on it.
#[derive(Clone, Debug)]
pub struct Calls {
    channel: Channel,
    rules: Arc<Rules>,
}

/// How long calls wait and when they are repeated.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) read: Duration,
    pub(crate) change: Duration,
    pub(crate) silence: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) throttle: Throttle,
}

/// An extension of a request: how long its stream may have nothing to say, beside what is always granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence(pub(crate) Duration);

impl Calls {
    pub(crate) fn new(channel: Channel, rules: Rules) -> Self {
        Self {
            channel,
            rules: Arc::new(rules),
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.rules.retry
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel
            .poll_ready(cx)
            .map_err(|e| Status::from_error(e.into()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        // The clone left behind is the one to become ready next; this one is.
        let channel = self.channel.clone();
        let channel = std::mem::replace(&mut self.channel, channel);
        let rules = self.rules.clone();
        trace(request.headers_mut());
        match method::of(request.uri().path()) {
            Some(method) if method.shape == Shape::Unary => {
                Box::pin(call::unary(channel, rules, method, request))
            }
            Some(method) if method.shape == Shape::Stream => {
                Box::pin(call::stream(channel, rules, request))
            }
            _ => Box::pin(call::plain(channel, request)),
        }
    }
}

/// Gives the call a trace of its own unless the caller brought one (W3C Trace Context).
fn trace(headers: &mut HeaderMap) {
    if headers.contains_key("traceparent") {
        return;
    }
    let span = format!("{:016x}", Uuid::new_v4().as_u64_pair().0);
    let parent = format!("00-{}-{span}-01", Uuid::new_v4().simple());
    if let Ok(value) = HeaderValue::try_from(parent) {
        headers.insert("traceparent", value);
    }
}
