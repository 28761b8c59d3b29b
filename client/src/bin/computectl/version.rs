//! `computectl version`.

use computedriver_client::v1;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

pub(crate) async fn run(session: &Session, out: &mut Out) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    if !out.is_json() {
        // Told also when no server answers.
        out.line(format_args!("computectl  {own}"))?;
    }
    let client = session.connect().await?;
    let request = v1::GetCapabilitiesRequest {};
    let all = client.host().get_capabilities(request).await?.into_inner();
    let server = all.server.unwrap_or_default();
    let hypervisor = all.hypervisor.unwrap_or_default();
    if out.is_json() {
        out.object(&json!({
            "computectl": own,
            "server": json::view("ServerVersion", &server),
            "hypervisor": json::view("Hypervisor", &hypervisor),
        }))?;
        return Ok(());
    }
    let contract = &server.contract;
    out.line(format_args!(
        "{}  {} {} ({contract})",
        server.name, server.version, server.build
    ))?;
    let how = text::short(hypervisor.virt_type().as_str_name(), "VIRT_TYPE_");
    let (driver, version) = (&hypervisor.driver, &hypervisor.version);
    let (library, library_version) = (&hypervisor.library, &hypervisor.library_version);
    out.line(format_args!(
        "{driver}  {version} ({how}, {library} {library_version})"
    ))?;
    Ok(())
}
