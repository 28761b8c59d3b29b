//! What went wrong, in a form that any module can make and the API edge can tell.
//!
//! Each module keeps its own small error enum and says through [`Classify`] how a caller should take it.
//! At a module boundary it becomes an [`Error`]: plain data, so that one failure can be stored, and told alike to
//! everyone who joined the operation, also after a restart.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::Phase;

/// What went wrong, as coarse as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The request itself is wrong; the faulty fields are named.
    Invalid,
    /// It is not here.
    NotFound,
    /// Same id, different content.
    Exists,
    /// Wrong state; the caller changes it first.
    Precondition,
    /// Another operation holds the instance.
    Pending,
    /// No room on this host.
    Exhausted,
    /// This peer may not.
    Denied,
    /// The hypervisor or the server is not ready; back off and retry.
    Unavailable,
    /// Something that was waited for did not come in time.
    Deadline,
    /// The caller asked to stop.
    Cancelled,
    /// The server does not do this; see the capabilities.
    Unsupported,
    /// A cursor or range lies outside what is kept.
    OutOfRange,
    /// A bug or a broken host.
    Internal,
}

/// An error that may cross a module boundary.
pub trait Classify: std::error::Error + Send + Sync + 'static {
    /// How coarse a caller may take it.
    fn kind(&self) -> Kind;
    /// Stable and machine-readable, listed in `reason.proto`: `INSTANCE_NOT_FOUND`.
    fn reason(&self) -> &'static str;
    /// Every variable of the message, by name. Never a secret, never a host path.
    fn fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// What the standard error details can carry beside the reason.
    fn details(&self) -> Details {
        Details::default()
    }
}

/// One faulty field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Path of the field: `flavor.vcpus`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub description: String,
}

/// One resource of which too little is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// `VCPU`, `MEMORY_MB`, `DISK_GB`.
    pub resource: String,
    /// What was asked for.
    pub asked: u64,
    /// What the host has left.
    pub left: u64,
}

/// What the standard error details carry beside kind and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// All faulty fields of the request.
    #[serde(default)]
    pub violations: Vec<Violation>,
    /// All resources that ran short.
    #[serde(default)]
    pub shortages: Vec<Shortage>,
    /// When a retry makes sense.
    #[serde(default)]
    pub retry_after: Option<Duration>,
}

/// A failure as it is stored and told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parts {
    kind: Kind,
    reason: Cow<'static, str>,
    message: String,
    fields: BTreeMap<String, String>,
    details: Details,
    phase: Option<Phase>,
}

/// The result of whatever may fail towards a caller.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that no module's own enum describes: a broken invariant of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, "INTERNAL", message)
    }

    /// A failure by its parts, for the few places that have no enum of their own.
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            fields: BTreeMap::new(),
            details: Details::default(),
            phase: None,
        }))
    }

    /// The same failure with one more named variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.fields.insert(name.to_owned(), value.to_string());
        self
    }

    /// The same failure with its standard details.
    #[must_use]
    pub fn detailed(mut self, details: Details) -> Self {
        self.0.details = details;
        self
    }

    /// The same failure, saying in which phase of an operation it happened; an earlier word stands.
    #[must_use]
    pub fn in_phase(mut self, phase: Phase) -> Self {
        self.0.phase.get_or_insert(phase);
        self
    }

    /// How coarse a caller may take it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether it passes by itself: the same call may succeed when it is tried again later.
    pub fn passes(&self) -> bool {
        self.0.kind == Kind::Unavailable || self.0.details.retry_after.is_some()
    }

    /// Whether nobody can be asked at all now: that says nothing of what was asked about.
    pub fn is_away(&self) -> bool {
        self.0.kind == Kind::Unavailable
    }

    /// The stable reason, UPPER_SNAKE.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What happened, with its causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Every variable of the message, by name.
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.0.fields
    }

    /// The standard details.
    pub fn details(&self) -> &Details {
        &self.0.details
    }

    /// The phase of the operation in which it happened.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl<E: Classify> From<E> for Error {
    fn from(e: E) -> Self {
        Self(Box::new(Parts {
            kind: e.kind(),
            reason: Cow::Borrowed(e.reason()),
            message: chain(&e),
            fields: e
                .fields()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            details: e.details(),
            phase: None,
        }))
    }
}

/// An error and its causes in one line.
pub fn chain(e: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(e.source(), |e| e.source());
    causes.fold(e.to_string(), |line, cause| format!("{line}: {cause}"))
}
