//! The console proxy: consoles over plain TCP, for who has a token of `GetConsoleAccess`.
//!
//! Who connects sends the token and a newline; the console's bytes follow at once, both ways. A token that is wrong, used
//! or too old gets no answer: the connection is closed. So is one that sends none in time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use tracing::{debug, info};

use super::{ServeError, connection::Connection, socket::Listener};
use crate::{
    config::Listen,
    error::Result,
    session::{Claim, ConsoleKind, Screen, Serial, Sessions, Ticket},
};

/// A screen or two for every guest of a full host.
const CONNECTIONS: usize = 1024;
/// As long as an RFB client waits for its server's first word.
const TOKEN_WITHIN: Duration = Duration::from_secs(10);
/// Twice a token's length: more is none.
const TOKEN_MAX: usize = 128;

/// The proxy's address, before anyone is let in.
#[derive(Debug)]
pub struct ConsoleProxy {
    listener: Listener,
}

impl ConsoleProxy {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken or cannot be used.
    pub async fn bind(address: &Listen) -> Result<Self, ServeError> {
        let listener = Listener::bind(address).await?;
        Ok(Self { listener })
    }

    /// The address, with the port that the kernel chose.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.listener.address() {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        }
    }

    /// Carries consoles until `close` is cancelled.
    pub async fn serve(self, sessions: Sessions, close: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut incoming = std::pin::pin!(self.listener.incoming());
        let mut open = JoinSet::new();
        let carry = async {
            // Who comes when there is no room waits in the kernel's own short queue.
            while let Ok(place) = room.clone().acquire_owned().await {
                let Some(Ok(connection)) = incoming.next().await else {
                    break;
                };
                while open.try_join_next().is_some() {}
                let sessions = sessions.clone();
                open.spawn(async move {
                    let _place = place;
                    converse(connection, &sessions).await;
                });
            }
        };
        // Biased: the end counts more than one more console.
        tokio::select! {
            biased;
            () = close.cancelled() => {}
            () = carry => {}
        }
    }
}

async fn converse(connection: Connection, sessions: &Sessions) {
    let (mut from, to) = split(connection);
    let token = tokio::time::timeout(TOKEN_WITHIN, token(&mut from)).await;
    let ticket = token
        .ok()
        .flatten()
        .and_then(|token| sessions.redeem(&token));
    let Some(Ticket { instance, kind }) = ticket else {
        return debug!("a console proxy showed no token that is good");
    };
    match carry(Ticket { instance, kind }, sessions, from, to).await {
        Ok(()) => info!(%instance, ?kind, "a console was closed"),
        Err(e) => info!(%instance, ?kind, error = %e, "a console was closed"),
    }
}

/// The line up to its first newline, byte by byte: what follows is the console's.
async fn token(from: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    while line.len() < TOKEN_MAX {
        match from.read_u8().await.ok()? {
            b'\n' => {
                let line = String::from_utf8(line).ok()?;
                return Some(line.trim_end_matches('\r').to_owned());
            }
            byte => line.push(byte),
        }
    }
    None
}

/// Carries a console until one side ends.
async fn carry(
    ticket: Ticket,
    sessions: &Sessions,
    from: impl AsyncRead + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
) -> Result<()> {
    let left = CancellationToken::new();
    let typed = typed(from, left.clone());
    let mut session = match ticket.kind {
        ConsoleKind::Serial => {
            let place = (ticket.instance, 0);
            Session::Serial(sessions.serial(place, Claim::Free, typed).await?)
        }
        ConsoleKind::Vnc => Session::Screen(sessions.screen(ticket.instance, typed).await?),
    };
    let Ticket { instance, kind } = ticket;
    info!(%instance, ?kind, "a console was opened by a token");
    loop {
        // Biased: who left is not sent more.
        let next = tokio::select! {
            biased;
            () = left.cancelled() => return Ok(()),
            next = session.next() => next,
        };
        let Some(bytes) = next.transpose()? else {
            return Ok(());
        };
        if to.write_all(&bytes).await.is_err() {
            return Ok(());
        }
    }
}

/// What the client sends. When it ends, `left` is told: over TCP who has sent its last has left.
fn typed(
    from: impl AsyncRead + Send + 'static,
    left: CancellationToken,
) -> impl Stream<Item = Result<Bytes>> + Send {
    let bytes = ReaderStream::new(from);
    let bytes = bytes.take_while(|read| std::future::ready(read.is_ok()));
    let bytes = bytes.filter_map(|read| std::future::ready(read.ok().map(Ok)));
    let end = stream::once(async move { left.cancel() });
    bytes.chain(end.filter_map(|()| std::future::ready(None)))
}

enum Session {
    Serial(Serial),
    Screen(Screen),
}

impl Session {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        match self {
            Self::Serial(serial) => serial.next().await,
            Self::Screen(screen) => screen.next().await,
        }
    }
}
