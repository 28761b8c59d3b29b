//! What a call failed with, in a form that a person and a program can act on.

mod advice;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use computedriver::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::layers;

/// The domain of every `ErrorInfo` of the contract.
const DOMAIN: &str = "computedriver";

/// What went wrong, as coarse as a caller can act on it. Mirrors the gRPC codes that the contract uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request itself is wrong; [`Error::violations`] names the faults. `INVALID_ARGUMENT`.
    Invalid,
    /// It is not here. `NOT_FOUND`.
    NotFound,
    /// Same id, different content. `ALREADY_EXISTS`.
    Exists,
    /// Wrong state; change it first. `FAILED_PRECONDITION`.
    Precondition,
    /// Something else was in the way, or the change failed and was undone; may be tried again. `ABORTED`.
    Pending,
    /// No room on this host; [`Error::quotas`] tells of what. `RESOURCE_EXHAUSTED`.
    Exhausted,
    /// This caller may not. `PERMISSION_DENIED`, `UNAUTHENTICATED`.
    Denied,
    /// The server or its hypervisor is away; back off and try again. `UNAVAILABLE`.
    Unavailable,
    /// Something that was waited for did not come in time. `DEADLINE_EXCEEDED`.
    Deadline,
    /// The operation was cancelled. `CANCELLED`.
    Cancelled,
    /// The server does not do this; see the capabilities. `UNIMPLEMENTED`.
    Unsupported,
    /// A cursor or offset lies outside what is kept. `OUT_OF_RANGE`.
    OutOfRange,
    /// A bug or a broken host. All other codes.
    Internal,
}

impl Kind {
    fn of(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::Exists,
            Code::FailedPrecondition => Self::Precondition,
            Code::Aborted => Self::Pending,
            Code::ResourceExhausted => Self::Exhausted,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::Deadline,
            Code::Cancelled => Self::Cancelled,
            Code::Unimplemented => Self::Unsupported,
            Code::OutOfRange => Self::OutOfRange,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }
}

/// One fault of a request, or one condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as `flavor.vcpus`, or the subject of the condition.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// One resource that is not there in the amount asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The resource, as `VCPU`.
    pub subject: String,
    /// What was asked for and what is left.
    pub description: String,
}

/// Why a call failed.
///
/// `Display` is one sentence; [`next_move`](Self::next_move) is what to do about it.
///
/// ```
/// use computedriver_client::{Error, Kind};
///
/// let error = Error::from(tonic::Status::not_found("no such instance"));
/// assert_eq!(error.kind(), Kind::NotFound);
/// assert_eq!(error.to_string(), "no such instance");
/// ```
#[derive(Clone)]
pub struct Error(Box<Failure>);

#[derive(Clone)]
struct Failure {
    kind: Kind,
    code: Code,
    reason: String,
    message: String,
    fields: BTreeMap<String, String>,
    violations: Vec<Violation>,
    preconditions: Vec<Violation>,
    quotas: Vec<Quota>,
    retry_after: Option<Duration>,
    lost: bool,
}

impl Error {
    /// What to do about it, as coarse as it goes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The reason, a name of `reason.proto` as `INSTANCE_NOT_FOUND`; empty when the server never answered.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// One sentence for a person, without the faults.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Every variable that the message names.
    #[must_use]
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.0.fields
    }

    /// Every fault of the request.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Every condition that does not hold.
    #[must_use]
    pub fn preconditions(&self) -> &[Violation] {
        &self.0.preconditions
    }

    /// Every resource that is short.
    #[must_use]
    pub fn quotas(&self) -> &[Quota] {
        &self.0.quotas
    }

    /// When the server wants to be asked again; unset when it did not say.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The operation that failed, or that is in the way.
    #[must_use]
    pub fn operation_id(&self) -> Option<&str> {
        self.0.fields.get("operation_id").map(String::as_str)
    }

    /// The phase in which the operation failed, as `FETCH_IMAGE`.
    #[must_use]
    pub fn phase(&self) -> Option<&str> {
        self.0.fields.get("phase").map(String::as_str)
    }

    /// Whether the connection failed rather than the call: what the server made of it is not known.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lost
    }

    /// What the caller does now, one sentence.
    ///
    /// ```
    /// # use computedriver_client::Error;
    /// let error = Error::from(tonic::Status::unavailable("hypervisor away"));
    /// assert!(!error.next_move().is_empty());
    /// ```
    #[must_use]
    pub fn next_move(&self) -> &'static str {
        advice::of(&self.0.reason, self.0.kind)
    }

    fn local(code: Code, message: String) -> Self {
        Self(Box::new(Failure {
            kind: Kind::of(code),
            code,
            reason: String::new(),
            message,
            fields: BTreeMap::new(),
            violations: Vec::new(),
            preconditions: Vec::new(),
            quotas: Vec::new(),
            retry_after: None,
            lost: false,
        }))
    }

    /// A fault of an argument of this library.
    pub(crate) fn usage(message: String, field: &str) -> Self {
        let mut error = Self::local(Code::InvalidArgument, message);
        error.0.fields.insert("argument".into(), field.into());
        error
    }

    /// No server answers at the address.
    pub(crate) fn unreachable(address: &str, error: &tonic::transport::Error) -> Self {
        let why = root(error);
        let mut error = Self::local(
            Code::Unavailable,
            format!("no server answers at {address}: {why}"),
        );
        error.0.fields.insert("endpoint".into(), address.into());
        error.0.lost = true;
        error
    }

    /// A stream that ended before it said that it was whole.
    pub(crate) fn cut(message: impl Into<String>) -> Self {
        let mut error = Self::local(Code::Unavailable, message.into());
        error.0.lost = true;
        error
    }

    /// Names what the error is about, unless the server did.
    pub(crate) fn with(mut self, field: &str, value: &str) -> Self {
        if !value.is_empty() {
            let entry = self.0.fields.entry(field.to_owned());
            entry.or_insert_with(|| value.to_owned());
        }
        self
    }

    /// The failure that an operation ended with.
    pub(crate) fn of_operation(operation: &v1::Operation) -> Option<Self> {
        let failure = operation.error.as_ref()?;
        let mut error = Self::local(Code::from(failure.code), failure.message.clone());
        error.0.fields.extend(failure.fields.clone());
        if failure.reason() != v1::Reason::Unspecified {
            let name = failure.reason().as_str_name();
            error.0.reason = name.trim_start_matches("REASON_").to_owned();
        }
        if failure.phase() != v1::Phase::Unspecified {
            let name = failure.phase().as_str_name();
            error = error.with("phase", name.trim_start_matches("PHASE_"));
        }
        Some(error.with("operation_id", &operation.operation_id))
    }
}

/// The innermost cause: transport errors hide it behind "transport error".
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if layers::left(&status) {
            let why = root(&status);
            return Self::cut(format!("the connection to the server was lost: {why}"));
        }
        let details = status.get_error_details();
        let mut error = Self::local(status.code(), status.message().to_owned());
        error.0.lost = status.code() == Code::Unavailable && details.error_info().is_none();
        error.0.fill(&details);
        if error.0.message.is_empty() {
            error.0.message = format!("the server answered {:?} without a word", status.code());
        }
        error
    }
}

impl Failure {
    fn fill(&mut self, details: &ErrorDetails) {
        self.retry_after = details.retry_info().and_then(|r| r.retry_delay);
        if let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) {
            self.reason.clone_from(&info.reason);
            self.fields.extend(info.metadata.clone());
        }
        for fault in details
            .bad_request()
            .iter()
            .flat_map(|b| &b.field_violations)
        {
            self.violations.push(Violation {
                field: fault.field.clone(),
                description: fault.description.clone(),
            });
        }
        for fault in details
            .precondition_failure()
            .iter()
            .flat_map(|p| &p.violations)
        {
            self.preconditions.push(Violation {
                field: fault.subject.clone(),
                description: fault.description.clone(),
            });
        }
        for short in details.quota_failure().iter().flat_map(|q| &q.violations) {
            self.quotas.push(Quota {
                subject: short.subject.clone(),
                description: short.description.clone(),
            });
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let faults = self.0.violations.iter().chain(&self.0.preconditions);
        let faults = faults.map(|v| (&v.field, &v.description));
        let short = self.0.quotas.iter().map(|q| (&q.subject, &q.description));
        // A server that puts its only fault into the sentence need not say it twice.
        let told = faults
            .chain(short)
            .filter(|(_, description)| !self.0.message.contains(description.as_str()));
        for (nth, (subject, description)) in told.enumerate() {
            let joint = if nth == 0 { ": " } else { "; " };
            write!(f, "{joint}{subject} {description}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("reason", &self.0.reason)
            .field("message", &self.to_string())
            .field("fields", &self.0.fields)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
