//! `computectl ready`.

use computedriver_client::v1;
use computedriver_client::v1::Readiness;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

/// The server answers, but cannot work now.
const NOT_READY: u8 = 5;

pub(crate) async fn run(session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::GetReadinessRequest {};
    let answer = client.host().get_readiness(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("GetReadinessResponse", &answer);
        out.object(&json!({ "readiness": view }))?;
    } else {
        let draining = if answer.draining { ", draining" } else { "" };
        out.line(format_args!("{}{draining}", name(answer.readiness())))?;
        for check in &answer.checks {
            let readiness = name(check.readiness());
            let line = format!("  {:<12}  {readiness:<8}  {}", check.name, check.detail);
            out.line(line.trim_end())?;
        }
    }
    match answer.readiness() {
        Readiness::Ready if !answer.draining => Ok(()),
        _ => Err(Failure::Told(NOT_READY)),
    }
}

fn name(readiness: Readiness) -> &'static str {
    text::short(readiness.as_str_name(), "READINESS_")
}
