//! What a guest's console tells of its boot.
//!
//! ```text
//! silent ──any byte──▶ FIRMWARE ──▶ BOOTLOADER ──▶ KERNEL ──▶ USERSPACE
//! ```
//!
//! [`BootWatch`] is fed with the console's bytes as they come, in pieces of any size, and tells each phase once, when
//! it is first seen. A guest may skip some (direct kernel boot has no boot loader, a quiet kernel says nothing) but
//! never goes back: having reached a phase implies the earlier ones. Beside them runs the caller's own pattern.
//! Both look at lines, also at the unfinished last one, cleaned of escape sequences. Pure; a guest that prints without
//! end or without line breaks costs bounded memory and time.

mod clean;
mod marker;

use std::{fmt, mem, str::FromStr};

use regex::bytes::{Regex, RegexBuilder};

use crate::{
    error::{Classify, Kind},
    model::Phase,
};
use clean::Cleaner;

/// What is kept of a line; of a longer one the newer half stays.
const LINE_MAX: usize = 64 << 10;

/// Bound of a compiled pattern: room for any sensible one, too little to hurt the server.
const PATTERN_MAX: usize = 1 << 20;

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// It matches what a silent guest shows.
    #[error("must not match the empty line")]
    Empty,
    /// It is no regular expression, or too large a one.
    #[error("must be a regular expression")]
    Regex(#[from] regex::Error),
}

impl Classify for PatternError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn reason(&self) -> &'static str {
        "INVALID_REQUEST"
    }
}

/// A regular expression on one line of a console, in the syntax of the `regex` crate.
///
/// The line is without its end and without escape sequences. `$` also matches where an unfinished line ends so far.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let regex = RegexBuilder::new(text)
            .size_limit(PATTERN_MAX)
            .dfa_size_limit(PATTERN_MAX)
            .build()?;
        if regex.is_match(b"") {
            return Err(PatternError::Empty);
        }
        Ok(Self(regex))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Something that a console showed for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The phase that was reached.
    pub phase: Phase,
    /// The line that showed it, its beginning if it is long; empty when no line did.
    pub line: String,
}

/// What is told of the line: enough for a person to know it again.
const EVIDENCE: usize = 256;

impl Sight {
    fn new(phase: Phase, line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&line[..line.len().min(4 * EVIDENCE)]);
        let line = text.trim().chars().take(EVIDENCE).collect();
        Self { phase, line }
    }
}

/// Follows one boot of one guest.
#[derive(Debug)]
pub struct BootWatch {
    cleaner: Cleaner,
    line: Vec<u8>,
    reached: Option<Phase>,
    pattern: Option<Pattern>,
    pattern_seen: bool,
}

impl BootWatch {
    /// A watch that has seen nothing yet.
    pub fn new(pattern: Option<Pattern>) -> Self {
        Self {
            cleaner: Cleaner::default(),
            line: Vec::new(),
            reached: None,
            pattern,
            pattern_seen: false,
        }
    }

    /// Takes what the console showed next; answers with what is now seen for the first time, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Sight> {
        let mut seen = Vec::new();
        if self.reached.is_none() && bytes.iter().any(|&b| b != 0) {
            self.reach(Phase::Firmware, &[], &mut seen);
        }
        for &byte in bytes {
            if self.is_over() {
                break;
            }
            match self.cleaner.next(byte) {
                Some(b'\n') => {
                    self.look(&mut seen);
                    self.line.clear();
                }
                Some(byte) => self.push(byte, &mut seen),
                None => {}
            }
        }
        self.look(&mut seen);
        seen
    }

    /// Whether the guest came as far as `phase`, itself shown or implied by a later one.
    pub fn has_reached(&self, phase: Phase) -> bool {
        match phase {
            Phase::ConsolePattern => self.pattern_seen,
            Phase::Firmware | Phase::Bootloader | Phase::Kernel | Phase::Userspace => {
                self.reached.is_some_and(|reached| reached >= phase)
            }
            _ => false,
        }
    }

    /// Whether nothing more can be seen: further bytes need not be fed.
    pub fn is_over(&self) -> bool {
        self.reached == Some(Phase::Userspace) && (self.pattern_seen || self.pattern.is_none())
    }

    fn push(&mut self, byte: u8, seen: &mut Vec<Sight>) {
        if self.line.len() == LINE_MAX {
            self.look(seen);
            self.line.drain(..LINE_MAX / 2);
        }
        self.line.push(byte);
    }

    fn look(&mut self, seen: &mut Vec<Sight>) {
        if self.line.is_empty() {
            return;
        }
        let line = mem::take(&mut self.line);
        if let Some(phase) = marker::phase(&line, self.reached) {
            self.reach(phase, &line, seen);
        }
        let matches = |pattern: &Pattern| pattern.0.is_match(&line);
        if !self.pattern_seen && self.pattern.as_ref().is_some_and(matches) {
            self.pattern_seen = true;
            seen.push(Sight::new(Phase::ConsolePattern, &line));
        }
        self.line = line;
    }

    fn reach(&mut self, phase: Phase, line: &[u8], seen: &mut Vec<Sight>) {
        if self.reached < Some(phase) {
            self.reached = Some(phase);
            seen.push(Sight::new(phase, line));
        }
    }
}

#[cfg(test)]
mod tests;
