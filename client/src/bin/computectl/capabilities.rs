//! `computectl capabilities`.

use clap::Args;
use computedriver_client::v1;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::json;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct CapabilitiesArgs {
    /// Only what is served.
    #[arg(long)]
    supported: bool,
}

pub(crate) async fn run(
    args: CapabilitiesArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::GetCapabilitiesRequest {};
    let mut all = client.host().get_capabilities(request).await?.into_inner();
    if args.supported {
        all.rpcs.retain(|rpc| rpc.supported);
        all.features.retain(|feature| feature.supported);
    }
    if out.is_json() {
        let view = json::view("GetCapabilitiesResponse", &all);
        out.object(&json!({ "capabilities": view }))?;
        return Ok(());
    }
    let mut rows = Vec::new();
    for rpc in &all.rpcs {
        let service = rpc.service.rsplit('.').next().unwrap_or_default();
        let name = format!("{service}/{}", rpc.method);
        rows.push(row(name, rpc.supported, &rpc.unsupported_reason));
    }
    for feature in &all.features {
        let name = feature.name.clone();
        rows.push(row(name, feature.supported, &feature.unsupported_reason));
    }
    out.table(&["RPC OR FEATURE", "SERVED", "WHY NOT"], &rows)?;
    Ok(())
}

fn row(name: String, supported: bool, why_not: &str) -> Vec<String> {
    let served = if supported { "yes" } else { "no" };
    vec![name, served.to_owned(), why_not.to_owned()]
}
