//! Where answers go: stdout, as text or as one JSON object a line.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use serde_json::Value;

use crate::args::Format;
use crate::exit::Failure;

/// Stdout, and how to write on it.
pub(crate) struct Out {
    format: Format,
    terminal: bool,
    stdout: Box<dyn Write>,
}

impl Out {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            terminal: io::stdout().is_terminal() && io::stderr().is_terminal(),
            stdout: Box::new(io::stdout()),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person looks on: then lines may be redrawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One line, at once: readers of a pipe want progress when it happens.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.stdout, "{line}")?;
        self.stdout.flush()
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }

    /// Rows under headers, each column as wide as it needs; the last is not padded.
    pub(crate) fn table(&mut self, headers: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let mut widths: Vec<usize> = headers.iter().map(|h| h.len()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.line(line(&mut headers.iter().copied()))?;
        for row in rows {
            self.line(line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }

    /// Something about the work, not of its answer: on stderr, or as an object among the answers.
    pub(crate) fn lost(&mut self, error: computedriver_client::Error) -> io::Result<()> {
        let text = format!("{error}; going on when the server is back");
        if self.is_json() {
            let lost = Failure::Call(error).json();
            return self.object(&serde_json::json!({ "lost": lost }));
        }
        writeln!(io::stderr(), "{text}")
    }

    /// One object on one line.
    pub(crate) fn object(&mut self, object: &Value) -> io::Result<()> {
        self.line(object)
    }
}
