//! What tests ask for, and what they read of the answers.

use std::{fs, path::Path};

use computedriver::v1;
use sha2::{Digest, Sha256};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::guest;

/// Reads a spawn's stream to its end.
pub async fn finish(
    mut stream: Streaming<v1::SpawnResponse>,
) -> Result<(v1::Instance, Vec<v1::OperationProgress>), Status> {
    let mut seen = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.event {
            Some(v1::spawn_response::Event::Progress(progress)) => seen.push(progress),
            Some(v1::spawn_response::Event::Instance(instance)) => return Ok((instance, seen)),
            Some(v1::spawn_response::Event::Heartbeat(_)) | None => {}
        }
    }
    Err(Status::internal("the stream ended without a result"))
}

/// An image file as a request names it.
pub fn image(path: &Path, format: v1::DiskFormat) -> v1::Image {
    v1::Image {
        image_id: "test-image".to_owned(),
        location: format!("file://{}", path.display()),
        sha256: sha256(path),
        format: format.into(),
        ..Default::default()
    }
}

/// The hash of a file.
pub fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).expect("a file to hash")))
}

/// A small request over the boot sector: a guest that runs at once and idles.
pub fn request() -> v1::SpawnRequest {
    v1::SpawnRequest {
        instance_id: Uuid::new_v4().to_string(),
        flavor: Some(v1::Flavor {
            vcpus: 1,
            memory_mib: 16,
            ..Default::default()
        }),
        image: Some(image(&guest().join("boot-sector.raw"), v1::DiskFormat::Raw)),
        ..Default::default()
    }
}

/// A request over the tiny guest that waits until `pattern` shows on the console.
pub fn guest_request(pattern: &str) -> v1::SpawnRequest {
    v1::SpawnRequest {
        flavor: Some(v1::Flavor {
            vcpus: 1,
            memory_mib: 128,
            root_gib: 1,
            ..Default::default()
        }),
        image: Some(image(&guest().join("guest.qcow2"), v1::DiskFormat::Qcow2)),
        wait_for: Some(v1::WaitFor {
            timeout: Some(prost_types::Duration {
                seconds: 170,
                nanos: 0,
            }),
            condition: Some(v1::wait_for::Condition::ConsolePattern(pattern.to_owned())),
        }),
        ..request()
    }
}

/// The reason of an error; each carries exactly one.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("an ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "computedriver");
    info.reason.clone()
}

/// The faulty fields that an error names.
pub fn fields(status: &Status) -> Vec<String> {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let bad = details
        .bad_request()
        .map(|bad| bad.field_violations.clone())
        .unwrap_or_default();
    bad.into_iter().map(|violation| violation.field).collect()
}
