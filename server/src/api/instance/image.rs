//! Calls that make images of instances.

use std::path::PathBuf;

use computedriver::v1::{self, snapshot_request};
use tonic::Request;

use super::super::{Api, convert::Faults, status::status, work::Streamed};
use crate::{
    action::{Destination, Snapshot, Snapshotted},
    domain::Format,
    error::Result,
    model::{OperationRecord, Secret},
};

/// Longest address of an image service.
const URL: usize = 4096;
/// Longest word of authorization.
const AUTHORIZATION: usize = 8192;

/// What is asked for: where to, as what, and whether the guest runs meanwhile.
fn wish(
    faults: &mut Faults,
    request: &mut v1::SnapshotRequest,
) -> Option<(Destination, Format, bool)> {
    if request.image_id.is_empty()
        || faults
            .text("image_id", request.image_id.clone(), 255)
            .is_none()
    {
        faults.wrong("image_id", "must have 1 to 255 characters");
    }
    let format = match request.format() {
        v1::DiskFormat::Raw => Some(Format::Raw),
        v1::DiskFormat::Qcow2 => Some(Format::Qcow2),
        _ => {
            faults.wrong("format", "must be RAW or QCOW2");
            None
        }
    };
    let live = match request.kind() {
        v1::SnapshotKind::Live => Some(true),
        v1::SnapshotKind::Cold => Some(false),
        v1::SnapshotKind::Unspecified => {
            faults.wrong("kind", "must be LIVE or COLD");
            None
        }
    };
    let to = match request.destination.take() {
        Some(snapshot_request::Destination::Path(path)) if path.starts_with('/') => {
            Some(Destination::File(PathBuf::from(path)))
        }
        Some(snapshot_request::Destination::Path(_)) => {
            faults.wrong("path", "must be absolute");
            None
        }
        Some(snapshot_request::Destination::Upload(upload)) => service(faults, upload),
        None => {
            faults.wrong("destination", "is required, as path or upload");
            None
        }
    };
    Some((to?, format?, live?))
}

fn service(faults: &mut Faults, upload: v1::SnapshotUpload) -> Option<Destination> {
    let url = url::Url::parse(&upload.url).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() || upload.url.len() > URL {
        faults.wrong(
            "upload.url",
            format_args!("must be http:// or https://, at most {URL} characters"),
        );
    }
    let lawful = http::HeaderValue::from_str(&upload.authorization).is_ok();
    if !lawful || upload.authorization.len() > AUTHORIZATION {
        faults.wrong(
            "upload.authorization",
            format_args!("must be a header's value of at most {AUTHORIZATION} characters"),
        );
    }
    let authorization = Some(upload.authorization).filter(|word| !word.is_empty());
    url.map(|url| Destination::Upload {
        url: url.into(),
        authorization: authorization.map(Secret::new),
    })
}

impl Api {
    pub(super) async fn do_snapshot(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Streamed<v1::SnapshotResponse> {
        let image = request.get_ref().image_id.clone();
        let read = self.asked(request, wish);
        let (asked, (to, format, live)) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        let action = Snapshot {
            instance,
            to,
            format,
            live,
        };
        let last = move |_, ended| snapshotted(image.clone(), ended);
        self.told(asked, action, last).await
    }
}

async fn snapshotted(image_id: String, ended: OperationRecord) -> Result<v1::SnapshotResult> {
    let Snapshotted {
        size,
        sha256,
        format,
        quiesced,
    } = ended.answer()?;
    Ok(v1::SnapshotResult {
        image_id,
        size_bytes: size.0,
        sha256,
        format: match format {
            Format::Raw => v1::DiskFormat::Raw,
            Format::Qcow2 => v1::DiskFormat::Qcow2,
        }
        .into(),
        quiesced,
    })
}
