//! Copies of disks of guests whose file systems are held still for it.

use std::{io::Read as _, path::Path};

use super::{
    frozen::{BEAT, beat},
    *,
};
use crate::snapshot::{asked, file, place, snapshot};

/// Where the test guest's root file system begins on its disk.
const ROOT: u64 = 25 << 20;

/// Whether an ext4 would have to be mended by its journal: it is whole on the disk when it was frozen.
fn needs_its_journal(image: &Path) -> bool {
    use std::io::Seek as _;
    let mut disk = std::fs::File::open(image).expect("an image");
    let mut superblock = [0; 1024];
    disk.seek(std::io::SeekFrom::Start(ROOT + 1024)).unwrap();
    disk.read_exact(&mut superblock).unwrap();
    assert_eq!(superblock[0x38..0x3a], [0x53, 0xef], "an ext4");
    superblock[0x60] & 4 != 0
}

/// A guest that writes all the time, and whose agent answers.
async fn beating(sandbox: &Sandbox, required: bool) -> String {
    let mut request = scripted(BEAT, "GUEST-BEATS");
    let properties = v1::ImageProperties {
        os_require_quiesce: required.then_some(true),
        ..Default::default()
    };
    request.image.as_mut().unwrap().properties = Some(properties);
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut guests = sandbox.guests().await;
    guests.get_guest_info(of(&id)).await.expect("an agent");
    id
}

fn raw(id: &str, to: &Path, kind: v1::SnapshotKind) -> v1::SnapshotRequest {
    v1::SnapshotRequest {
        format: v1::DiskFormat::Raw.into(),
        kind: kind.into(),
        ..asked(id, file(to))
    }
}

async fn goes_on(sandbox: &Sandbox, id: &str) {
    let before = beat(sandbox, id).await;
    until("a beat", async || {
        (beat(sandbox, id).await > before + 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_guest_that_writes_is_whole_and_the_guest_goes_on() {
    let sandbox = Sandbox::start(&[]).await;
    let id = beating(&sandbox, false).await;
    let torn = place(&sandbox, "torn.img");
    let cold = raw(&id, &torn, v1::SnapshotKind::Cold);
    let made = snapshot(&sandbox, cold, |_| ()).await.unwrap();
    assert!(!made.quiesced);
    assert!(
        needs_its_journal(&torn),
        "it is not what this test takes it for"
    );
    let whole = place(&sandbox, "whole.img");
    let live = raw(&id, &whole, v1::SnapshotKind::Live);
    let mut phases = Vec::new();
    let seen = |event: &v1::OperationProgress| phases.push(event.phase());
    let made = snapshot(&sandbox, live, seen).await.unwrap();
    assert!(made.quiesced);
    assert!(!needs_its_journal(&whole));
    assert!(phases.contains(&v1::Phase::Quiesce), "{phases:?}");
    goes_on(&sandbox, &id).await;
}

#[tokio::test]
async fn an_image_that_requires_it_is_copied_frozen_or_not_at_all() {
    let sandbox = Sandbox::start(&[]).await;
    let id = beating(&sandbox, true).await;
    let whole = place(&sandbox, "whole.img");
    let cold = raw(&id, &whole, v1::SnapshotKind::Cold);
    let made = snapshot(&sandbox, cold, |_| ()).await.unwrap();
    assert!(made.quiesced && !needs_its_journal(&whole));
    goes_on(&sandbox, &id).await;

    let mut silent = crate::support::request();
    let properties = v1::ImageProperties {
        os_require_quiesce: Some(true),
        ..Default::default()
    };
    silent.image.as_mut().unwrap().properties = Some(properties);
    let id = sandbox.spawn(silent).await.unwrap().0.instance_id;
    let to = place(&sandbox, "none.img");
    let live = raw(&id, &to, v1::SnapshotKind::Live);
    let status = snapshot(&sandbox, live, |_| ()).await.unwrap_err();
    assert_eq!(reason(&status), "QUIESCE_FAILED", "{status:?}");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(!to.try_exists().unwrap());
}

#[tokio::test]
async fn a_guest_that_was_frozen_for_a_copy_thaws_when_the_server_is_killed() {
    let mut sandbox = Sandbox::start(&[]).await;
    let id = beating(&sandbox, true).await;
    let to = place(&sandbox, "cut.img");
    // Stopped for the copy, it is frozen all the while.
    let cold = raw(&id, &to, v1::SnapshotKind::Cold);
    let mut instances = sandbox.instances().await;
    let mut stream = instances.snapshot(cold).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.expect("it goes on") {
        if let Some(v1::snapshot_response::Event::Progress(event)) = message.event
            && event.phase() == v1::Phase::Copy
        {
            break;
        }
    }
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    goes_on(&sandbox, &id).await;
    assert!(!to.try_exists().unwrap());
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
