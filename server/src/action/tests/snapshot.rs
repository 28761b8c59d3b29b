//! An image is there whole, or nothing is; the instance is as it was either way.

use std::path::PathBuf;

use pretty_assertions::assert_eq;

use super::{assert_taken_back, assert_unwinds, broken, inhabited};
use crate::{
    action::{Action, Destination, Snapshot, Snapshotted},
    domain::Format,
    hypervisor::fake::{Fake, Times},
    model::{InstanceId, Phase},
    testing::TestHost,
};

fn to(t: &TestHost) -> PathBuf {
    t.host.paths.state.join("export/image")
}

pub(super) fn snapshot(t: &TestHost, instance: InstanceId, live: bool) -> Snapshot {
    Snapshot {
        instance,
        to: Destination::File(to(t)),
        format: Format::Raw,
        live,
    }
}

#[tokio::test]
async fn a_snapshot_unwinds_from_every_step() {
    for (live, steps) in [(true, 2), (false, 4)] {
        let t = inhabited().await;
        let id = t.spawned(t.spec()).await;
        let unwound = assert_unwinds(&t, async |t| snapshot(t, id, live)).await;
        assert_eq!(unwound, steps, "live: {live}");
    }
}

#[tokio::test]
async fn a_copy_that_fails_leaves_nothing_and_lets_the_guest_go_on() {
    let t = inhabited().await;
    let id = t.spawned(t.spec()).await;
    let before = t.snapshot().await;
    for call in ["pause", "begin_copy", "copied", "resume"] {
        for fail in [Fake::fail, Fake::fail_after] {
            fail(&t.fake, call, Times::Next(1), broken(call));
            let action = snapshot(&t, id, false);
            let mut task = t.task(&action).await;
            let e = action.run(&mut task).await.unwrap_err();
            assert_eq!(e.reason(), "HYPERVISOR_ERROR", "{call}");
            assert_taken_back(&t, task).await;
            assert_eq!(t.snapshot().await, before, "{call} left something behind");
        }
    }
}

#[tokio::test]
async fn an_image_is_what_the_disk_was_and_nothing_else_is_left() {
    let t = inhabited().await;
    let id = t.spawned(t.spec()).await;
    let action = snapshot(&t, id, true);
    let mut task = t.task(&action).await;
    action.run(&mut task).await.unwrap();
    action.tidy(&t.host).await;
    let image = std::fs::read(to(&t)).unwrap();
    let told: Snapshotted = task.report().record().answer().unwrap();
    assert_eq!(told.size.0, image.len() as u64);
    let mut beside = std::fs::read_dir(t.host.paths.instance(id)).unwrap();
    assert!(beside.all(|file| {
        !file
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("snapshot")
    }));
    // The same place again is somebody's file now.
    let again = snapshot(&t, id, true);
    let e = again.run(&mut t.task(&again).await).await.unwrap_err();
    assert_eq!((e.reason(), e.phase()), ("DISK_EXISTS", None::<Phase>));
    assert_eq!(std::fs::read(to(&t)).unwrap(), image);
}
