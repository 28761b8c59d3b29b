//! When a call is repeated: gRFC A6, for idempotent unary calls that found the server away.
//!
//! The same rules are published as a gRPC service config (`docs/service-config.json`), so that clients in other
//! languages follow them too; a test compares the two with the descriptor.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::builder::{CHANGE, READ};
use crate::method::{Effect, METHODS, Shape};

/// How calls are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 1 never repeats, and more than 5 counts as 5.
    pub max_attempts: u32,
    /// Longest pause before the second attempt; it doubles with each.
    pub initial_backoff: Duration,
    /// Longest pause before any attempt.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: ATTEMPTS,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
        }
    }
}

/// gRFC A6 allows no more.
const ATTEMPTS: u32 = 5;
const MULTIPLIER: u32 = 2;
/// A client whose calls mostly fail stops repeating them: failures cost a token, successes give a tenth back, and
/// below half no call is repeated.
const TOKENS: u32 = 100;
const TOKEN_RATIO: f64 = 0.1;

impl RetryPolicy {
    /// Never repeats.
    #[must_use]
    pub fn never() -> Self {
        Self {
            max_attempts: 1,
            ..Self::default()
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.max_attempts.clamp(1, ATTEMPTS)
    }

    /// The pause after the failed attempt of this number, counted from 1: random, so that many clients that lost one
    /// server do not come back as one.
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let doubled = MULTIPLIER.saturating_pow(attempt.saturating_sub(1).min(16));
        let longest = self.initial_backoff.saturating_mul(doubled);
        longest.min(self.max_backoff).mul_f64(random())
    }
}

/// Uniform in 0 to 1.
fn random() -> f64 {
    let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// Counts a client's failures against its successes, in thousandths of a token.
#[derive(Debug)]
pub(crate) struct Throttle {
    level: AtomicU32,
    enabled: bool,
}

const FULL: u32 = TOKENS * 1000;
const GAIN: u32 = 100;

impl Throttle {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self {
            level: AtomicU32::new(FULL),
            enabled: policy.attempts() > 1,
        }
    }

    pub(crate) fn succeeded(&self) {
        self.change(|level| level.saturating_add(GAIN).min(FULL));
    }

    /// Counts a failure; whether another attempt is allowed.
    pub(crate) fn failed(&self) -> bool {
        self.enabled && self.change(|level| level.saturating_sub(1000)) > FULL / 2
    }

    fn change(&self, to: impl Fn(u32) -> u32) -> u32 {
        let before = self
            .level
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |level| {
                Some(to(level))
            });
        before.map_or_else(|same| same, to)
    }
}

/// The default rules as a gRPC service config, for clients in any language.
///
/// ```
/// let config = computedriver_client::service_config();
/// assert!(config["methodConfig"].is_array());
/// ```
#[must_use]
pub fn service_config() -> Value {
    let policy = RetryPolicy::default();
    let named = |shape: Shape, effect: Effect| -> Vec<Value> {
        METHODS
            .iter()
            .filter(|m| m.shape == shape && m.effect == effect)
            .map(|m| json!({"service": m.service, "method": m.name}))
            .collect()
    };
    let retry = json!({
        "maxAttempts": policy.attempts(),
        "initialBackoff": seconds(policy.initial_backoff),
        "maxBackoff": seconds(policy.max_backoff),
        "backoffMultiplier": MULTIPLIER,
        "retryableStatusCodes": ["UNAVAILABLE"],
    });
    json!({
        "methodConfig": [
            {"name": named(Shape::Unary, Effect::Read), "timeout": seconds(READ), "retryPolicy": retry},
            {"name": named(Shape::Unary, Effect::Idempotent), "timeout": seconds(CHANGE), "retryPolicy": retry},
            {"name": named(Shape::Unary, Effect::Once), "timeout": seconds(CHANGE)},
        ],
        "retryThrottling": {"maxTokens": TOKENS, "tokenRatio": TOKEN_RATIO},
    })
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
