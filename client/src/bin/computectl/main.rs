//! `computectl`, the command line of computedriver.v1: one file a subcommand.

mod args;
mod capabilities;
mod completions;
mod conformance;
mod console;
mod console_access;
mod console_log;
mod destroy;
mod diagnostics;
mod events;
mod exit;
mod guest;
mod host;
mod images;
mod json;
mod list;
mod long;
mod ops;
mod out;
mod power;
mod ready;
mod rebuild;
mod rescue;
mod resize;
mod show;
mod snapshot;
mod spawn;
mod stats;
mod text;
mod top;
mod version;
mod vnc;
mod volume;
mod volume_snapshot;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command, Session};
use crate::exit::Failure;
use crate::out::Out;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::new(cli.global.output);
    let outcome = run(cli, &mut out);
    exit::report(outcome, &out)
}

fn run(cli: Cli, out: &mut Out) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let session = Session::new(cli.global);
    // A command's future holds requests and messages whole; it lives on the heap, once.
    runtime.block_on(Box::pin(dispatch(cli.command, &session, out)))
}

async fn dispatch(command: Command, session: &Session, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Spawn(args) => spawn::run(*args, session, out).await,
        Command::Watch(args) => spawn::watch(args, session, out).await,
        Command::List(args) => list::run(args, session, out).await,
        Command::Info(args) => list::info(args, session, out).await,
        Command::Show(args) => show::run(args, session, out).await,
        Command::Destroy(args) => destroy::run(args, session, out).await,
        Command::Start(args) => power::turn(power::Turn::Start, args, session, out).await,
        Command::Stop(args) => power::stop(args, session, out).await,
        Command::Pause(args) => power::turn(power::Turn::Pause, args, session, out).await,
        Command::Unpause(args) => power::turn(power::Turn::Unpause, args, session, out).await,
        Command::Console(args) => console::run(args, session, out).await,
        Command::Vnc(args) => vnc::run(args, session, out).await,
        Command::ConsoleAccess(args) => console_access::access(args, session, out).await,
        Command::ConsolePool(args) => console_access::pool(args, session, out).await,
        Command::Resize(args) => resize::run(args, session, out).await,
        Command::Rebuild(args) => rebuild::run(*args, session, out).await,
        Command::Snapshot(args) => snapshot::run(args, session, out).await,
        Command::Reboot(args) => power::reboot(args, session, out).await,
        Command::Suspend(args) => power::suspend(args, session, out).await,
        Command::Resume(args) => power::resume(args, session, out).await,
        Command::Rescue(args) => rescue::rescue(args, session, out).await,
        Command::Unrescue(args) => power::unrescue(args, session, out).await,
        Command::CrashDump(args) => power::crash_dump(args, session, out).await,
        Command::Diagnostics(args) => diagnostics::run(args, session, out).await,
        Command::ConsoleLog(args) => console_log::run(args, session, out).await,
        Command::Events(args) => events::run(args, session, out).await,
        Command::Stats(args) => stats::run(args, session, out).await,
        Command::Top(args) => top::run(args, session, out).await,
        Command::Host(command) => host::run(command, session, out).await,
        Command::Guest(command) => guest::run(command, session, out).await,
        Command::Volume(command) => volume::volume(command, session, out).await,
        Command::Interface(command) => volume::interface(command, session, out).await,
        Command::Images(command) => images::run(command, session, out).await,
        Command::Ops(command) => ops::run(command, session, out).await,
        Command::Capabilities(args) => capabilities::run(args, session, out).await,
        Command::Conformance(args) => conformance::run(*args, session, out).await,
        Command::Ready => ready::run(session, out).await,
        Command::Version => version::run(session, out).await,
        Command::Completions(args) => completions::run(&args, out),
    }
}
