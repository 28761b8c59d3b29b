//! What the host has, has left and offers.

use clap::Args;
use computedriver_client::{Client, v1};
use serde_json::json;

use super::{cpu, show};
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Measure now; else the answer may be 10 seconds old.
    #[arg(long)]
    refresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResourcesArgs {
    /// Tell it again on each change, over lost connections too, until interrupted.
    #[arg(short, long)]
    pub(super) follow: bool,
}

pub(super) async fn stats(args: &StatsArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let refresh = args.refresh;
    let request = v1::GetHostStatsRequest { refresh };
    let told = client.host().get_host_stats(request).await?.into_inner();
    let told = told.stats.unwrap_or_default();
    let mib = |mib: u64| text::bytes(mib.saturating_mul(1 << 20));
    let memory = (mib(told.memory_free_mib), mib(told.memory_total_mib));
    let disk = (
        text::bytes(told.disk_free_bytes),
        text::bytes(told.disk_total_bytes),
    );
    let lines = vec![
        ("measured", text::time(told.time.as_ref())),
        ("cpus", told.cpus.to_string()),
        ("load", format!("{:.2}", told.load_1m)),
        ("memory", format!("{} free of {}", memory.0, memory.1)),
        ("disk", format!("{} free of {}", disk.0, disk.1)),
        ("images", text::bytes(told.image_cache_bytes)),
        (
            "instances",
            format!("{}, {} run", told.instances, told.running_instances),
        ),
        (
            "guests see",
            told.cpu.as_ref().map(cpu::line).unwrap_or_default(),
        ),
    ];
    show(("host_stats", "HostStats"), &told, &lines, out)
}

pub(super) async fn now(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetAvailableResourceRequest {};
    let told = client.host().get_available_resource(request).await?;
    print(&told.into_inner().resource.unwrap_or_default(), out)
}

pub(super) async fn follow(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let mut resources = client.resources();
    loop {
        print(&resources.next().await?, out)?;
    }
}

fn print(told: &v1::AvailableResource, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        let view = json::view("AvailableResource", told);
        out.object(&json!({ "resource": view }))?;
        return Ok(());
    }
    let reachable = told.hypervisor.as_ref().is_some_and(|h| h.reachable);
    let state = match (told.enabled, told.maintenance) {
        _ if !reachable => "hypervisor not reachable",
        (true, _) => "takes instances",
        (false, true) => "in maintenance",
        (false, false) => "takes no instances",
    };
    let note = match told.disabled_note.as_str() {
        "" => String::new(),
        note => format!(": {}", text::printable(note)),
    };
    let (name, instances) = (&told.hypervisor_hostname, told.instances);
    let running = told.running_instances;
    out.line(format_args!(
        "{name} {state}{note}; {instances} instances, {running} run"
    ))?;
    let row = |name: &str, amount: Option<v1::ResourceAmount>| {
        let amount = amount.unwrap_or_default();
        let counts = [
            amount.total,
            amount.reserved,
            amount.claimed,
            amount.left,
            amount.used,
        ];
        let mut row = vec![name.to_owned(), format!("{}", amount.allocation_ratio)];
        row.extend(counts.map(|count| count.to_string()));
        row
    };
    let rows = [
        row("VCPUS", told.vcpus),
        row("MEMORY MIB", told.memory_mib),
        row("DISK GIB", told.disk_gib),
    ];
    let headers = [
        "RESOURCE", "RATIO", "TOTAL", "RESERVED", "CLAIMED", "LEFT", "USED",
    ];
    out.table(&headers, &rows)?;
    Ok(())
}

pub(super) async fn inventory(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetInventoryRequest {};
    let told = client.host().get_inventory(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("GetInventoryResponse", &told);
        out.object(&json!({ "inventory": view }))?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = told
        .inventories
        .iter()
        .map(|one| {
            let ratio = format!("{}", one.allocation_ratio);
            let counts = [one.total, one.reserved, one.used].map(|count| count.to_string());
            let [total, reserved, used] = counts;
            vec![one.resource_class.clone(), total, reserved, ratio, used]
        })
        .collect();
    out.table(&["CLASS", "TOTAL", "RESERVED", "RATIO", "USED"], &rows)?;
    for name in &told.traits {
        out.line(name)?;
    }
    out.line(format_args!("generation {}", told.generation))?;
    Ok(())
}
