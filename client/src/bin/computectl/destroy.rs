//! `computectl destroy`.

use clap::Args;
use computedriver_client::{Client, v1};
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::json;
use crate::long::Long;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct DestroyArgs {
    /// UUIDs of the instances.
    #[arg(required = true)]
    instances: Vec<String>,
    /// Leave the instance's own disks in its folder on the host.
    #[arg(long)]
    keep_disks: bool,
}

/// Removes one after another; one that fails does not keep the rest.
pub(crate) async fn run(
    args: DestroyArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let all = args.instances.len();
    let mut codes = Vec::new();
    for instance_id in args.instances {
        let request = v1::DestroyRequest {
            instance_id,
            keep_disks: args.keep_disks,
            ..Default::default()
        };
        match one(&client, request, session, out).await {
            Err(failure @ Failure::Call(_)) if all > 1 => {
                failure.tell(out.format());
                codes.push(failure.code());
            }
            other => other?,
        }
    }
    match codes.first() {
        None => Ok(()),
        Some(&code) => Err(Failure::Some {
            failed: codes.len(),
            all,
            code,
        }),
    }
}

async fn one(
    client: &Client,
    request: v1::DestroyRequest,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let long = Long {
        look: format!("computectl show {}", request.instance_id),
        follow: client.follow(request),
        limit: session.limit(),
    };
    let destroyed = long.run(out).await?;
    if out.is_json() {
        let view = json::view("Destroyed", &destroyed);
        out.object(&json!({ "destroyed": view }))?;
    } else if destroyed.absent {
        out.line(format_args!("{} was not here", destroyed.instance_id))?;
    } else {
        out.line(format_args!("{} destroyed", destroyed.instance_id))?;
    }
    Ok(())
}
