//! `computectl console-log`.

use clap::Args;
use computedriver_client::v1;
use computedriver_client::v1::stream_console_output_request::Start;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct ConsoleLogArgs {
    /// UUID of the instance.
    instance: String,
    /// Go on as the guest writes, until the instance is destroyed.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines. Default: the whole log.
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
}

pub(crate) async fn run(
    args: ConsoleLogArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let mut start = None;
    if let Some(tail_lines) = args.tail {
        let request = v1::GetConsoleOutputRequest {
            instance_id: args.instance.clone(),
            tail_lines,
            ..Default::default()
        };
        let tail = client.consoles().get_console_output(request).await?;
        let tail = tail.into_inner();
        write(out, tail.offset, &tail.output)?;
        // What follows begins where the tail ended: no line is missed and none comes twice.
        start = Some(Start::Offset(tail.offset + tail.output.len() as u64));
        if !args.follow {
            return Ok(());
        }
    }
    let mut console = client.console(v1::StreamConsoleOutputRequest {
        instance_id: args.instance,
        start,
        follow: args.follow,
    });
    while let Some(chunk) = console.next().await? {
        write(out, chunk.offset, &chunk.data)?;
    }
    Ok(())
}

/// Bytes as the guest wrote them; as JSON with their place in the log, and what is no UTF-8 replaced.
fn write(out: &mut Out, offset: u64, data: &[u8]) -> Result<(), Failure> {
    if out.is_json() {
        let text = String::from_utf8_lossy(data);
        out.object(&json!({"console": {"offset": offset, "text": text}}))?;
    } else {
        out.bytes(data)?;
    }
    Ok(())
}
