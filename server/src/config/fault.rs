//! What is wrong with a configuration.

use std::fmt;

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key: `images.max_mib`; empty when a whole file cannot be read.
    pub key: String,
    /// The value as it was given; empty where the key itself is wrong.
    pub value: String,
    /// Where it comes from: a file, a variable, a flag.
    pub origin: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            origin,
            right,
        } = self;
        match (key.is_empty(), value.is_empty()) {
            (true, _) => write!(f, "{origin}: {right}"),
            (false, true) => write!(f, "{key} ({origin}): {right}"),
            (false, false) => write!(f, "{key} = {value} ({origin}): {right}"),
        }
    }
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "the configuration has {count} {noun}")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
