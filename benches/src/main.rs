//! Measures computelet beside its peers and the floors below it, in one run, interleaved.
//!
//! `make bench` calls it; `docs/benchmarks.md` holds what it found. A part is one file of `part/` and yields rows of the
//! table. What cannot be measured here is a row that says why, never a number from elsewhere.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people that starts servers and peers, and waits for them"
)]

mod guests;
mod part;
mod peer;
mod report;
mod sample;
mod server;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Measures computelet beside its peers.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// What else this program is, in the hands of a part.
    #[command(subcommand)]
    role: Option<Role>,
    /// Which parts; all unless named.
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// The page whose table and picture are written anew; only with all parts.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Python with nova, libvirt and matplotlib.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Rounds of cheap calls; of starts, half as many.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Bare libvirt calls, told by lines on standard input.
    #[command(hide = true)]
    Bare {
        /// libvirt's address.
        uri: String,
    },
    /// A bare tonic server.
    #[command(hide = true)]
    Noop {
        /// Where it listens.
        socket: PathBuf,
    },
}

fn main() -> ExitCode {
    virt::error::clear_error_callback();
    let args = Args::parse();
    let done = match args.role {
        Some(Role::Bare { uri }) => peer::bare::run(&uri),
        Some(Role::Noop { socket }) => peer::noop::run(&socket),
        None => measure(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: what a single caller sees, with no second thread of ours in its way.
fn measure(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bench = part::Bench {
        rounds: args.rounds,
        python: args.python,
    };
    let page = runtime.block_on(part::run(&bench, &args.parts))?;
    println!("{}", page.table());
    match args.write {
        Some(path) => page.write(&path),
        None => Ok(()),
    }
}
