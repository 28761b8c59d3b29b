//! `computectl diagnostics`.

use clap::Args;
use computedriver_client::v1;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Args)]
pub(crate) struct DiagnosticsArgs {
    /// UUID of the instance.
    instance: String,
}

pub(crate) async fn run(
    args: DiagnosticsArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::GetDiagnosticsRequest {
        instance_id: args.instance,
    };
    let answer = client.instances().get_diagnostics(request).await?;
    let answer = answer.into_inner();
    if out.is_json() {
        let view = json::view("GetDiagnosticsResponse", &answer);
        return Ok(out.object(&view)?);
    }
    print(answer, out)
}

fn print(answer: v1::GetDiagnosticsResponse, out: &mut Out) -> Result<(), Failure> {
    let state = text::power_state(answer.state());
    let measured = answer.diagnostics.unwrap_or_default();
    let mut field = |name: &str, value: String| out.line(format_args!("{name:<12}  {value}"));
    field("state", state.into())?;
    field("driver", measured.driver)?;
    let uptime = text::duration(measured.uptime.as_ref());
    field("up", text::span(uptime))?;
    for cpu in measured.cpus {
        let time = std::time::Duration::from_nanos(cpu.time_ns.unwrap_or_default().unsigned_abs());
        field("cpu", format!("{} {} used", cpu.id, text::span(time)))?;
    }
    if let Some(memory) = measured.memory {
        let kib = |kib: Option<u64>| known(kib.map(|kib| kib << 10));
        let (has, of) = (kib(memory.current_kib), kib(Some(memory.maximum_kib)));
        let rss = kib(memory.rss_kib);
        field("memory", format!("{has} of {of}, {rss} of the host"))?;
    }
    for disk in measured.disks {
        let (read, written) = (counted(disk.rd_bytes), counted(disk.wr_bytes));
        let id = disk.disk_id;
        field("disk", format!("{id} {read} read, {written} written"))?;
    }
    for nic in measured.interfaces {
        let (rx, tx) = (counted(nic.rx_bytes), counted(nic.tx_bytes));
        let id = nic.interface_id;
        field("interface", format!("{id} {rx} received, {tx} sent"))?;
    }
    Ok(())
}

/// What is not known is no zero.
fn counted(bytes: Option<i64>) -> String {
    known(bytes.and_then(|bytes| u64::try_from(bytes).ok()))
}

fn known(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), text::bytes)
}
