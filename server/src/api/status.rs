//! A failure as gRPC tells it: the only conversion of [`Error`] to a status.
//!
//! Canonical code by kind, one `ErrorInfo` always, and the other standard details where they fit. Everything travels in
//! the trailers, and C-core clients drop a call whose trailers pass 8 KiB: so each part has a budget, and what does not
//! fit is counted instead of told.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt};

use crate::error::{Error, Kind};

/// The domain of every `ErrorInfo` of ours.
pub const DOMAIN: &str = "computedriver";

/// The message is told twice, once percent-encoded (up to threefold) and once in the details.
const MESSAGE: usize = 600;
/// A value of a variable.
const VALUE: usize = 400;
/// All variables together.
const VARIABLES: usize = 1200;
/// A field's path, and what is wrong with it.
const FIELD: usize = 160;
const DESCRIPTION: usize = 240;
/// All faulty fields together.
const VIOLATIONS: usize = 2000;

/// The status that tells `e`.
pub fn status(e: &Error) -> Status {
    Status::with_error_details(code(e), clipped(e.message(), MESSAGE), details(e))
}

pub(super) fn code(e: &Error) -> Code {
    match e.kind() {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Exists => Code::AlreadyExists,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Pending => Code::Aborted,
        Kind::Exhausted => Code::ResourceExhausted,
        // Who is not known is told apart from who may not.
        Kind::Denied if e.reason() == "UNAUTHENTICATED" => Code::Unauthenticated,
        Kind::Denied => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unsupported => Code::Unimplemented,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Internal => Code::Internal,
    }
}

fn details(e: &Error) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(e.reason(), DOMAIN, variables(e));
    let known = e.details();
    if !known.violations.is_empty() {
        details.set_bad_request(violations(e));
    }
    if !known.shortages.is_empty() {
        let violations = known.shortages.iter().map(|short| {
            let left = format!(
                "{}: asked {}, left {}",
                short.resource, short.asked, short.left
            );
            QuotaViolation::new("host", left)
        });
        details.set_quota_failure(violations.collect::<Vec<_>>());
    }
    if let Some(after) = known.retry_after {
        details.set_retry_info(Some(after));
    }
    let (kind, name) = subject(e);
    match e.kind() {
        Kind::NotFound => {
            details.set_resource_info(kind, name, "", "");
        }
        Kind::Precondition => {
            let subject = if name.is_empty() { "host" } else { &name };
            let said = clipped(e.message(), DESCRIPTION);
            details.add_precondition_failure_violation(e.reason(), subject, said);
        }
        _ => {}
    }
    details
}

/// What the failure is about: `instance` and its id, by the variables that are there.
fn subject(e: &Error) -> (String, String) {
    let kind = e.reason().strip_suffix("_NOT_FOUND").unwrap_or("INSTANCE");
    let kind = kind.to_lowercase();
    let fields = e.fields();
    let name = fields
        .get(&format!("{kind}_id"))
        .or_else(|| fields.get(&kind));
    let name = name.or_else(|| fields.values().next());
    (
        kind,
        name.map_or_else(String::new, |name| clipped(name, VALUE)),
    )
}

fn variables(e: &Error) -> HashMap<String, String> {
    let phase = e.phase().map(|phase| ("phase".to_owned(), word(&phase)));
    let fields = e.fields().iter();
    // The phase comes first: it must not be what falls out of the budget.
    let all = phase
        .into_iter()
        .chain(fields.map(|(name, value)| (name.clone(), clipped(value, VALUE))));
    let mut left = VARIABLES;
    let fits = all.take_while(|(name, value)| spend(&mut left, name.len() + value.len()));
    fits.collect()
}

fn violations(e: &Error) -> Vec<FieldViolation> {
    let all = &e.details().violations;
    let mut left = VIOLATIONS;
    let one = |field: &str, said: &str| {
        FieldViolation::new(clipped(field, FIELD), clipped(said, DESCRIPTION))
    };
    let mut told: Vec<_> = all
        .iter()
        .map(|fault| one(&fault.field, &fault.description))
        .take_while(|fault| spend(&mut left, fault.field.len() + fault.description.len()))
        .collect();
    if told.len() < all.len() {
        let rest = all.len() - told.len();
        told.push(one(
            "",
            &format!("and {rest} more faults; mend these first"),
        ));
    }
    told
}

/// Takes `cost` out of the budget, with what the wire adds to an entry; false when it is not there.
fn spend(left: &mut usize, cost: usize) -> bool {
    const ENTRY: usize = 8;
    let after = left.checked_sub(cost + ENTRY);
    *left = after.unwrap_or(0);
    after.is_some()
}

/// A unit variant's name on the wire.
fn word(of: &impl serde::Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The beginning of `text`, at most `limit` bytes long.
fn clipped(text: &str, limit: usize) -> String {
    const MORE: char = '…';
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit - MORE.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end])
}
