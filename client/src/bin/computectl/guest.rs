//! `computectl guest`: inside a guest, through its agent.

mod info;
mod password;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use computedriver_client::v1;
use prost::Message;
use serde_json::json;
use tonic::Request;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {
    /// What the guest tells of itself: system, addresses, file systems, users, clock.
    Info(One),
    /// Set the administrator's password: asked for on a terminal, else the first line of stdin.
    SetPassword(PasswordArgs),
    /// Write a file inside the guest, whole or not at all.
    Put(PutArgs),
    /// Fetch a program that installs a new agent, and run it inside the guest.
    UpdateAgent(UpdateArgs),
    /// The guest's interfaces.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Freeze the guest's file systems; they thaw by themselves after a while.
    Quiesce(QuiesceArgs),
    /// Thaw the guest's file systems; thawed ones are a success.
    Unquiesce(One),
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Set the addresses that the instance's interfaces have.
    Inject(InjectArgs),
    /// Bring the interfaces down and up.
    Reset(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// UUID of the instance.
    instance: String,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// UUID of the instance.
    instance: String,
    /// The account. Default: the administrator's.
    #[arg(long)]
    user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// UUID of the instance.
    instance: String,
    /// The file here (`-` is stdin), at most 16 MiB.
    file: PathBuf,
    /// Its absolute path inside the guest.
    path: String,
    /// Its permission bits, in octal.
    #[arg(long, default_value = "600", value_parser = parse_mode)]
    mode: u32,
    /// Its owner, as `user` or `user:group`. Default: root.
    #[arg(long)]
    owner: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// UUID of the instance.
    instance: String,
    /// Where the host fetches the program, `http://…` or `https://…`.
    url: String,
    /// SHA-256 of the program.
    #[arg(long)]
    sha256: String,
}

#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    /// UUID of the instance.
    instance: String,
    /// Only this interface, by its id; may be repeated. Default: all that have a fixed address.
    #[arg(long = "interface", value_name = "INTERFACE")]
    interfaces: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct QuiesceArgs {
    /// UUID of the instance.
    instance: String,
    /// When they thaw by themselves, 1s to 10m from now.
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = text::parse_duration)]
    time: Duration,
}

/// An agent that says nothing is known after five seconds, one that does nothing after twenty.
const QUESTION: Duration = Duration::from_secs(30);
/// A file goes through a serial port, and file systems freeze once all is written.
const CHANGE: Duration = Duration::from_secs(120);
/// The program that installs an agent may take its time.
const UPDATE: Duration = Duration::from_secs(900);

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 1..=0o777) => Ok(mode),
        _ => Err("expected permission bits in octal, as 640".to_owned()),
    }
}

/// The request with the time that it needs, or that the person gave it.
fn within<T>(session: &Session, message: T, usual: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(session.limit().unwrap_or(usual));
    request
}

pub(crate) async fn run(
    command: GuestCommand,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    match command {
        GuestCommand::Info(args) => info::run(args, session, out).await,
        GuestCommand::SetPassword(args) => password::run(args, session, out).await,
        GuestCommand::Put(args) => put(args, session, out).await,
        GuestCommand::UpdateAgent(args) => update(args, session, out).await,
        GuestCommand::Network(NetworkCommand::Inject(args)) => inject(args, session, out).await,
        GuestCommand::Network(NetworkCommand::Reset(args)) => reset(args, session, out).await,
        GuestCommand::Quiesce(args) => quiesce(args, session, out).await,
        GuestCommand::Unquiesce(args) => unquiesce(args, session, out).await,
    }
}

/// An answer as JSON under a key of its own, or as a line.
fn answer(
    out: &mut Out,
    (key, name): (&str, &str),
    message: &impl Message,
    line: &str,
) -> Result<(), Failure> {
    match out.is_json() {
        true => out.object(&json!({ key: json::view(name, message) }))?,
        false => out.line(line)?,
    }
    Ok(())
}

fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|e| Failure::Usage(format!("{} cannot be read: {e}", file.display())))
}

async fn put(args: PutArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::InjectFileRequest {
        instance_id: args.instance,
        path: args.path,
        contents: contents(&args.file)?,
        mode: args.mode,
        owner: args.owner.unwrap_or_default(),
        ..Default::default()
    };
    let line = format!("{} written", request.path);
    let mut guests = session.connect().await?.guests();
    let put = guests.inject_file(within(session, request, CHANGE)).await?;
    let put = put.into_inner();
    let line = format!("{line}, {}", text::bytes(put.written_bytes));
    answer(out, ("file", "InjectFileResponse"), &put, &line)
}

async fn update(args: UpdateArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::UpdateAgentRequest {
        instance_id: args.instance,
        url: args.url,
        sha256: args.sha256,
        ..Default::default()
    };
    let mut guests = session.connect().await?.guests();
    let updated = guests
        .update_agent(within(session, request, UPDATE))
        .await?;
    let updated = updated.into_inner();
    let line = format!("agent {}", text::printable(&updated.version));
    answer(out, ("agent", "UpdateAgentResponse"), &updated, &line)
}

async fn inject(args: InjectArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::InjectNetworkInfoRequest {
        instance_id: args.instance,
        interface_ids: args.interfaces,
        ..Default::default()
    };
    let mut guests = session.connect().await?.guests();
    let request = within(session, request, CHANGE);
    let injected = guests.inject_network_info(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("InjectNetworkInfoResponse", &injected);
        out.object(&json!({ "network": view }))?;
        return Ok(());
    }
    for interface in &injected.interfaces {
        out.line(info::interface(interface))?;
    }
    Ok(())
}

async fn reset(args: One, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::ResetNetworkRequest {
        instance_id: args.instance,
        ..Default::default()
    };
    let mut guests = session.connect().await?.guests();
    let reset = guests
        .reset_network(within(session, request, CHANGE))
        .await?;
    let line = "interfaces were brought down and up";
    answer(
        out,
        ("network", "ResetNetworkResponse"),
        &reset.into_inner(),
        line,
    )
}

async fn quiesce(args: QuiesceArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::QuiesceRequest {
        instance_id: args.instance,
        deadline: args.time.try_into().ok(),
        ..Default::default()
    };
    let mut instances = session.connect().await?.instances();
    let frozen = instances.quiesce(within(session, request, CHANGE)).await?;
    let frozen = frozen.into_inner();
    let until = text::time(frozen.thaw_time.as_ref());
    let line = format!("{} frozen until {until}", frozen.frozen_filesystems);
    answer(out, ("quiesced", "QuiesceResponse"), &frozen, &line)
}

async fn unquiesce(args: One, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::UnquiesceRequest {
        instance_id: args.instance,
        ..Default::default()
    };
    let mut instances = session.connect().await?.instances();
    let thawed = instances
        .unquiesce(within(session, request, QUESTION))
        .await?;
    let thawed = thawed.into_inner();
    let line = format!("{} thawed", thawed.thawed_filesystems);
    answer(out, ("unquiesced", "UnquiesceResponse"), &thawed, &line)
}

#[cfg(test)]
mod tests {
    use super::parse_mode;

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("640"), Ok(0o640));
        assert_eq!(parse_mode("0777"), Ok(0o777));
        for bad in ["", "0", "8", "1000", "rw", "-1"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }
}
