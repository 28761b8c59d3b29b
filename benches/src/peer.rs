//! What computelet is measured beside, each a process of its own.
//!
//! A peer that does timed work is asked by a line of JSON and answers with one: the time it took, measured by itself.

pub(crate) mod bare;
pub(crate) mod noop;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A peer that answers by lines.
#[derive(Debug)]
pub(crate) struct Lines {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Lines {
    /// Starts one, and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut peer = Self {
            child,
            input,
            output,
        };
        peer.answer()?;
        Ok(peer)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, question: &Value) -> Result<Value> {
        writeln!(self.input, "{question}")?;
        self.answer()
    }

    /// Asks for something timed; answers with the milliseconds that it took.
    pub(crate) fn time(&mut self, question: &Value) -> Result<f64> {
        let answer = self.ask(question)?;
        answer["ms"].as_f64().context("a peer answers with ms")
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a peer ended: {}", self.child.wait()?);
        }
        let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match answer.get("error") {
            Some(error) => bail!("a peer failed: {error}"),
            None => Ok(answer),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
