//! Whether and when a lost stream is opened again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::error::Error;
use crate::retry::RetryPolicy;

/// What a server says that is on its way down or up: the operation goes on or comes back with it.
const PASSING: [&str; 2] = ["DRAINING", "STARTING"];

/// Counts the failures in a row. Before the server was heard for the first time the retry policy's attempts are all
/// there is; afterwards an operation is known to go on, and is worth the builder's patience.
#[derive(Debug)]
pub(crate) struct Rejoin {
    policy: RetryPolicy,
    patience: Duration,
    joined: bool,
    failures: u32,
    heard: Instant,
    not_before: Option<Instant>,
}

impl Rejoin {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            policy: client.calls().retry().clone(),
            patience: client.rejoin(),
            joined: false,
            failures: 0,
            heard: Instant::now(),
            not_before: None,
        }
    }

    /// A message came.
    pub(crate) fn heard(&mut self) {
        self.joined = true;
        self.failures = 0;
        self.heard = Instant::now();
    }

    /// Counts a failure; whether another attempt is worth it.
    pub(crate) fn lost(&mut self, error: &Error) -> bool {
        if !error.is_lost() && !PASSING.contains(&error.reason()) {
            return false;
        }
        if self.failures == 0 {
            self.heard = Instant::now();
        }
        self.failures += 1;
        let pause = error
            .retry_after()
            .unwrap_or_else(|| self.policy.backoff(self.failures));
        let next = Instant::now() + pause;
        self.not_before = Some(next);
        match self.joined {
            true => next < self.heard + self.patience,
            false => self.failures < self.policy.attempts(),
        }
    }

    /// Waits until the next attempt is due.
    pub(crate) async fn pause(&mut self) {
        if let Some(at) = self.not_before {
            sleep_until(at).await;
            self.not_before = None;
        }
    }
}
