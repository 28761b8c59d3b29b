//! How the program ends: one clear sentence, what to do, and a number that scripts can branch on.

use std::io::{self, Write as _};
use std::process::ExitCode;

use computedriver_client::{Error, Kind};
use serde_json::{Value, json};

use crate::args::Format;
use crate::out::Out;

/// The last part of `--help`; `docs/computectl.md` says the same.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failure of the server or of this program
  2    the command line is wrong
  3    not found
  4    in conflict: exists with other content, another operation holds it, or it failed and was undone
  5    the server or its hypervisor cannot be reached
  6    refused: the request is invalid, not allowed, not served, or not possible in this state
  7    no room on the host
  8    not in time
  9    cancelled
  130  interrupted; what was begun goes on";

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error.
    Call(Error),
    /// Something about an argument that only looking at it could tell.
    Usage(String),
    /// Input or output on this side.
    Local(io::Error),
    /// The person or the time limit ended the wait; the operation goes on.
    Left { why: Left, message: String },
    /// Some of several failed; each was told already. The code of the first.
    Some { failed: usize, all: usize, code: u8 },
    /// It was told already.
    Told(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Interrupted,
    TimeUp,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Call(status.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Call(error) => code_of(error),
            Self::Usage(_) => 2,
            Self::Local(_) => 1,
            Self::Left { why, .. } => match why {
                Left::Interrupted => 130,
                Left::TimeUp => 8,
            },
            Self::Some { code, .. } | Self::Told(code) => *code,
        }
    }

    /// Whether whoever read our output went away: nobody is left to be told.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Local(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn sentence(&self) -> Option<String> {
        match self {
            Self::Call(error) => Some(sentence_of(error)),
            Self::Usage(message) | Self::Left { message, .. } => Some(message.clone()),
            Self::Local(error) => Some(error.to_string()),
            Self::Some { failed, all, .. } => Some(format!("{failed} of {all} failed")),
            Self::Told(_) => None,
        }
    }

    fn advice(&self) -> Option<String> {
        let Self::Call(error) = self else { return None };
        let mut advice = error.next_move().to_owned();
        if let Some(wait) = error.retry_after() {
            advice.push_str(&format!(" in {} s", wait.as_secs_f64()));
        }
        Some(advice)
    }

    /// The failure as an object.
    pub(crate) fn json(&self) -> Value {
        let mut told = json!({"message": self.sentence(), "exit_code": self.code()});
        if let Self::Call(error) = self {
            let pairs = |v: &[computedriver_client::Violation]| -> Vec<Value> {
                v.iter()
                    .map(|v| json!({"field": v.field, "description": v.description}))
                    .collect()
            };
            told["message"] = json!(error.to_string());
            told["kind"] = json!(format!("{:?}", error.kind()));
            told["code"] = json!(format!("{:?}", error.code()));
            told["reason"] = json!(error.reason());
            told["fields"] = json!(error.fields());
            told["violations"] = json!(pairs(error.violations()));
            told["preconditions"] = json!(pairs(error.preconditions()));
            told["next_move"] = json!(error.next_move());
            told["retry_after"] = json!(error.retry_after().map(|wait| wait.as_secs_f64()));
        }
        told
    }

    /// Tells it on stderr.
    pub(crate) fn tell(&self, format: Format) {
        let Some(sentence) = self.sentence() else {
            return;
        };
        let mut text = match format {
            Format::Json => json!({"error": self.json()}).to_string(),
            Format::Text => format!("error: {sentence}"),
        };
        if let (Format::Text, Some(advice)) = (format, self.advice()) {
            text.push_str(&format!("\nwhat to do: {advice}"));
        }
        // With stderr gone there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn sentence_of(error: &Error) -> String {
    let mut sentence = error.to_string();
    let phase = error.phase().map(str::to_owned);
    if let Some(phase) = phase.filter(|phase| !sentence.contains(phase.as_str())) {
        sentence.push_str(&format!(", in phase {phase}"));
    }
    if !error.reason().is_empty() {
        sentence.push_str(&format!(" [{}]", error.reason()));
    }
    sentence
}

fn code_of(error: &Error) -> u8 {
    match error.kind() {
        Kind::NotFound => 3,
        Kind::Exists | Kind::Pending => 4,
        Kind::Unavailable => 5,
        Kind::Invalid
        | Kind::Precondition
        | Kind::Denied
        | Kind::Unsupported
        | Kind::OutOfRange => 6,
        Kind::Exhausted => 7,
        Kind::Deadline => 8,
        Kind::Cancelled => 9,
        _ => 1,
    }
}

/// Tells the outcome and turns it into the exit code.
pub(crate) fn report(outcome: Result<(), Failure>, out: &Out) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // As a program in a pipe whose reader has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell(out.format());
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EXIT_CODES;

    #[test]
    fn the_documented_exit_codes_are_those_of_the_help() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/computectl.md");
        let page = std::fs::read_to_string(path).expect("docs/computectl.md is there");
        assert!(page.contains(EXIT_CODES), "{EXIT_CODES}");
    }
}
