//! The door: listens, lets calls in, and closes in order.
//!
//!   bound ──▶ serving ──stop──▶ draining ──┬── all finished, or the limit ──▶ closing ──▶ closed
//!                                          └── stop again ───────────────────────────────▶ closed
//!
//! While it drains, health says NOT_SERVING and streams are told to end, but calls are still answered: whoever waits for a
//! running operation may ask for it. `app` composes it; nothing below knows it.

mod authority;
mod connection;
mod console;
mod layers;
mod method;
mod page;
mod socket;
mod standard;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, io, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, select_all},
};
use http::{Request, Response};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, transport};
use tower::Service;
use tracing::{info, warn};

pub use connection::Peer;
pub use console::ConsoleProxy;
pub use page::Page;
pub use standard::{Health, standard};

use crate::config::{Limits, Listen};
use layers::GateLayer;
use socket::Listener;

/// Often enough that a peer that died without a word is noticed within a minute, and below the idle limits of proxies.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// One connection may carry all streams of a caller; its own limit would show as a hang, ours shows as OVERLOADED.
const STREAMS_PER_CONNECTION: u32 = 65_536;
/// HTTP/2's 64 KiB would make a spawn with injected files wait for window updates.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What is left when we close is answers on their way; more time only helps clients that do not read.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Why the door did not open, or fell shut.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened at.
    #[error("{address} cannot be listened at")]
    Listen {
        /// Which.
        address: Listen,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The contract cannot be described to clients.
    #[error("reflection cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The connections cannot be served.
    #[error("calls cannot be served")]
    Transport(#[from] transport::Error),
    /// Signals cannot be heard.
    #[error("signals cannot be heard")]
    Signals(#[source] io::Error),
}

/// Addresses that are listened at, before anyone is answered.
#[derive(Debug)]
pub struct Door {
    listeners: Vec<Listener>,
}

impl Door {
    /// Listens at every address. Callers wait until [`Door::serve`].
    ///
    /// # Errors
    /// When one of them is taken or cannot be used; then none is listened at.
    pub async fn bind(addresses: &[Listen]) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(Listener::bind(address).await?);
        }
        Ok(Self { listeners })
    }

    /// The addresses, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<Listen> {
        let addresses = self.listeners.iter().map(Listener::address);
        addresses.cloned().collect()
    }

    /// Answers calls by `service` until `close` is cancelled, then lets those in flight end.
    ///
    /// # Errors
    /// When the connections cannot be served.
    pub async fn serve<S>(
        self,
        limits: &Limits,
        service: S,
        close: CancellationToken,
    ) -> Result<(), ServeError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let incoming = self.listeners.into_iter().map(Listener::incoming);
        let incoming = select_all(incoming.map(Box::pin));
        let server = transport::Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PONG_WITHIN))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .layer(GateLayer::new(limits.calls, limits.streams, close.clone()))
            .serve_with_incoming_shutdown(service, incoming, close.clone().cancelled_owned());
        let late = async {
            close.cancelled().await;
            tokio::time::sleep(CLOSE_WITHIN).await;
        };
        // Biased: that all is closed counts more than that the time is up.
        tokio::select! {
            biased;
            served = server => served?,
            () = late => warn!("clients that do not hang up are left"),
        }
        Ok(())
    }
}

/// How a daemon is brought to its end.
#[derive(Debug)]
pub struct Drain {
    /// What is told of us.
    pub health: Health,
    /// Cancelled when no new work is welcome; streams end by it.
    pub begun: CancellationToken,
    /// Cancelled when the door closes.
    pub close: CancellationToken,
}

impl Drain {
    /// Waits for the first word of `stop`, begins the drain, waits for `finish` or the second word, and closes the door.
    /// Run it beside [`Door::serve`]; `finish` bounds itself.
    pub async fn when(
        self,
        mut stop: impl Stream<Item = ()> + Unpin,
        finish: impl Future<Output = ()>,
    ) {
        // Whoever cancels `close` otherwise (the door fell shut) ends the wait.
        tokio::select! {
            biased;
            () = self.close.cancelled() => {}
            _ = stop.next() => info!("draining"),
        }
        self.health.end().await;
        self.begun.cancel();
        // Biased: an operator who insists is heard first.
        tokio::select! {
            biased;
            Some(()) = stop.next() => info!("stopping at once"),
            () = finish => info!("drained"),
        }
        self.close.cancel();
    }
}

/// One word for each SIGTERM or SIGINT.
///
/// # Errors
/// When the process cannot hear them.
pub fn signals() -> Result<impl Stream<Item = ()> + Unpin + Send, ServeError> {
    let mut term = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    Ok(stream::poll_fn(move |cx| {
        let term = term.poll_recv(cx);
        if term.is_ready() {
            term
        } else {
            int.poll_recv(cx)
        }
    }))
}
