//! `computectl host`: what the host is, has and may.

mod change;
mod cpu;
mod resources;

use clap::Subcommand;
use computedriver_client::{Client, v1};
use prost::Message;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// What the host has and uses, measured.
    Stats(resources::StatsArgs),
    /// What the host has left, and what is claimed and in use.
    Resources(resources::ResourcesArgs),
    /// What the host offers to a placement service: resource classes and traits.
    Inventory,
    /// What the host's processors have done since it started.
    Cpu,
    /// Whether a guest that saw a CPU could run here.
    CompareCpu(Box<cpu::CompareArgs>),
    /// The address that other hosts reach the host by.
    Address,
    /// How long the host and the server have been up.
    Uptime,
    /// The nodes that the server manages, with their UUIDs.
    Nodes,
    /// What a storage service needs to know to export a volume to the host.
    Connector,
    /// Let the host take new instances.
    Enable(change::NoteArgs),
    /// Have the host take no new instances; what runs goes on.
    Disable(change::NoteArgs),
    /// Put the host into maintenance, or out of it.
    Maintenance(change::MaintenanceArgs),
    /// Restart or stop the host, by the command that its owner has set.
    Power(change::PowerArgs),
}

pub(crate) async fn run(
    command: HostCommand,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    if let HostCommand::Resources(args) = &command
        && args.follow
    {
        return resources::follow(&session.connect_for_good().await?, out).await;
    }
    let client = session.connect().await?;
    match command {
        HostCommand::Stats(args) => resources::stats(&args, &client, out).await,
        HostCommand::Resources(_) => resources::now(&client, out).await,
        HostCommand::Inventory => resources::inventory(&client, out).await,
        HostCommand::Cpu => cpu::times(&client, out).await,
        HostCommand::CompareCpu(args) => cpu::compare(*args, &client, out).await,
        HostCommand::Address => address(&client, out).await,
        HostCommand::Uptime => uptime(&client, out).await,
        HostCommand::Nodes => nodes(&client, out).await,
        HostCommand::Connector => connector(&client, out).await,
        HostCommand::Enable(args) => change::enabled(true, args, &client, out).await,
        HostCommand::Disable(args) => change::enabled(false, args, &client, out).await,
        HostCommand::Maintenance(args) => change::maintenance(args, &client, out).await,
        HostCommand::Power(args) => change::power(args, &client, out).await,
    }
}

/// A message as an object under `key`, or its parts as lines.
fn show<M: Message>(
    (key, name): (&str, &str),
    message: &M,
    lines: &[(&str, String)],
    out: &mut Out,
) -> Result<(), Failure> {
    if out.is_json() {
        out.object(&json!({ key: json::view(name, message) }))?;
        return Ok(());
    }
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        out.line(format_args!("{name:<12}  {value}"))?;
    }
    Ok(())
}

async fn address(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetHostIpAddrRequest {};
    let told = client.host().get_host_ip_addr(request).await?.into_inner();
    let lines = vec![("address", told.ip_address.clone())];
    show(("address", "GetHostIpAddrResponse"), &told, &lines, out)
}

async fn uptime(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetHostUptimeRequest {};
    let told = client.host().get_host_uptime(request).await?.into_inner();
    let lines = vec![
        ("host", text::time(told.boot_time.as_ref())),
        ("server", text::time(told.server_start_time.as_ref())),
        ("up", text::span(text::duration(told.uptime.as_ref()))),
        (
            "load",
            format!(
                "{:.2} {:.2} {:.2}",
                told.load_1m, told.load_5m, told.load_15m
            ),
        ),
    ];
    show(("uptime", "GetHostUptimeResponse"), &told, &lines, out)
}

async fn nodes(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetAvailableNodesRequest {};
    let told = client.host().get_available_nodes(request).await?;
    let nodes = told.into_inner().nodes;
    if out.is_json() {
        for node in &nodes {
            out.object(&json!({ "node": json::view("Node", node) }))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = nodes
        .into_iter()
        .map(|node| vec![node.node_id, node.name])
        .collect();
    out.table(&["NODE", "NAME"], &rows)?;
    Ok(())
}

async fn connector(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetVolumeConnectorRequest::default();
    let told = client.host().get_volume_connector(request).await?;
    let told = told.into_inner().connector.unwrap_or_default();
    let lines = vec![
        ("host", told.host.clone()),
        ("address", told.ip_address.clone()),
        ("iscsi", told.iscsi_initiator.clone()),
        ("nvme", told.nvme_host_nqn.clone()),
        ("wwpns", told.fc_wwpns.join(" ")),
        ("wwnns", told.fc_wwnns.join(" ")),
        (
            "platform",
            format!("{} {}", told.os_type, told.architecture),
        ),
    ];
    show(("connector", "VolumeConnector"), &told, &lines, out)
}
