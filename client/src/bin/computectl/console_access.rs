//! `computectl console-access` and `computectl console-pool`: consoles through the host's console proxy.

use clap::{Args, ValueEnum};
use computedriver_client::v1;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::text;

#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    /// UUID of the instance.
    instance: String,
    /// Kind of console.
    #[arg(long, value_enum, default_value_t = Kind::Vnc)]
    kind: Kind,
}

#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Kind of console.
    #[arg(long, value_enum, default_value_t = Kind::Vnc)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Vnc,
    Serial,
    Spice,
}

impl From<Kind> for i32 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Vnc => v1::ConsoleKind::Vnc,
            Kind::Serial => v1::ConsoleKind::Serial,
            Kind::Spice => v1::ConsoleKind::Spice,
        }
        .into()
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn address(host: &str, port: u32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

pub(crate) async fn access(
    args: AccessArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::GetConsoleAccessRequest {
        instance_id: args.instance,
        kind: args.kind.into(),
    };
    let access = client.consoles().get_console_access(request).await?;
    let access = access.into_inner();
    let expires = text::time(access.expire_time.as_ref());
    if out.is_json() {
        // Asked for by name, so this secret is told.
        return Ok(out.object(&json!({"console_access": {
            "host": access.host,
            "port": access.port,
            "token": access.token,
            "expire_time": expires,
        }}))?);
    }
    out.line(format_args!(
        "address  {}",
        address(&access.host, access.port)
    ))?;
    out.line(format_args!("token    {}", access.token))?;
    out.line(format_args!("expires  {expires}"))?;
    Ok(())
}

pub(crate) async fn pool(args: PoolArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::GetConsolePoolInfoRequest {
        kind: args.kind.into(),
    };
    let pool = client.consoles().get_console_pool_info(request).await?;
    let pool = pool.into_inner();
    if out.is_json() {
        return Ok(out.object(&json!({"console_pool": {
            "host": pool.host,
            "port": pool.port,
        }}))?);
    }
    out.line(address(&pool.host, pool.port))?;
    Ok(())
}
