//! `computectl ops`: operations of the server.

use clap::{Args, Subcommand};
use computedriver_client::{Client, v1};
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Subcommand)]
pub(crate) enum OpsCommand {
    /// List operations, newest first.
    List(ListArgs),
    /// Show one operation and its phases.
    Show(OneArgs),
    /// Follow an operation to its end; exits as the operation does.
    Watch(OneArgs),
    /// Ask an operation to end and to undo what it did.
    Cancel(OneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this instance.
    #[arg(long)]
    instance: Option<String>,
    /// Only those that have not ended.
    #[arg(long)]
    running: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// UUID of the operation.
    operation: String,
}

pub(crate) async fn run(
    command: OpsCommand,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        OpsCommand::List(args) => list(args, &client, out).await,
        OpsCommand::Show(args) => {
            let request = v1::GetOperationRequest {
                operation_id: args.operation,
            };
            let answer = client.operations().get_operation(request).await?;
            show(answer.into_inner().operation, out)
        }
        OpsCommand::Cancel(args) => {
            let request = v1::CancelOperationRequest {
                operation_id: args.operation,
            };
            let answer = client.operations().cancel_operation(request).await?;
            show(answer.into_inner().operation, out)
        }
        OpsCommand::Watch(args) => {
            let long = Long {
                look: format!("computectl ops show {}", args.operation),
                follow: client.watch_operation(args.operation),
                limit: session.limit(),
            };
            let operation = long.run(out).await?;
            let error = Client::operation_error(&operation);
            show(Some(operation), out)?;
            error.map_or(Ok(()), |error| Err(error.into()))
        }
    }
}

async fn list(args: ListArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    use v1::OperationState as State;
    let running = [State::Running, State::Cancelling, State::Unwinding];
    let states = match args.running {
        true => running.into_iter().map(i32::from).collect(),
        false => Vec::new(),
    };
    let request = v1::ListOperationsRequest {
        instance_id: args.instance.unwrap_or_default(),
        states,
        ..Default::default()
    };
    let operations = client.list_operations(request).await?;
    if out.is_json() {
        for operation in &operations {
            out.object(&json!({ "operation": json::view("Operation", operation) }))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = operations
        .iter()
        .map(|o| {
            vec![
                o.operation_id.clone(),
                o.verb.clone(),
                text::operation_state(o.state()).to_owned(),
                phase(o).to_owned(),
                text::time(o.begin_time.as_ref()),
                subject(o).to_owned(),
            ]
        })
        .collect();
    let headers = ["OPERATION", "VERB", "STATE", "PHASE", "BEGAN", "OF"];
    out.table(&headers, &rows)?;
    Ok(())
}

fn phase(operation: &v1::Operation) -> &'static str {
    let progress = operation.progress.as_ref();
    progress.map_or("", |p| text::phase(p.phase()))
}

fn subject(operation: &v1::Operation) -> &str {
    match operation.instance_id.as_str() {
        "" => &operation.image_id,
        id => id,
    }
}

fn show(operation: Option<v1::Operation>, out: &mut Out) -> Result<(), Failure> {
    let operation = operation.unwrap_or_default();
    if out.is_json() {
        let view = json::view("Operation", &operation);
        out.object(&json!({ "operation": view }))?;
        return Ok(());
    }
    let state = text::operation_state(operation.state());
    let (id, verb) = (&operation.operation_id, &operation.verb);
    out.line(format_args!("{verb} {id} {state}"))?;
    for progress in &operation.phases {
        let elapsed = text::span(text::duration(progress.elapsed.as_ref()));
        let phase = text::phase(progress.phase());
        out.line(format_args!("  {phase:<16}  {elapsed:>8}"))?;
    }
    if let Some(error) = Client::operation_error(&operation) {
        out.line(format_args!("  {error} [{}]", error.reason()))?;
    }
    Ok(())
}
