//! `computectl list` and `computectl info`: the short views of instances.

use clap::Args;
use computedriver_client::{Client, v1};
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::show::ShowArgs;
use crate::{json, text};

const HEADERS: [&str; 6] = ["INSTANCE", "STATE", "VCPUS", "MEMORY", "CREATED", "NAME"];

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only the ids, in ascending order: what costs the host least.
    #[arg(long)]
    ids: bool,
    /// One page of so many instances, at most 1000, in ascending order of their ids. Default: all, as they are at one
    /// moment.
    #[arg(long, value_name = "N")]
    page_size: Option<u32>,
    /// The page after the one that ended with this token.
    #[arg(long, value_name = "TOKEN", requires = "page_size")]
    page_token: Option<String>,
}

pub(crate) async fn run(args: ListArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    match (args.ids, args.page_size) {
        (false, None) => tell(&client.stream_instances().await?, out),
        (false, Some(page_size)) => page(page_size, args.page_token, &client, out).await,
        (true, page_size) => ids(page_size, args.page_token, &client, out).await,
    }
}

async fn page(
    page_size: u32,
    token: Option<String>,
    client: &Client,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = v1::ListInstancesDetailRequest {
        page_size,
        page_token: token.unwrap_or_default(),
    };
    let answer = client.instances().list_instances_detail(request).await?;
    let page = answer.into_inner();
    tell(&page.instances, out)?;
    more(&page.next_page_token, out)
}

/// All of them, or one page.
async fn ids(
    page_size: Option<u32>,
    token: Option<String>,
    client: &Client,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut request = v1::ListInstancesRequest {
        page_size: page_size.unwrap_or(1000),
        page_token: token.unwrap_or_default(),
    };
    loop {
        let answer = client.instances().list_instances(request.clone()).await?;
        let page = answer.into_inner();
        for id in &page.instance_ids {
            match out.is_json() {
                true => out.object(&json!({ "instance_id": id }))?,
                false => out.line(id)?,
            }
        }
        if page_size.is_some() || page.next_page_token.is_empty() {
            return more(&page.next_page_token, out);
        }
        request.page_token = page.next_page_token;
    }
}

/// How to go on after a page that is not the last.
fn more(token: &str, out: &mut Out) -> Result<(), Failure> {
    match (token.is_empty(), out.is_json()) {
        (true, _) => {}
        (false, true) => out.object(&json!({ "next_page_token": token }))?,
        (false, false) => out.line(format_args!("more: --page-token {token}"))?,
    }
    Ok(())
}

fn tell(instances: &[v1::InstanceInfo], out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        for instance in instances {
            let view = json::view("InstanceInfo", instance);
            out.object(&json!({ "instance": view }))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = instances
        .iter()
        .map(|i| {
            vec![
                i.instance_id.clone(),
                text::power_state(i.state()).to_owned(),
                i.num_cpu.to_string(),
                text::bytes(i.max_mem_kib.saturating_mul(1024)),
                text::time(i.created_time.as_ref()),
                i.display_name.clone(),
            ]
        })
        .collect();
    out.table(&HEADERS, &rows)?;
    Ok(())
}

/// What one instance is doing now.
pub(crate) async fn info(args: ShowArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetInfoRequest {
        instance_id: args.instance,
    };
    let client = session.connect().await?;
    let answer = client.instances().get_info(request).await?;
    let info = answer.into_inner().info.unwrap_or_default();
    if out.is_json() {
        let view = json::view("InstanceInfo", &info);
        out.object(&json!({ "info": view }))?;
        return Ok(());
    }
    let memory = |kib: u64| text::bytes(kib.saturating_mul(1024));
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let seconds = info.cpu_time_ns as f64 / 1e9;
    for (name, value) in [
        ("instance", info.instance_id.clone()),
        ("state", text::power_state(info.state()).to_owned()),
        ("vcpus", info.num_cpu.to_string()),
        (
            "memory",
            format!("{} of {}", memory(info.mem_kib), memory(info.max_mem_kib)),
        ),
        ("cpu time", format!("{seconds:.1} s")),
        ("operation", info.operation_id.clone()),
    ] {
        if !value.is_empty() {
            out.line(format_args!("{name:<12}  {value}"))?;
        }
    }
    Ok(())
}
