//! `computectl snapshot`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use computedriver_client::v1::{self, snapshot_request::Destination};
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::json;
use crate::long::Long;
use crate::out::Out;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ImageFormat {
    /// QEMU's copy-on-write format.
    Qcow2,
    /// Sector for sector.
    Raw,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// UUID of the instance.
    instance: String,
    /// Where the image goes: a path on the host, below one of its `images.export_dirs`, or an http(s) address to PUT it to.
    to: String,
    /// Your id of the image. Default: the last part of where it goes.
    #[arg(long)]
    image_id: Option<String>,
    /// Format of the image.
    #[arg(long, value_enum, default_value_t = ImageFormat::Qcow2)]
    format: ImageFormat,
    /// Stop the guest's processors meanwhile.
    #[arg(long)]
    cold: bool,
    /// File that holds the Authorization header's value for the address.
    #[arg(long)]
    authorization_file: Option<PathBuf>,
}

fn request(args: SnapshotArgs) -> Result<v1::SnapshotRequest, Failure> {
    let last = args.to.rsplit('/').next().unwrap_or_default().to_owned();
    let web = args.to.starts_with("http://") || args.to.starts_with("https://");
    let destination = if web {
        let authorization = match &args.authorization_file {
            Some(path) => std::fs::read_to_string(path)?.trim().to_owned(),
            None => String::new(),
        };
        let url = args.to;
        Destination::Upload(v1::SnapshotUpload { url, authorization })
    } else {
        Destination::Path(args.to)
    };
    let format = match args.format {
        ImageFormat::Qcow2 => v1::DiskFormat::Qcow2,
        ImageFormat::Raw => v1::DiskFormat::Raw,
    };
    let kind = if args.cold {
        v1::SnapshotKind::Cold
    } else {
        v1::SnapshotKind::Live
    };
    Ok(v1::SnapshotRequest {
        instance_id: args.instance,
        image_id: args.image_id.unwrap_or(last),
        format: format.into(),
        kind: kind.into(),
        destination: Some(destination),
        ..Default::default()
    })
}

pub(crate) async fn run(
    args: SnapshotArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let look = format!("computectl show {}", args.instance);
    let request = request(args)?;
    let client = session.connect().await?;
    let long = Long {
        look,
        follow: client.follow(request),
        limit: session.limit(),
    };
    let made = long.run(out).await?;
    if out.is_json() {
        let view = json::view("SnapshotResult", &made);
        out.object(&json!({ "snapshot": view }))?;
    } else {
        let quiet = if made.quiesced {
            ", file systems frozen"
        } else {
            ""
        };
        out.line(format_args!(
            "{}: {} bytes, sha256 {}{quiet}",
            made.image_id, made.size_bytes, made.sha256
        ))?;
    }
    Ok(())
}
