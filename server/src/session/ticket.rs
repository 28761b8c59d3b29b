//! Tokens that open a console once.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Proxy, SessionError};
use crate::model::{InstanceId, Secret};

/// More than any proxy opens within a token's life; a caller that asks in a loop must not fill the memory.
const WAITING: usize = 4096;

/// Kinds of console that there are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleKind {
    /// The screen, in RFB.
    Vnc,
    /// The serial port.
    Serial,
}

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose console.
    pub instance: InstanceId,
    /// Which.
    pub kind: ConsoleKind,
}

/// How a console is opened through the proxy.
#[derive(Debug)]
pub struct Access {
    /// Where.
    pub proxy: Proxy,
    /// By what.
    pub token: Secret<String>,
    /// Until when.
    pub expires: SystemTime,
}

/// Tokens that wait to be used. They are kept as hashes, and not over a restart.
#[derive(Debug)]
pub(super) struct Tickets {
    lifetime: Duration,
    waiting: Mutex<HashMap<[u8; 32], (Ticket, Instant)>>,
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Tickets {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            waiting: Mutex::default(),
        }
    }

    pub(super) fn issue(&self, ticket: Ticket, proxy: Proxy) -> Result<Access, SessionError> {
        // 244 random bits.
        let token = [Uuid::new_v4(), Uuid::new_v4()].map(|half| half.simple().to_string());
        let token = token.concat();
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, (_, until)| *until > now);
        if waiting.len() >= WAITING {
            return Err(SessionError::Tokens);
        }
        waiting.insert(hash(&token), (ticket, now + self.lifetime));
        Ok(Access {
            proxy,
            token: Secret::new(token),
            expires: SystemTime::now() + self.lifetime,
        })
    }

    pub(super) fn redeem(&self, token: &str) -> Option<Ticket> {
        let (ticket, until) = self.waiting.lock().remove(&hash(token))?;
        (Instant::now() < until).then_some(ticket)
    }
}
