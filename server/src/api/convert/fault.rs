//! Collects every fault of a request.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use crate::{
    error::{Details, Error, Kind, Violation},
    model::{IdFault, InstanceId, OperationId, RequestId},
};

/// The faults of one request.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    wrong: Vec<Violation>,
    unserved: Vec<Violation>,
}

/// More faults than this help nobody and only fill the answer.
const TOLD: usize = 100;

fn violation(field: &str, description: impl Display) -> Violation {
    Violation {
        field: field.to_owned(),
        description: description.to_string(),
    }
}

impl Faults {
    /// The value, or its fault noted under `field`.
    pub(crate) fn take<T, E: Display>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|fault| self.wrong(field, fault)).ok()
    }

    /// Notes that `field` is wrong.
    pub(crate) fn wrong(&mut self, field: &str, description: impl Display) {
        self.wrong.push(violation(field, description));
    }

    /// Notes that this server does not serve `field`.
    pub(crate) fn unserved(&mut self, field: &str, description: impl Display) {
        self.unserved.push(violation(field, description));
    }

    /// Notes `field` as not served when `asked`.
    pub(crate) fn refuse(&mut self, field: &str, asked: bool) {
        if asked {
            self.unserved(field, "is not served by this server; see GetCapabilities");
        }
    }

    /// The text, when it is no longer than `max` characters and has no control characters.
    pub(crate) fn text(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        if text.chars().count() > max {
            self.wrong(field, format_args!("must have at most {max} characters"));
        } else if text
            .chars()
            .any(|c| c.is_control() || c == '\u{fffe}' || c == '\u{ffff}')
        {
            self.wrong(field, "must not have control characters");
        } else {
            return Some(text);
        }
        None
    }

    /// The stretch of time, when one is given and within `bounds`, which are whole seconds.
    #[allow(clippy::option_option, reason = "none: wrong; some none: not given")]
    pub(crate) fn time(
        &mut self,
        field: &str,
        time: Option<prost_types::Duration>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Option<Duration>> {
        let Some(time) = time else {
            return Some(None);
        };
        let time = Duration::try_from(time).ok();
        let time = time.filter(|time| bounds.contains(time));
        if time.is_none() {
            let (least, most) = (bounds.start().as_secs(), bounds.end().as_secs());
            self.wrong(field, format_args!("must be {least} to {most} seconds"));
        }
        time.map(Some)
    }

    /// Notes a list that is too long.
    pub(crate) fn at_most(&mut self, field: &str, len: usize, max: usize) {
        if len > max {
            self.wrong(
                field,
                format_args!("must have at most {max} entries, has {len}"),
            );
        }
    }

    /// Whether nothing was noted so far.
    pub(crate) fn none(&self) -> bool {
        self.wrong.is_empty() && self.unserved.is_empty()
    }

    /// What `f` makes of the parts, unless there is any fault.
    pub(crate) fn into_result<T>(self, f: impl FnOnce() -> Option<T>) -> Result<T, Error> {
        if !self.none() {
            return Err(self.into_error());
        }
        f().ok_or_else(|| Error::internal("a part is missing though no fault was found"))
    }

    fn into_error(mut self) -> Error {
        let (kind, reason, mut list) = if self.wrong.is_empty() {
            (
                Kind::Precondition,
                "NOT_SUPPORTED",
                std::mem::take(&mut self.unserved),
            )
        } else {
            (
                Kind::Invalid,
                "INVALID_REQUEST",
                std::mem::take(&mut self.wrong),
            )
        };
        let count = list.len();
        list.truncate(TOLD);
        let first: Vec<_> = list
            .iter()
            .take(3)
            .map(|v| format!("{} {}", v.field, v.description))
            .collect();
        let more = if count > 3 {
            format!("; and {} more", count - 3)
        } else {
            String::new()
        };
        let fields: Vec<_> = list.iter().take(10).map(|v| v.field.as_str()).collect();
        Error::new(kind, reason, format!("{}{more}", first.join("; ")))
            .with("fields", fields.join(","))
            .with("faults", count)
            .detailed(Details {
                violations: list,
                ..Details::default()
            })
    }
}

fn id<T: FromStr<Err = IdFault>>(field: &str, text: &str) -> Result<T, Error> {
    let mut faults = Faults::default();
    let id = faults.take(field, text.parse());
    faults.into_result(|| id)
}

/// The instance that a request names.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, Error> {
    id("instance_id", text)
}

/// The operation that a request names.
pub(crate) fn operation_id(text: &str) -> Result<OperationId, Error> {
    id("operation_id", text)
}

/// The request's own id, when it has one.
pub(crate) fn request_id(faults: &mut Faults, text: &str) -> Option<RequestId> {
    if text.is_empty() {
        None
    } else {
        faults.take("request_id", text.parse())
    }
}
