//! Lines into a running guest: its serial port and its screen.

use std::{fmt, pin::Pin};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Result;
use crate::model::InstanceId;

/// A line into a guest, in bytes, both ways. It hangs up when it is dropped.
pub struct Wire {
    /// What the guest's side says; the end when the guest's run has ended.
    pub from: Pin<Box<dyn AsyncRead + Send>>,
    /// What is said to it; waits when the guest does not take it.
    pub to: Pin<Box<dyn AsyncWrite + Send>>,
}

impl Wire {
    /// A line of two halves.
    pub fn new(
        from: impl AsyncRead + Send + 'static,
        to: impl AsyncWrite + Send + 'static,
    ) -> Self {
        Self {
            from: Box::pin(from),
            to: Box::pin(to),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// Opens lines into guests. A guest that is off answers `State`.
#[async_trait]
pub trait Consoles: Send + Sync {
    /// A line to a serial port; none when the guest has no such port.
    ///
    /// Whoever holds one must go on reading it: a guest whose port is full waits, and its log with it. Two lines to one
    /// port share what the guest writes; the log has all of it.
    async fn serial(&self, id: InstanceId, port: u32) -> Result<Option<Wire>>;

    /// A line to the screen, in RFB from its first byte; none when the guest has no screen. Several may be open.
    async fn screen(&self, id: InstanceId) -> Result<Option<Wire>>;
}
