//! The `computelet` binary.
//!
//! It ends with 0 when it did what was asked, 1 when that failed, 2 when the command line is wrong, and 78 (EX_CONFIG)
//! when the configuration is: a service manager need not try those two again.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use computelet::{
    app::App,
    config::{Config, Flag, Layers},
    doctor, error, serve, telemetry,
};

/// EX_CONFIG of sysexits.h.
const WRONG_CONFIG: u8 = 78;

const EXITS: &str =
    "Exit codes: 0 done, 1 failed, 2 the command line is wrong, 78 the configuration is wrong.";

#[derive(Parser)]
#[command(name = "computelet", version, about = "Runs the virtual machines of this host for whoever calls computedriver.v1", after_help = EXITS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT; a second one ends at once
    Serve(Settings),
    /// Checks whether this host can run guests, and says how to get what is missing
    Doctor {
        #[command(flatten)]
        settings: Settings,
        /// How to tell it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// What the settings are about
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Prints the version
    Version,
    /// Prints completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Tells every fault of the settings, and does nothing else
    Check(Settings),
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// One line a check
    Text,
    /// One JSON array
    Json,
}

/// Each wins over its variable (`COMPUTELET_…`), and that over the file.
#[derive(Args)]
struct Settings {
    /// File with settings; /etc/computelet/computelet.toml when it is there
    #[arg(long, value_name = "FILE", env = "COMPUTELET_CONFIG")]
    config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Where calls are taken: unix:PATH or tcp:ADDRESS:PORT; may be given again
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Which hypervisor: embedded, or an address of libvirt
    #[arg(long, value_name = "URI")]
    connect: Option<String>,
    /// What guests run on: auto, kvm or qemu
    #[arg(long, value_name = "TYPE")]
    virt_type: Option<String>,
    /// Where Prometheus may scrape /metrics: tcp:ADDRESS:PORT, or none
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// What is logged: a level, or a filter of tracing
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Any setting of the file, as images.max_mib=1024; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let parts = text
        .split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.ok_or_else(|| "must be KEY=VALUE".to_owned())
}

impl Settings {
    fn load(self) -> Result<Config, ExitCode> {
        let file = self.config.clone();
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        let layers = Layers::default()
            .file(file.as_deref())
            .variables(variables)
            .flags(self.flags());
        Config::load(&layers).map_err(|faults| {
            eprintln!("computelet: {faults}");
            ExitCode::from(WRONG_CONFIG)
        })
    }

    fn flags(self) -> Vec<Flag> {
        let one = |flag: &'static str, key: &str, values: Vec<String>| Flag {
            flag,
            key: key.to_owned(),
            values,
        };
        let mut flags: Vec<_> = self
            .set
            .into_iter()
            .map(|(key, value)| one("--set", &key, vec![value]))
            .collect();
        let single = [
            ("--state-dir", "state_dir", self.state_dir),
            ("--connect", "connect", self.connect),
            ("--virt-type", "virt_type", self.virt_type),
            ("--metrics-listen", "metrics.listen", self.metrics_listen),
            ("--log", "log.filter", self.log),
        ];
        let single = single
            .into_iter()
            .filter_map(|(flag, key, value)| Some((flag, key, value?)));
        flags.extend(single.map(|(flag, key, value)| one(flag, key, vec![value])));
        if !self.listen.is_empty() {
            flags.push(one("--listen", "listen", self.listen));
        }
        flags
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(settings) => settings.load().map(|config| serve(&config)),
        Command::Doctor { settings, output } => {
            settings.load().map(|config| examine(&config, output))
        }
        Command::Config {
            command: ConfigCommand::Check(settings),
        } => settings.load().map(|_| say("the configuration is right\n")),
        Command::Version => Ok(say(&format!("computelet {}\n", env!("CARGO_PKG_VERSION")))),
        Command::Completions { shell } => Ok(completions(shell)),
    };
    outcome.unwrap_or_else(|code| code)
}

fn serve(config: &Config) -> ExitCode {
    let run = || -> anyhow::Result<()> {
        let exporter = telemetry::init(&config.log, &config.telemetry)?;
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            // Heard from the beginning: a signal while we build ends us in order too.
            let stop = serve::signals()?;
            let mut exporting = exporter.map(telemetry::Exporter::start).transpose()?;
            let work = async {
                let app = App::build(config).await;
                let app = app.map_err(|e| anyhow::anyhow!("{e}"))?;
                if let Some(exporting) = &mut exporting {
                    exporting.metrics(app.scrape());
                }
                Ok(app.run(config, stop).await?)
            };
            let ended: anyhow::Result<()> = work.await;
            // Also why it could not begin, or go on, is told.
            if let Err(e) = &ended {
                tracing::error!(error = error::chain(e.as_ref()), "giving up");
            }
            if let Some(exporting) = exporting {
                exporting.finish().await;
            }
            ended
        })
    };
    run().map_or_else(|e| failed(&e), |()| ExitCode::SUCCESS)
}

fn examine(config: &Config, output: Output) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&e.into()),
    };
    let report = runtime.block_on(doctor::examine(config));
    let told = match output {
        Output::Text => report.to_string(),
        Output::Json => report.json(),
    };
    match (say(&told), report.fit()) {
        (said, true) => said,
        (_, false) => ExitCode::FAILURE,
    }
}

fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "computelet", &mut script);
    say(&String::from_utf8_lossy(&script))
}

/// Prints; a reader that has gone is no failure of ours.
fn say(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => failed(&e.into()),
        _ => ExitCode::SUCCESS,
    }
}

fn failed(e: &anyhow::Error) -> ExitCode {
    eprintln!("computelet: {}", error::chain(e.as_ref()));
    ExitCode::FAILURE
}
