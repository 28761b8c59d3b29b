//! Checks whether this host can run guests, and says of what is missing how to get it.
//!
//! It asks what the server would ask, in the way in which the server would: it opens the hypervisor (in a folder of its own,
//! so a server that runs is not disturbed), it clones a file where disks would lie. It changes nothing.

mod hypervisor;
mod network;
mod state;
mod tool;

use std::fmt;

use serde::Serialize;

use crate::config::Config;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// Guests run, but slower, or not with everything.
    Note,
    /// The server cannot do its work.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn note(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            remedy: Some(remedy.into()),
            ..Self::ok(name, found)
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Missing,
            ..Self::note(name, found, remedy)
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Missing => "missing",
        };
        write!(f, "{verdict:<8} {:<11} {}", self.name, self.found)?;
        match &self.remedy {
            Some(remedy) => write!(f, " — {remedy}"),
            None => Ok(()),
        }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(pub Vec<Check>);

impl Report {
    /// Whether nothing that is needed is missing.
    pub fn fit(&self) -> bool {
        self.0.iter().all(|check| check.verdict != Verdict::Missing)
    }

    /// For programs: an array of checks.
    pub fn json(&self) -> String {
        let array = serde_json::to_string_pretty(&self.0);
        array.expect("texts and words are always JSON") + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|check| writeln!(f, "{check}"))
    }
}

/// Looks at this host.
pub async fn examine(config: &Config) -> Report {
    let (hypervisor, tools, state, network) = tokio::join!(
        hypervisor::examine(config),
        tool::examine(),
        state::examine(config),
        network::examine(),
    );
    Report([hypervisor, tools, state, network].concat())
}

#[cfg(test)]
mod tests;
