//! `computectl completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::exit::Failure;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, out: &mut Out) -> Result<(), Failure> {
    // Made in memory first: the generator panics when a pipe breaks under it.
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "computectl", &mut script);
    out.bytes(&script)?;
    Ok(())
}
