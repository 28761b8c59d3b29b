//! A session at a screen.

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::task::AbortOnDropHandle;

use super::type_in;
use crate::{
    error::{Error, Result},
    hypervisor::console::Wire,
};

/// A picture is many times as large; more at once would only wait in memory. At most the contract's 65536.
const ROOM: usize = 32 << 10;

/// A client at a screen. It hangs up when this is dropped.
pub struct Screen {
    from: Pin<Box<dyn AsyncRead + Send>>,
    typist: AbortOnDropHandle<Result<()>>,
    room: BytesMut,
    over: bool,
}

impl Screen {
    pub(super) fn begin(
        wire: Wire,
        typed: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self {
            from: wire.from,
            // A task of its own: keys and pointer do not wait for the picture.
            typist: AbortOnDropHandle::new(tokio::spawn(type_in(wire.to, typed))),
            room: BytesMut::new(),
            over: false,
        }
    }

    /// What the screen says next; none when the session has ended.
    ///
    /// # Errors
    /// When what was sent cannot be passed on. It has ended then.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.over {
            return None;
        }
        self.room.reserve(ROOM);
        let mut room = (&mut self.room).limit(ROOM);
        let read = tokio::select! {
            // A client that left is not sent more.
            biased;
            typed = &mut self.typist => {
                self.over = true;
                let lost = |e| Err(Error::internal(format!("the screen's line was lost: {e}")));
                return typed.unwrap_or_else(lost).err().map(Err);
            }
            read = self.from.read_buf(&mut room) => read,
        };
        if let Ok(1..) = read {
            return Some(Ok(self.room.split().freeze()));
        }
        self.over = true;
        None
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
