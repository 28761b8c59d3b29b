//! Images of instances: a guest boots from what another one's disk was.

use std::path::PathBuf;

use computedriver::v1::{self, Phase, snapshot_request::Destination};
use tonic::{Code, Status};

use crate::{
    support::{Sandbox, guest_request, image, reason, sha256, until},
    web::{Answer, Web},
};

suite! {
    a_guest_boots_from_an_image_made_of_a_running_one,
    a_guest_that_is_off_is_copied_and_sent_to_an_image_service,
    a_crash_in_the_middle_leaves_the_instance_and_no_image,
    a_snapshot_is_refused_where_it_may_not_be_written,
}

const READY: &str = "GUEST-MILESTONE-ready";

pub(crate) async fn snapshot(
    sandbox: &Sandbox,
    asked: v1::SnapshotRequest,
    mut seen: impl FnMut(&v1::OperationProgress),
) -> Result<v1::SnapshotResult, Status> {
    let mut stream = sandbox
        .instances()
        .await
        .snapshot(asked)
        .await?
        .into_inner();
    while let Some(message) = stream.message().await? {
        match message.event {
            Some(v1::snapshot_response::Event::Progress(progress)) => seen(&progress),
            Some(v1::snapshot_response::Event::Snapshot(result)) => return Ok(result),
            Some(v1::snapshot_response::Event::Heartbeat(_)) | None => {}
        }
    }
    Err(Status::internal("the stream ended without a result"))
}

/// A place that the server may write to.
pub(crate) fn place(sandbox: &Sandbox, name: &str) -> PathBuf {
    let folder = sandbox.path().join("export");
    std::fs::create_dir_all(&folder).expect("a folder for images");
    folder.join(name)
}

pub(crate) fn asked(id: &str, to: Destination) -> v1::SnapshotRequest {
    v1::SnapshotRequest {
        instance_id: id.to_owned(),
        image_id: "copy".to_owned(),
        format: v1::DiskFormat::Qcow2.into(),
        kind: v1::SnapshotKind::Live.into(),
        destination: Some(to),
        ..Default::default()
    }
}

pub(crate) fn file(path: &std::path::Path) -> Destination {
    Destination::Path(path.display().to_string())
}

async fn state(sandbox: &Sandbox, id: &str) -> v1::PowerState {
    let request = v1::GetInfoRequest {
        instance_id: id.to_owned(),
    };
    let info = sandbox.instances().await.get_info(request).await;
    info.expect("the instance is there")
        .into_inner()
        .info
        .expect("info")
        .state()
}

async fn a_guest_boots_from_an_image_made_of_a_running_one(sandbox: &mut Sandbox) {
    let first = guest_request(READY);
    let id = first.instance_id.clone();
    sandbox.spawn(first).await.expect("the first guest boots");
    for (kind, name) in [
        (v1::SnapshotKind::Live, "live.qcow2"),
        (v1::SnapshotKind::Cold, "cold.qcow2"),
    ] {
        let to = place(sandbox, name);
        let request = v1::SnapshotRequest {
            kind: kind.into(),
            ..asked(&id, file(&to))
        };
        let mut phases = Vec::new();
        let made = snapshot(sandbox, request, |event| phases.push(event.phase())).await;
        let made = made.expect("the snapshot is made");
        assert_eq!(made.sha256, sha256(&to));
        assert_eq!(made.size_bytes, std::fs::metadata(&to).unwrap().len());
        assert!(phases.contains(&Phase::Copy), "{phases:?}");
        assert_eq!(state(sandbox, &id).await, v1::PowerState::Running);
    }
    let second = v1::SpawnRequest {
        image: Some(image(&place(sandbox, "live.qcow2"), v1::DiskFormat::Qcow2)),
        ..guest_request(READY)
    };
    let id = second.instance_id.clone();
    std::fs::create_dir_all(sandbox.path().join("import")).unwrap();
    sandbox
        .spawn(second)
        .await
        .expect("a guest boots from the image");
    assert_eq!(state(sandbox, &id).await, v1::PowerState::Running);
}

async fn a_guest_that_is_off_is_copied_and_sent_to_an_image_service(sandbox: &mut Sandbox) {
    let spawned = guest_request("Linux version");
    let id = spawned.instance_id.clone();
    sandbox.spawn(spawned).await.expect("the guest boots");
    let mut off = sandbox
        .instances()
        .await
        .power_off(v1::PowerOffRequest {
            instance_id: id.clone(),
            ..Default::default()
        })
        .await
        .expect("it is powered off")
        .into_inner();
    while off.message().await.expect("it goes off").is_some() {}
    let store = place(sandbox, "received");
    let service = Web::start(Answer::Take(store.clone())).await;
    let upload = |url: String| {
        Destination::Upload(v1::SnapshotUpload {
            url,
            authorization: "Bearer of-secrets".to_owned(),
        })
    };
    let request = asked(&id, upload(service.url()));
    let made = snapshot(sandbox, request, |_| ())
        .await
        .expect("it is taken");
    assert_eq!(made.sha256, sha256(&store));
    assert_eq!(state(sandbox, &id).await, v1::PowerState::Shutdown);
    let absent = Web::start(Answer::Absent).await;
    let refused = snapshot(sandbox, asked(&id, upload(absent.url())), |_| ()).await;
    let refused = refused.expect_err("the service refuses it");
    assert_eq!(refused.code(), Code::Aborted);
    assert_eq!(reason(&refused), "SNAPSHOT_UPLOAD_FAILED");
    assert!(!sandbox.logged().contains("of-secrets"));
}

async fn a_crash_in_the_middle_leaves_the_instance_and_no_image(sandbox: &mut Sandbox) {
    let spawned = guest_request("Linux version");
    let id = spawned.instance_id.clone();
    sandbox.spawn(spawned).await.expect("the guest boots");
    let to = place(sandbox, "cut.qcow2");
    let request = v1::SnapshotRequest {
        kind: v1::SnapshotKind::Cold.into(),
        ..asked(&id, file(&to))
    };
    let mut stream = sandbox
        .instances()
        .await
        .snapshot(request.clone())
        .await
        .expect("it begins")
        .into_inner();
    while let Some(message) = stream.message().await.expect("it goes on") {
        let Some(v1::snapshot_response::Event::Progress(event)) = message.event else {
            continue;
        };
        if event.phase() == Phase::Copy {
            break;
        }
    }
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    assert!(!to.try_exists().unwrap());
    let copy = sandbox
        .path()
        .join("instances")
        .join(&id)
        .join("snapshot.img");
    assert!(!copy.try_exists().unwrap());
    let runs = || async { (state(sandbox, &id).await == v1::PowerState::Running).then_some(()) };
    until("the guest to go on", runs).await;
    snapshot(sandbox, request, |_| ())
        .await
        .expect("a second one is made");
    assert!(to.try_exists().unwrap());
}

async fn a_snapshot_is_refused_where_it_may_not_be_written(sandbox: &mut Sandbox) {
    let spawned = crate::support::request();
    let id = spawned.instance_id.clone();
    sandbox.spawn(spawned).await.expect("the guest starts");
    let taken = place(sandbox, "taken");
    std::fs::write(&taken, b"somebody's").unwrap();
    for (path, code) in [
        ("/etc/computelet-test-image", Code::FailedPrecondition),
        (taken.to_str().unwrap(), Code::AlreadyExists),
        ("relative", Code::InvalidArgument),
    ] {
        let refused = snapshot(
            sandbox,
            asked(&id, Destination::Path(path.to_owned())),
            |_| (),
        )
        .await;
        assert_eq!(refused.expect_err(path).code(), code, "{path}");
    }
    assert_eq!(std::fs::read(&taken).unwrap(), b"somebody's");
}
