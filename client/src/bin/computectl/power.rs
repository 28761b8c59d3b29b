//! `computectl start`, `stop`, `pause`, `unpause`, `reboot`, `suspend`, `resume`, `unrescue` and `crash-dump`.

use std::time::Duration;

use clap::Args;
use computedriver_client::{Client, LongRequest, v1};
use serde_json::json;
use uuid::Uuid;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// UUID of the instance.
    instance: String,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// UUID of the instance.
    instance: String,
    /// Ask the guest for so long before it is stopped by force. Default: by force at once.
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration)]
    grace: Option<Duration>,
    /// Ask it again this often.
    #[arg(long, value_name = "TIME", requires = "grace", value_parser = text::parse_duration)]
    retry_interval: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct RebootArgs {
    /// UUID of the instance.
    instance: String,
    /// Cut its power at once, and make its domain anew from what the server has stored.
    #[arg(long)]
    hard: bool,
    /// Ask the guest for so long before its power is cut. Default: 2m.
    #[arg(long, value_name = "TIME", conflicts_with = "hard", value_parser = text::parse_duration)]
    grace: Option<Duration>,
}

/// What is done to a guest by one short call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Start,
    Pause,
    Unpause,
}

pub(crate) async fn turn(
    turn: Turn,
    args: OneArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let info = turned(turn, args.instance, &client).await?;
    tell(&info.unwrap_or_default(), out)
}

async fn turned(
    turn: Turn,
    instance_id: String,
    client: &Client,
) -> Result<Option<v1::InstanceInfo>, Failure> {
    let request_id = Uuid::new_v4().to_string();
    let mut instances = client.instances();
    Ok(match turn {
        Turn::Start => {
            let request = v1::PowerOnRequest {
                instance_id,
                request_id,
            };
            instances.power_on(request).await?.into_inner().info
        }
        Turn::Pause => {
            let request = v1::PauseRequest {
                instance_id,
                request_id,
            };
            instances.pause(request).await?.into_inner().info
        }
        Turn::Unpause => {
            let request = v1::UnpauseRequest {
                instance_id,
                request_id,
            };
            instances.unpause(request).await?.into_inner().info
        }
    })
}

pub(crate) async fn stop(args: StopArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let look = format!("computectl show {}", args.instance);
    let request = v1::PowerOffRequest {
        instance_id: args.instance,
        timeout: wire(args.grace),
        retry_interval: wire(args.retry_interval),
        ..Default::default()
    };
    let long = Long {
        look,
        follow: client.follow(request),
        limit: session.limit(),
    };
    let ended = long.run(out).await?;
    if out.is_json() {
        let view = json::view("PoweredOff", &ended);
        return Ok(out.object(&json!({ "powered_off": view }))?);
    }
    let how = if ended.forced { ", by force" } else { "" };
    let info = ended.info.unwrap_or_default();
    let state = text::power_state(info.state());
    Ok(out.line(format_args!("{} {state}{how}", info.instance_id))?)
}

pub(crate) async fn reboot(
    args: RebootArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let kind = match args.hard {
        true => v1::RebootKind::Hard,
        false => v1::RebootKind::Soft,
    };
    let request = v1::RebootRequest {
        instance_id: args.instance.clone(),
        kind: kind.into(),
        timeout: wire(args.grace),
        ..Default::default()
    };
    changed(request, &args.instance, session, out).await
}

pub(crate) async fn suspend(
    args: OneArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = v1::SuspendRequest {
        instance_id: args.instance.clone(),
        ..Default::default()
    };
    changed(request, &args.instance, session, out).await
}

pub(crate) async fn resume(args: OneArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::ResumeRequest {
        instance_id: args.instance.clone(),
        ..Default::default()
    };
    changed(request, &args.instance, session, out).await
}

pub(crate) async fn unrescue(
    args: OneArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = v1::UnrescueRequest {
        instance_id: args.instance.clone(),
        ..Default::default()
    };
    changed(request, &args.instance, session, out).await
}

pub(crate) async fn crash_dump(
    args: OneArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::TriggerCrashDumpRequest {
        instance_id: args.instance.clone(),
        request_id: Uuid::new_v4().to_string(),
    };
    client.instances().trigger_crash_dump(request).await?;
    if out.is_json() {
        return Ok(out.object(&json!({ "interrupted": args.instance }))?);
    }
    Ok(out.line(format_args!("{} interrupted", args.instance))?)
}

/// A long change that ends with the instance.
pub(crate) async fn changed<R: LongRequest<Done = v1::Instance>>(
    request: R,
    instance: &str,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let long = Long {
        look: format!("computectl show {instance}"),
        follow: client.follow(request),
        limit: session.limit(),
    };
    let instance = long.run(out).await?;
    if out.is_json() {
        let view = json::view("Instance", &instance);
        return Ok(out.object(&json!({ "instance": view }))?);
    }
    let state = text::power_state(instance.power_state());
    Ok(out.line(format_args!("{} {state}", instance.instance_id))?)
}

pub(crate) fn wire(time: Option<Duration>) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(time?).ok()
}

fn tell(info: &v1::InstanceInfo, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        let view = json::view("InstanceInfo", info);
        return Ok(out.object(&json!({ "info": view }))?);
    }
    let state = text::power_state(info.state());
    Ok(out.line(format_args!("{} {state}", info.instance_id))?)
}
