//! A session at a serial port.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::{SessionError, seat::Seat, type_in};
use crate::{
    console::{Chunk, ConsoleError, ConsoleLog, Until, Watcher},
    error::{Error, Result},
    hypervisor::console::Wire,
    model::InstanceId,
};

/// As much as a terminal holds: it is emptied in one go.
const ROOM: usize = 4096;

type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, ConsoleError>> + Send>>;

/// A client at a serial port. It gets up when this is dropped.
pub struct Serial {
    instance: InstanceId,
    pump: AbortOnDropHandle<End>,
    log: ConsoleLog,
    watcher: Watcher,
    offset: u64,
    chunks: Chunks,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// The line has ended; what the guest wrote until then is still told.
    Rest,
    Over,
}

/// Why the line has ended.
#[derive(Debug)]
enum End {
    /// The guest hung up.
    HungUp,
    /// Another client took it over.
    Taken,
    /// What the client sent cannot be typed.
    Failed(Error),
}

impl Serial {
    pub(super) fn begin(
        seat: Seat,
        wire: Wire,
        typed: impl Stream<Item = Result<Bytes>> + Send + 'static,
        (log, watcher, offset): (ConsoleLog, Watcher, u64),
    ) -> Self {
        Self {
            instance: seat.port.0,
            // A task of its own: it goes on while nobody reads.
            pump: AbortOnDropHandle::new(tokio::spawn(pump(seat, wire, typed))),
            chunks: Box::pin(log.follow(&watcher, offset, Until::Removed)),
            log,
            watcher,
            offset,
            state: State::Live,
        }
    }

    /// What the guest writes next; none when the session has ended.
    ///
    /// # Errors
    /// When another client took over, when what was sent cannot be typed, and when the log cannot be read. It has ended
    /// then.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let chunk = match self.state {
                State::Over => return None,
                State::Rest => self.chunks.next().await,
                State::Live => tokio::select! {
                    // Who was sent away is told so before more is shown.
                    biased;
                    end = &mut self.pump => match self.ended(end) {
                        Some(e) => return Some(Err(e)),
                        None => continue,
                    },
                    chunk = self.chunks.next() => chunk,
                },
            };
            match chunk {
                Some(Ok(chunk)) => {
                    self.offset = chunk.offset + chunk.bytes.len() as u64;
                    return Some(Ok(chunk.bytes));
                }
                Some(Err(e)) => {
                    self.state = State::Over;
                    return Some(Err(e.into()));
                }
                None => self.state = State::Over,
            }
        }
    }

    fn ended(&mut self, end: Result<End, tokio::task::JoinError>) -> Option<Error> {
        self.state = State::Over;
        match end {
            Ok(End::HungUp) => {
                let rest = self.log.follow(&self.watcher, self.offset, Until::End);
                self.chunks = Box::pin(rest);
                self.state = State::Rest;
                None
            }
            Ok(End::Taken) => Some(
                SessionError::Taken {
                    instance: self.instance,
                }
                .into(),
            ),
            Ok(End::Failed(e)) => Some(e),
            Err(e) => Some(Error::internal(format!("the console's line was lost: {e}"))),
        }
    }
}

impl std::fmt::Debug for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serial")
            .field("instance", &self.instance)
            .field("offset", &self.offset)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Types until that fails. A client that has typed its last may still read.
async fn type_all(to: impl AsyncWrite + Unpin, typed: impl Stream<Item = Result<Bytes>>) -> Error {
    match type_in(to, typed).await {
        Ok(()) => std::future::pending().await,
        Err(e) => e,
    }
}

/// Carries until one side ends.
async fn pump(seat: Seat, wire: Wire, typed: impl Stream<Item = Result<Bytes>> + Send) -> End {
    let end = {
        let Wire { from, to } = wire;
        tokio::select! {
            // Nothing more is typed by who was sent away.
            biased;
            () = seat.taken.cancelled() => End::Taken,
            () = drain(from) => End::HungUp,
            e = type_all(to, typed) => End::Failed(e),
        }
    };
    // Once the line is hung up, another may sit down.
    drop(seat);
    end
}

/// Reads what the port says until it ends. Nobody waits for it, but a guest does whose port is full.
async fn drain(mut from: impl AsyncRead + Unpin) {
    let mut room = [0; ROOM];
    // The end of a terminal's other side is an error on Linux.
    while let Ok(1..) = from.read(&mut room).await {}
}
