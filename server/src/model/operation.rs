//! One long call as the server keeps it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstanceId, OperationId, RequestId};
use crate::error::Error;

/// What an operation does, by the contract's verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verb {
    /// Creates and starts an instance.
    Spawn,
    /// Removes an instance.
    Destroy,
    /// Fetches an image into the cache.
    PullImage,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 3] = [Self::Spawn, Self::Destroy, Self::PullImage];

    /// The verb as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spawn => "SPAWN",
            Self::Destroy => "DESTROY",
            Self::PullImage => "PULL_IMAGE",
        }
    }
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationState {
    /// Going forward.
    Running,
    /// Taking back what was done.
    Unwinding,
    /// Done.
    Succeeded,
    /// Failed, and all of it undone.
    Failed,
    /// Stopped at the caller's word, and all of it undone.
    Cancelled,
}

impl OperationState {
    /// The state as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Unwinding => "UNWINDING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether it can change no more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// An operation as stored and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// The instance it holds; none for work on the image cache.
    pub instance: Option<InstanceId>,
    /// The image it works on, for work on the image cache.
    #[serde(default)]
    pub image: Option<String>,
    /// What it does.
    pub verb: Verb,
    /// The caller's id of the request, when given.
    pub request: Option<RequestId>,
    /// Keyed hash of the request's body: tells a repeat from another request.
    pub fingerprint: String,
    /// How it stands.
    pub state: OperationState,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// Who asked, as far as it is known.
    #[serde(default)]
    pub caller: Option<String>,
    /// Why it failed.
    pub error: Option<Error>,
}
