//! What changes the host: its switches, and its power.

use clap::{Args, ValueEnum};
use computedriver_client::{Client, v1};
use serde_json::json;

use crate::exit::Failure;
use crate::json;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct NoteArgs {
    /// Why, for people; callers that are refused are told.
    #[arg(long, default_value = "")]
    note: String,
}

#[derive(Debug, Args)]
pub(crate) struct MaintenanceArgs {
    /// Into it, or out of it.
    state: OnOff,
    #[command(flatten)]
    note: NoteArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnOff {
    /// Into maintenance: new instances are refused, what runs goes on.
    On,
    /// Out of maintenance.
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct PowerArgs {
    /// What becomes of the host.
    action: PowerAction,
    /// Do it though instances run; they are cut off.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PowerAction {
    /// It restarts.
    Reboot,
    /// It stops.
    Shutdown,
}

/// A request's own name: a repeat over a lost connection does nothing twice.
fn name() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(super) async fn enabled(
    enabled: bool,
    args: NoteArgs,
    client: &Client,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = v1::SetHostEnabledRequest {
        enabled,
        request_id: name(),
        note: args.note,
    };
    client.host().set_host_enabled(request).await?;
    if out.is_json() {
        out.object(&json!({ "enabled": enabled }))?;
    } else if enabled {
        out.line("the host is enabled")?;
    } else {
        out.line("the host is disabled: it takes no new instances")?;
    }
    Ok(())
}

pub(super) async fn maintenance(
    args: MaintenanceArgs,
    client: &Client,
    out: &mut Out,
) -> Result<(), Failure> {
    let enabled = args.state == OnOff::On;
    let request = v1::HostMaintenanceModeRequest {
        enabled,
        request_id: name(),
        note: args.note.note,
    };
    let told = client.host().host_maintenance_mode(request).await?;
    let told = told.into_inner();
    if out.is_json() {
        let mut view = json::view("HostMaintenanceModeResponse", &told);
        view["enabled"] = json!(enabled);
        out.object(&json!({ "maintenance": view }))?;
        return Ok(());
    }
    let state = if enabled { "in" } else { "out of" };
    let running = told.running_instances;
    out.line(format_args!(
        "the host is {state} maintenance; {running} instances run"
    ))?;
    Ok(())
}

pub(super) async fn power(args: PowerArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let (action, word) = match args.action {
        PowerAction::Reboot => (v1::HostPowerVerb::Reboot, "REBOOT"),
        PowerAction::Shutdown => (v1::HostPowerVerb::Shutdown, "SHUTDOWN"),
    };
    let request = v1::HostPowerActionRequest {
        action: action.into(),
        request_id: name(),
        force: args.force,
    };
    client.host().host_power_action(request).await?;
    if out.is_json() {
        out.object(&json!({ "power": { "action": word } }))?;
    } else {
        out.line("the host is on its way")?;
    }
    Ok(())
}
