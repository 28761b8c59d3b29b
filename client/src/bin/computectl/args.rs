//! What may be said on the command line, and the session that the global part of it makes.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use computedriver_client::{Builder, Client, DEFAULT_ENDPOINT, ENDPOINT_VARIABLE};

use crate::exit::{EXIT_CODES, Failure};
use crate::{
    capabilities, completions, conformance, console, console_access, console_log, destroy,
    diagnostics, events, guest, host, images, list, ops, power, rebuild, rescue, resize, show,
    snapshot, spawn, stats, text, top, vnc, volume,
};

/// Drives a compute host through computedriver.v1.
#[derive(Debug, Parser)]
#[command(name = "computectl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server: `unix:/path/of/socket` or `http://host:port`.
    #[arg(long, global = true, env = ENDPOINT_VARIABLE, default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    /// How answers are written; json is one object a line, errors as one object on stderr.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// How long to wait for the server, as `30s` or `5m`. What a long call began goes on when it has passed.
    /// Default: 5 s for a read, 20 s for a change, no limit for a long call.
    #[arg(long, global = true, value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an instance, start it and watch it boot.
    Spawn(Box<spawn::SpawnArgs>),
    /// Watch an instance boot, whoever began it: where it stands first, then live.
    Watch(show::ShowArgs),
    /// List the instances of the host.
    List(list::ListArgs),
    /// What one instance is doing now: state, memory, processor time. Answered from the server's memory.
    Info(show::ShowArgs),
    /// Show one instance, with its disks and interfaces.
    Show(show::ShowArgs),
    /// Remove instances; absent ones are a success.
    Destroy(destroy::DestroyArgs),
    /// Start an instance that is off.
    Start(power::OneArgs),
    /// Stop an instance: it is asked, when told so, and then stopped by force.
    Stop(power::StopArgs),
    /// Stop an instance's processors; its memory stays.
    Pause(power::OneArgs),
    /// Let a paused instance's processors go on.
    Unpause(power::OneArgs),
    /// Sit down at an instance's serial console.
    Console(console::ConsoleArgs),
    /// Show an instance's screen at a port of this machine, for a VNC viewer.
    Vnc(vnc::VncArgs),
    /// Get a token that opens a console once, through the host's console proxy.
    ConsoleAccess(console_access::AccessArgs),
    /// Where the host's console proxy is.
    ConsolePool(console_access::PoolArgs),
    /// Give an instance another size.
    Resize(resize::ResizeArgs),
    /// Make an instance's root disk anew from an image.
    Rebuild(Box<rebuild::RebuildArgs>),
    /// Make an image of an instance's root disk.
    Snapshot(snapshot::SnapshotArgs),
    /// Restart an instance: it is asked first, unless told otherwise.
    Reboot(power::RebootArgs),
    /// Save an instance's memory to disk and stop it.
    Suspend(power::OneArgs),
    /// Bring a suspended instance back.
    Resume(power::OneArgs),
    /// Start an instance from a rescue image, its own root disk beside it.
    Rescue(rescue::RescueArgs),
    /// Start a rescued instance from its own disk again.
    Unrescue(power::OneArgs),
    /// Interrupt an instance's guest, which dumps, crashes or ignores it as it is set up to.
    CrashDump(power::OneArgs),
    /// All that is measured of an instance that runs.
    Diagnostics(diagnostics::DiagnosticsArgs),
    /// Print the log of an instance's serial console.
    ConsoleLog(console_log::ConsoleLogArgs),
    /// What happened: events of instances, operations and the host.
    Events(events::EventsArgs),
    /// What instances use: counters as a table, as CSV or as JSON, sample by sample.
    Stats(stats::StatsArgs),
    /// What instances use, live: a table to sort and to filter.
    Top(top::TopArgs),
    /// The host itself: what it is, has and may.
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Inside a guest, through its agent.
    #[command(subcommand)]
    Guest(guest::GuestCommand),
    /// The disks of an instance, and volumes that come and go.
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// The interfaces of an instance.
    #[command(subcommand)]
    Interface(volume::InterfaceCommand),
    /// The host's image cache.
    #[command(subcommand)]
    Images(images::ImagesCommand),
    /// Operations: what the server is doing and has done.
    #[command(subcommand)]
    Ops(ops::OpsCommand),
    /// What the server serves: each RPC of the contract.
    Capabilities(capabilities::CapabilitiesArgs),
    /// Whether the server does what the contract says: makes instances, looks, and removes them.
    Conformance(Box<conformance::ConformanceArgs>),
    /// Whether the server can work; exits with 5 when it cannot.
    Ready,
    /// Versions of this program, of the server and of its hypervisor.
    Version,
    /// Completions for a shell, on stdout.
    Completions(completions::CompletionsArgs),
}

/// Longer than anybody watches.
const FOR_GOOD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What every subcommand needs.
#[derive(Debug)]
pub(crate) struct Session {
    endpoint: String,
    timeout: Option<Duration>,
}

impl Session {
    pub(crate) fn new(global: Global) -> Self {
        Self {
            endpoint: global.endpoint,
            timeout: global.timeout,
        }
    }

    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(self.builder().connect().await?)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Connects for calls that may take so long.
    pub(crate) async fn connect_for(&self, limit: Duration) -> Result<Client, Failure> {
        let builder = self.builder();
        let builder = match self.timeout {
            Some(_) => builder,
            None => builder.change_deadline(limit),
        };
        Ok(builder.connect().await?)
    }

    /// Connects for something that goes on until the person ends it: a server that was there once is awaited.
    pub(crate) async fn connect_for_good(&self) -> Result<Client, Failure> {
        Ok(self.builder().rejoin_for(FOR_GOOD).connect().await?)
    }

    fn builder(&self) -> Builder {
        let builder = Client::builder().endpoint(&self.endpoint);
        match self.timeout {
            Some(timeout) => builder.read_deadline(timeout).change_deadline(timeout),
            None => builder,
        }
    }

    /// The limit of a long call.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.timeout
    }
}
