//! Checks, one after another, and what came of them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use computedriver_client::Error;
use serde_json::json;
use tonic::{Code, Status};

use super::bench::Bench;
use crate::out::Out;
use crate::text;

/// Longer than a check of a slow guest takes.
const LIMIT: Duration = Duration::from_secs(600);

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server does not do what the contract says.
    Failed(String),
    /// It cannot be told here.
    Skipped(String),
}

pub(super) type Verdict = Result<(), Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        let reason = if reason.is_empty() {
            "no reason"
        } else {
            reason
        };
        let mut told = format!("{:?} [{reason}]: {error}", error.code());
        for fault in error.violations() {
            told.push_str(&format!("; {}: {}", fault.field, fault.description));
        }
        Self::Failed(told)
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Error::from(status).into()
    }
}

/// Fails the check with these words unless it holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::conformance::suite::Fault::Failed(format!($($words)+)));
        }
    };
}
pub(super) use hold;

/// Expects that a call is refused, with this code and for this reason.
pub(super) fn refused<T, E: Into<Error>>(
    outcome: Result<T, E>,
    (code, reason): (Code, &str),
) -> Result<Error, Fault> {
    let Err(error) = outcome else {
        return Err(Fault::Failed(format!("it succeeds, where {reason} is due")));
    };
    let error = error.into();
    hold!(
        error.code() == code && error.reason() == reason,
        "{:?} [{}] where {code:?} [{reason}] is due: {error}",
        error.code(),
        error.reason()
    );
    hold!(!error.message().is_empty(), "{reason} comes without a word");
    Ok(error)
}

type Run = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// One thing that holds.
#[derive(Clone, Copy)]
pub(super) struct Check {
    /// The RPCs that it needs, as `Service/Method`; the first one is where it is told.
    pub(super) needs: &'static [&'static str],
    /// What holds.
    pub(super) name: &'static str,
    pub(super) run: Run,
}

/// A check by the RPCs that it needs, its words and its function.
macro_rules! check {
    ([$($rpc:literal),+], $name:literal, $run:ident) => {
        $crate::conformance::suite::Check {
            needs: &[$($rpc),+],
            name: $name,
            run: |bench| Box::pin($run(bench)),
        }
    };
}
pub(super) use check;

/// How many came out how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

/// The rows of the table, each shown when it is known.
pub(super) struct Table {
    widths: (usize, usize),
    pub(super) tally: Tally,
}

impl Table {
    pub(super) fn begin(checks: &[Check], out: &mut Out) -> io::Result<Self> {
        let width = |of: fn(&Check) -> usize| checks.iter().map(of).max().unwrap_or(0);
        let rpc = width(|check| check.needs[0].len());
        let widths = (rpc, width(|check| check.name.len()));
        if !out.is_json() {
            let (rpc, name) = widths;
            let line = format!("{:<8} {:<rpc$}  {:<name$}  TIME", "RESULT", "RPC", "CHECK");
            out.line(line)?;
        }
        let tally = Tally::default();
        Ok(Self { widths, tally })
    }

    /// Runs one check, and shows what came of it.
    pub(super) async fn run(
        &mut self,
        check: &Check,
        bench: &Bench,
        out: &mut Out,
    ) -> io::Result<()> {
        let since = Instant::now();
        let verdict = match check.needs.iter().find(|rpc| !bench.serves(rpc)) {
            Some(rpc) => Err(Fault::Skipped(format!("{rpc} is not served"))),
            None => {
                let late = |_| Err(Fault::Failed(format!("not done in {} s", LIMIT.as_secs())));
                let run = tokio::time::timeout(LIMIT, (check.run)(bench));
                run.await.unwrap_or_else(late)
            }
        };
        let (result, why) = match verdict {
            Ok(()) => ("passed", String::new()),
            Err(Fault::Failed(why)) => ("failed", why),
            Err(Fault::Skipped(why)) => ("skipped", why),
        };
        match result {
            "passed" => self.tally.passed += 1,
            "failed" => self.tally.failed += 1,
            _ => self.tally.skipped += 1,
        }
        let (rpc, time) = (check.needs[0], since.elapsed());
        if out.is_json() {
            let row = json!({
                "result": result, "rpc": rpc, "check": check.name, "seconds": time.as_secs_f64(), "why": why,
            });
            return out.object(&json!({ "check": row }));
        }
        let (first, second) = self.widths;
        let time = text::span(time);
        let line = format!(
            "{result:<8} {rpc:<first$}  {:<second$}  {time:<7}  {}",
            check.name,
            text::printable(&why)
        );
        out.line(line.trim_end())
    }
}
