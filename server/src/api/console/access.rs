//! Tokens for the console proxy, and where it is.

use computedriver::v1;

use crate::{
    api::{Api, convert},
    error::{Error, Kind},
    session::{ConsoleKind, SessionError},
};

fn not_here(wire: v1::ConsoleKind) -> Error {
    let message = format!(
        "this server has no consoles of kind {}",
        wire.as_str_name().trim_start_matches("CONSOLE_KIND_")
    );
    Error::new(Kind::NotFound, "CONSOLE_NOT_FOUND", message)
}

/// The kind, whether there are consoles of it here or not.
fn kind(faults: &mut convert::Faults, kind: i32) -> Option<v1::ConsoleKind> {
    match v1::ConsoleKind::try_from(kind) {
        Ok(v1::ConsoleKind::Unspecified) => faults.wrong("kind", "is required"),
        Ok(kind) => return Some(kind),
        Err(_) => faults.wrong("kind", "must be a known kind of console"),
    }
    None
}

fn ours(wire: v1::ConsoleKind) -> Option<ConsoleKind> {
    match wire {
        v1::ConsoleKind::Vnc => Some(ConsoleKind::Vnc),
        v1::ConsoleKind::Serial => Some(ConsoleKind::Serial),
        v1::ConsoleKind::Spice | v1::ConsoleKind::Unspecified => None,
    }
}

/// A token that opens a console once.
pub(super) async fn grant(
    api: &Api,
    asked: &v1::GetConsoleAccessRequest,
) -> Result<v1::GetConsoleAccessResponse, Error> {
    let mut faults = convert::Faults::default();
    let id = faults.take("instance_id", asked.instance_id.parse());
    let wire = kind(&mut faults, asked.kind);
    let (id, wire) = faults.into_result(|| Some((id?, wire?)))?;
    let kind = ours(wire).ok_or_else(|| not_here(wire).with("instance_id", id))?;
    let access = api.sessions.grant(id, kind).await?;
    Ok(v1::GetConsoleAccessResponse {
        kind: wire.into(),
        host: access.proxy.host,
        port: access.proxy.port.into(),
        token: access.token.expose().clone(),
        expire_time: Some(convert::timestamp(access.expires)),
    })
}

/// Where the proxy is.
pub(super) fn pool(
    api: &Api,
    asked: &v1::GetConsolePoolInfoRequest,
) -> Result<v1::GetConsolePoolInfoResponse, Error> {
    let mut faults = convert::Faults::default();
    let wire = kind(&mut faults, asked.kind);
    let wire = faults.into_result(|| wire)?;
    let proxy = match ours(wire) {
        None => return Err(not_here(wire)),
        Some(_) => api.sessions.proxy(),
    };
    let proxy = proxy.map_err(|e: SessionError| {
        Error::new(Kind::NotFound, "CONSOLE_NOT_FOUND", e.to_string()).with("key", "console.listen")
    })?;
    Ok(v1::GetConsolePoolInfoResponse {
        host: proxy.host.clone(),
        port: proxy.port.into(),
    })
}
