//! `computectl spawn`.

mod boot;
pub(crate) mod image;
mod request;
mod vif;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use computedriver_client::v1::{self, BootPhase, wait_for::Condition};
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::volume::LoginArgs;
use crate::{show, text};

use boot::BootArgs;
use image::ImageFormat;
use vif::BridgeArg;

#[derive(Debug, Args)]
pub(crate) struct SpawnArgs {
    /// UUID of the instance. Default: a random one, printed at the end.
    #[arg(long)]
    id: Option<String>,
    /// A SpawnRequest as protobuf JSON (`-` is stdin); the other options change it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Image of the root disk: a path on the host, `file:///path`, `http://…` or `https://…`.
    #[arg(long, value_name = "LOCATION", required_unless_present_any = ["file", "boot_volume"])]
    image: Option<String>,
    #[command(flatten)]
    about_image: ImageArgs,
    #[command(flatten)]
    boot: BootArgs,
    #[command(flatten)]
    flavor: FlavorArgs,
    /// Interface on a bridge of the host: `NAME[,mac=AA:…][,ip=ADDRESS/BITS][,gateway=ADDRESS]`; may be repeated.
    #[arg(long, value_parser = vif::parse)]
    bridge: Vec<BridgeArg>,
    /// Interface to the outside through the hypervisor process; the guest cannot be reached.
    #[arg(long)]
    user_net: bool,
    /// Volume that the guest has from its first start, as `computectl volume attach` is told of one; may be repeated.
    #[arg(long, value_name = "VOLUME")]
    volume: Vec<String>,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    told: TellArgs,
    #[command(flatten)]
    wait: WaitArgs,
    /// Check everything and change nothing.
    #[arg(long)]
    validate_only: bool,
    /// UUID of the request; the same one again joins it. Default: a random one.
    #[arg(long)]
    request_id: Option<String>,
}

/// What is said of an image beside its location.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// What the image's bytes are; the server looks and refuses another.
    #[arg(long, value_enum, default_value_t = ImageFormat::Qcow2)]
    image_format: ImageFormat,
    /// Id of the image. Default: the last part of its location.
    #[arg(long)]
    image_id: Option<String>,
    /// SHA-256 that the image's bytes must have.
    #[arg(long)]
    sha256: Option<String>,
    /// Kernel for direct boot, a location.
    #[arg(long)]
    kernel: Option<String>,
    /// Initial ramdisk for direct boot, a location.
    #[arg(long, requires = "kernel")]
    ramdisk: Option<String>,
    /// Kernel command line for direct boot.
    #[arg(long, requires = "kernel")]
    cmdline: Option<String>,
}

/// What is waited for beyond the start.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait until the guest shows it: firmware, bootloader, kernel, userspace, agent, or `/regex/` on its console.
    #[arg(long, value_parser = parse_condition)]
    wait_for: Option<Condition>,
    /// How long the guest may take to show it. Default: the server's, 5 minutes.
    #[arg(long, value_parser = text::parse_duration, requires = "wait_for")]
    wait_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct FlavorArgs {
    /// Virtual processors. Default: 1.
    #[arg(long)]
    vcpus: Option<u32>,
    /// Memory, MiB. Default: 512.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Virtual processors that it may be given while it runs. Default: no more than it has.
    #[arg(long)]
    max_vcpus: Option<u32>,
    /// Memory that it may be given while it runs, MiB. Default: no more than it has.
    #[arg(long)]
    max_memory_mib: Option<u64>,
    /// Root disk, GiB. Default: the image's virtual size. A volume has its own.
    #[arg(long)]
    root_gib: Option<u64>,
    /// Ephemeral disk, GiB. Default: none.
    #[arg(long)]
    ephemeral_gib: Option<u64>,
    /// Swap disk, MiB. Default: none.
    #[arg(long)]
    swap_mib: Option<u64>,
    /// Extra spec of the flavor; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = text::parse_pair)]
    extra_spec: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct GuestArgs {
    /// Host name told to the guest. Default: the id.
    #[arg(long)]
    hostname: Option<String>,
    /// Name for people. Default: the host name.
    #[arg(long)]
    name: Option<String>,
    /// Give the guest no config drive.
    #[arg(long)]
    no_config_drive: bool,
}

/// What the guest is told.
#[derive(Debug, Args)]
pub(crate) struct TellArgs {
    /// Metadata told to the guest; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = text::parse_pair)]
    meta: Vec<(String, String)>,
    /// File with public keys for the guest, one a line; may be repeated.
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// File with user data for cloud-init.
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Puts a file into the guest; may be repeated.
    #[arg(long, value_name = "GUEST_PATH=FILE", value_parser = text::parse_pair)]
    inject: Vec<(String, String)>,
    /// File whose first line is the administrator's password (`-` is stdin): never an argument, which others can see.
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    if let Some(pattern) = text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
        return Ok(Condition::ConsolePattern(pattern.to_owned()));
    }
    let name = format!("BOOT_PHASE_{}", text.to_ascii_uppercase());
    match BootPhase::from_str_name(&name) {
        Some(phase) if phase != BootPhase::Unspecified => Ok(Condition::Phase(phase.into())),
        _ => Err("is none of firmware, bootloader, kernel, userspace, agent, /regex/".to_owned()),
    }
}

pub(crate) async fn run(args: SpawnArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = args.request()?;
    let client = session.connect().await?;
    if request.validate_only {
        client.validate_spawn(request).await?;
        match out.is_json() {
            true => out.object(&json!({ "valid": true }))?,
            false => out.line("the request would be accepted")?,
        }
        return Ok(());
    }
    let id = request.instance_id.clone();
    if !out.is_json() {
        out.line(format_args!("spawning {id}"))?;
    }
    let long = Long {
        follow: client.follow(request),
        limit: session.limit(),
        look: format!("computectl show {id}"),
    };
    let instance: v1::Instance = long.run(out).await?;
    show::tell(&instance, out)
}

/// Watches a boot that anybody began.
pub(crate) async fn watch(
    args: show::ShowArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let long = Long {
        look: format!("computectl show {}", args.instance),
        follow: session.connect().await?.watch_boot(args.instance),
        limit: session.limit(),
    };
    let instance: v1::Instance = long.run(out).await?;
    show::tell(&instance, out)
}
