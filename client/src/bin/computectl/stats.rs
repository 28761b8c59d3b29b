//! `computectl stats`: counters, sample by sample, or those of one device now.

mod sheet;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use computedriver_client::{Client, SampleNews, SampleRequest, v1};
use prost::Message;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

use sheet::{Rows, Sheet};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct StatsArgs {
    #[command(subcommand)]
    one: Option<StatsCommand>,
    #[command(flatten)]
    stream: StreamArgs,
}

#[derive(Debug, Subcommand)]
enum StatsCommand {
    /// The counters of one disk, measured now.
    Block(BlockArgs),
    /// The counters of one interface, measured now.
    Interface(InterfaceArgs),
}

#[derive(Debug, Args)]
struct BlockArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the disk; `computectl show` lists them.
    disk: String,
    /// Write comma-separated values, RFC 4180.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Args)]
struct InterfaceArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the interface; `computectl show` lists them.
    interface: String,
    /// Write comma-separated values, RFC 4180.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Args)]
struct StreamArgs {
    /// What is counted.
    #[arg(long, value_enum, default_value_t = Kind::Instance)]
    kind: Kind,
    /// Only this instance, a UUID; may be repeated. Default: all.
    #[arg(long = "instance", value_name = "ID")]
    instances: Vec<String>,
    /// Time between samples, from 1s to 1h.
    #[arg(long, default_value = "5s", value_parser = text::parse_duration)]
    interval: Duration,
    /// End after so many samples. Default: go on until interrupted.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write comma-separated values, RFC 4180: one line an instance, or a device, and sample; absent is empty, not 0.
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Processor and memory: one line an instance.
    Instance,
    /// One line a disk.
    Block,
    /// One line an interface.
    Interface,
}

pub(crate) async fn run(args: StatsArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    match args.one {
        Some(StatsCommand::Block(args)) => block(args, session, out).await,
        Some(StatsCommand::Interface(args)) => interface(args, session, out).await,
        None => stream(args.stream, session, out).await,
    }
}

async fn block(args: BlockArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetBlockStatsRequest {
        instance_id: args.instance.clone(),
        disk_id: args.disk,
    };
    let client = session.connect().await?;
    let answer = client.stats().get_block_stats(request).await?.into_inner();
    let sheet = Sheet::of_disk(args.instance, &answer);
    print(&sheet, args.csv, &answer, out)
}

async fn interface(args: InterfaceArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetInterfaceStatsRequest {
        instance_id: args.instance.clone(),
        interface_id: args.interface,
    };
    let client = session.connect().await?;
    let answer = client.stats().get_interface_stats(request).await?;
    let answer = answer.into_inner();
    let sheet = Sheet::of_interface(args.instance, &answer);
    print(&sheet, args.csv, &answer, out)
}

async fn stream(args: StreamArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    use v1::StatsGroup as Group;
    let client = session.connect_for_good().await?;
    let interval = prost_types::Duration::try_from(args.interval).ok();
    // Every batch whole: each sample then has its line, changed or not.
    let (instance_ids, full_every) = (args.instances.clone(), interval);
    match args.kind {
        Kind::Instance => {
            let groups = [Group::Cpu, Group::Vcpu, Group::Memory, Group::Balloon];
            let request = v1::StreamInstanceStatsRequest {
                instance_ids,
                interval,
                full_every,
                groups: groups.map(i32::from).to_vec(),
            };
            follow(&client, request, &args, out).await
        }
        Kind::Block => {
            let request = v1::StreamBlockStatsRequest {
                instance_ids,
                interval,
                full_every,
            };
            follow(&client, request, &args, out).await
        }
        Kind::Interface => {
            let request = v1::StreamInterfaceStatsRequest {
                instance_ids,
                interval,
                full_every,
            };
            follow(&client, request, &args, out).await
        }
    }
}

async fn follow<R>(
    client: &Client,
    request: R,
    args: &StreamArgs,
    out: &mut Out,
) -> Result<(), Failure>
where
    R: SampleRequest,
    R::Batch: Message + Rows,
{
    let mut samples = client.samples(request);
    let mut told = 0;
    while args.count.is_none_or(|count| told < count) {
        match samples.next().await? {
            SampleNews::Batch(batch) => {
                let mut sheet = Sheet::of(&batch);
                sheet.begun = told > 0;
                print(&sheet, args.csv, &batch, out)?;
                told += 1;
            }
            SampleNews::Lost(error) => out.lost(error)?,
            _ => {}
        }
    }
    Ok(())
}

fn print(sheet: &Sheet, csv: bool, message: &impl Message, out: &mut Out) -> Result<(), Failure> {
    if csv {
        out.bytes(&sheet.csv()?)?;
    } else if out.is_json() {
        let view = json::view(sheet.message, message);
        out.object(&json!({ "stats": view }))?;
    } else {
        if sheet.begun {
            out.line("")?;
        }
        let (headers, rows) = sheet.table();
        out.table(&headers, &rows)?;
    }
    Ok(())
}
