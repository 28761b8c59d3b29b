//! Sessions with guests' consoles: who sits at a serial port, what goes over the line, and tickets for the proxy.
//!
//! ```text
//!   typed ──▶ pump ──▶ serial port ──▶ guest ──▶ log file ──▶ follower ──▶ whoever reads
//!               └─◀── what the port says is thrown away: the log has it ──┘
//! ```
//!
//! What a session shows comes out of the console's log. So a client that reads late keeps nothing in memory, loses nothing
//! and never makes the guest wait, and the log goes on whatever clients do. What is typed goes to the port as fast as the
//! guest takes it, and waits at the client's end when it does not. A screen is carried as it is: QEMU's server paces itself.

mod screen;
mod seat;
mod serial;
mod ticket;

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

pub use screen::Screen;
pub use serial::Serial;
pub use ticket::{Access, ConsoleKind, Ticket};

use crate::{
    console::ConsoleLog,
    error::{Classify, Kind, Result},
    host::Host,
    hypervisor::HypervisorError,
    model::InstanceId,
    plan,
};
use seat::Seats;
use ticket::Tickets;

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The instance has no such console.
    #[error("instance {instance} has no {console}")]
    Absent {
        /// Which instance.
        instance: InstanceId,
        /// What it lacks.
        console: String,
    },
    /// Another client types there.
    #[error("another client holds the serial console of instance {instance}")]
    Busy {
        /// Which instance.
        instance: InstanceId,
    },
    /// Another client has taken it over.
    #[error("another client took over the serial console of instance {instance}")]
    Taken {
        /// Which instance.
        instance: InstanceId,
    },
    /// No proxy listens.
    #[error("this server has no console proxy: console.listen is not set")]
    NoProxy,
    /// Too many tokens wait to be used.
    #[error("too many console tokens wait to be used")]
    Tokens,
}

impl Classify for SessionError {
    fn kind(&self) -> Kind {
        match self {
            Self::Absent { .. } => Kind::NotFound,
            Self::Busy { .. } | Self::Taken { .. } => Kind::Pending,
            Self::NoProxy => Kind::Precondition,
            Self::Tokens => Kind::Exhausted,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "CONSOLE_NOT_FOUND",
            Self::Busy { .. } => "CONSOLE_BUSY",
            Self::Taken { .. } => "CONSOLE_TAKEN",
            Self::NoProxy => "NOT_SUPPORTED",
            Self::Tokens => "OVERLOADED",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Absent { instance, .. } | Self::Busy { instance } | Self::Taken { instance } => {
                vec![("instance_id", instance.to_string())]
            }
            Self::NoProxy => vec![("key", "console.listen".to_owned())],
            Self::Tokens => Vec::new(),
        }
    }
}

/// Whether a session may end another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Only a free console is taken.
    Free,
    /// Whoever sits there is sent away.
    Force,
}

/// Where console proxies of this host are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// A name or an address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl From<SocketAddr> for Proxy {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// All sessions of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    host: Arc<Host>,
    seats: Arc<Seats>,
    tickets: Tickets,
    proxy: OnceLock<Proxy>,
}

impl Sessions {
    /// None yet; tokens will be good for `token_lifetime`.
    pub fn new(host: Arc<Host>, token_lifetime: Duration) -> Self {
        Self(Arc::new(Parts {
            host,
            seats: Arc::default(),
            tickets: Tickets::new(token_lifetime),
            proxy: OnceLock::new(),
        }))
    }

    /// Says where the proxy is reached, once it listens. The first word stands.
    pub fn proxied_at(&self, proxy: Proxy) {
        self.0.proxy.get_or_init(|| proxy);
    }

    /// Where the proxy is reached.
    ///
    /// # Errors
    /// When there is none.
    pub fn proxy(&self) -> Result<&Proxy, SessionError> {
        self.0.proxy.get().ok_or(SessionError::NoProxy)
    }

    /// Sits down at a serial port; `typed` goes to the guest. When it ends the session goes on, for who still reads.
    ///
    /// # Errors
    /// When the instance is absent, does not run, has no such port, or another client sits there.
    pub async fn serial(
        &self,
        (id, port): (InstanceId, u32),
        claim: Claim,
        typed: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Result<Serial> {
        let log = self.log(id)?;
        // A port that is not there is told before who sits where.
        if port != 0 {
            return Err(no_port(id, port).into());
        }
        let seat = self.0.seats.sit((id, port), claim).await?;
        // Before the line is open: whatever the guest says from now on is shown.
        let end = log.end().await?.unwrap_or(0);
        let wire = self.0.host.hypervisor.serial(id, port).await;
        let wire = wire.map_err(|e| known(id, e))?;
        let wire = wire.ok_or_else(|| no_port(id, port))?;
        let watcher = self.0.host.watcher.clone();
        Ok(Serial::begin(seat, wire, typed, (log, watcher, end)))
    }

    /// Looks at the screen; `typed` goes to it, and its end is the session's.
    ///
    /// # Errors
    /// When the instance is absent, does not run, or has no screen.
    pub async fn screen(
        &self,
        id: InstanceId,
        typed: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Result<Screen> {
        self.log(id)?;
        let wire = self.0.host.hypervisor.screen(id).await;
        let wire = wire.map_err(|e| known(id, e))?;
        let wire = wire.ok_or_else(|| no_screen(id))?;
        Ok(Screen::begin(wire, typed))
    }

    /// A token that opens the console once, through the proxy.
    ///
    /// # Errors
    /// When the instance is absent, does not run or has no such console; and when there is no proxy.
    pub async fn grant(&self, id: InstanceId, kind: ConsoleKind) -> Result<Access> {
        self.log(id)?;
        let proxy = self.proxy()?.clone();
        let live = self.0.host.hypervisor.live(id).await;
        let live = live.map_err(|e| known(id, e))?;
        if kind == ConsoleKind::Vnc && live.vnc_port.is_none() {
            return Err(no_screen(id).into());
        }
        Ok(self.0.tickets.issue(Ticket { instance: id, kind }, proxy)?)
    }

    /// What a token opens; none when it is wrong, used or too old.
    pub fn redeem(&self, token: &str) -> Option<Ticket> {
        self.0.tickets.redeem(token)
    }

    fn log(&self, id: InstanceId) -> Result<ConsoleLog, HypervisorError> {
        let Host { store, paths, .. } = &*self.0.host;
        let known = store.instance(id);
        known.ok_or(HypervisorError::NotFound(id))?;
        Ok(ConsoleLog::new(paths.instance(id).join(plan::CONSOLE_LOG)))
    }
}

fn no_port(instance: InstanceId, port: u32) -> SessionError {
    let console = format!("serial port {port}");
    SessionError::Absent { instance, console }
}

fn no_screen(instance: InstanceId) -> SessionError {
    let console = "screen".to_owned();
    SessionError::Absent { instance, console }
}

/// A guest that the store knows and the hypervisor does not is not absent: it does not run.
fn known(guest: InstanceId, e: HypervisorError) -> HypervisorError {
    match e {
        HypervisorError::NotFound(_) => HypervisorError::State {
            guest,
            message: "domain is not running".to_owned(),
        },
        e => e,
    }
}

/// Gives the guest all that is typed, as fast as it takes it. Fails as `typed` does; a guest that hangs up is the end.
async fn type_in(
    mut to: impl AsyncWrite + Unpin,
    typed: impl Stream<Item = Result<Bytes>>,
) -> Result<()> {
    let mut typed = std::pin::pin!(typed);
    while let Some(bytes) = typed.next().await {
        if to.write_all(&bytes?).await.is_err() {
            break;
        }
    }
    // What is on its way is the guest's; a failure means that it has gone.
    let _ = to.flush().await;
    Ok(())
}
