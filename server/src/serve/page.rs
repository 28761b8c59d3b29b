//! The page for Prometheus: `GET /metrics` over HTTP/1, on loopback.
//!
//! A scraper that hangs harms nobody: few connections at once, each for one answer and not for long.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{ServeError, connection::Connection, socket::Listener};
use crate::{
    config::Listen,
    metrics::{Format, PAGE_SCRAPES, Scrape, write},
};

/// A Prometheus or two, an operator with a browser, and some that hang.
const CONNECTIONS: usize = 8;
/// What Prometheus itself waits by default.
const LIFETIME: Duration = Duration::from_secs(10);

/// The page's address, before anyone is answered.
#[derive(Debug)]
pub struct Page {
    listener: Listener,
}

impl Page {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken or cannot be used.
    pub async fn bind(address: &Listen) -> Result<Self, ServeError> {
        let listener = Listener::bind(address).await?;
        Ok(Self { listener })
    }

    /// The address, with the port that the kernel chose.
    pub fn address(&self) -> &Listen {
        self.listener.address()
    }

    /// Answers until `close` is cancelled.
    pub async fn serve(self, scrape: Scrape, close: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut incoming = std::pin::pin!(self.listener.incoming());
        let mut open = JoinSet::new();
        let answer = async {
            // Who comes when there is no room waits in the kernel's own short queue.
            while let Ok(place) = room.clone().acquire_owned().await {
                let Some(Ok(connection)) = incoming.next().await else {
                    break;
                };
                while open.try_join_next().is_some() {}
                let scrape = scrape.clone();
                open.spawn(async move {
                    let _place = place;
                    converse(connection, scrape).await;
                });
            }
        };
        // Biased: the end counts more than one more answer.
        tokio::select! {
            biased;
            () = close.cancelled() => {}
            () = answer => {}
        }
    }
}

async fn converse(connection: Connection, scrape: Scrape) {
    let service = service_fn(|request| answer(request, scrape.clone()));
    let mut server = http1::Builder::new();
    // One answer a connection, so that its age bounds everything.
    let server = server.keep_alive(false);
    let served = server.serve_connection(TokioIo::new(connection), service);
    match tokio::time::timeout(LIFETIME, served).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => debug!(error = %e, "a reader of the metrics page went away"),
        Err(_) => debug!("a reader of the metrics page hangs"),
    }
}

async fn answer(
    request: Request<Incoming>,
    scrape: Scrape,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "the page is /metrics\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "GET is served\n"));
    }
    // Counted as given up when the reader leaves before the answer is made.
    let mut timer = Timer(Instant::now(), "abandoned");
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let text = write(&scrape().await, format);
    timer.1 = "ok";
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let kind = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

struct Timer(Instant, &'static str);

impl Drop for Timer {
    fn drop(&mut self) {
        PAGE_SCRAPES.of([self.1]).record(self.0.elapsed());
    }
}

#[cfg(test)]
mod tests;
