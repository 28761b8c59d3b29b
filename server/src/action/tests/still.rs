//! A copy of a disk holds the guest's file systems still no longer than it must, and whatever fails, they thaw.

use std::time::{Duration, SystemTime};

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{Destination, Snapshot, Snapshotted},
    domain::Format,
    hypervisor::fake::Happening,
    store::Quiesced,
};

/// A guest with an agent, whose image may require that it is frozen for copies.
async fn guest(t: &TestHost, required: bool) -> InstanceId {
    let mut spec = t.spec();
    spec.properties.require_quiesce = required;
    let id = t.spawned(spec).await;
    t.fake.emit(id, Happening::AgentUp);
    id
}

fn copy(t: &TestHost, instance: InstanceId, live: bool) -> Snapshot {
    Snapshot {
        instance,
        to: Destination::File(t.host.paths.state.join("export/image")),
        format: Format::Raw,
        live,
    }
}

/// Whether the copy that is made says that the guest was frozen.
async fn copied(t: &TestHost, id: InstanceId, live: bool) -> bool {
    let action = copy(t, id, live);
    let mut task = t.task(&action).await;
    action.run(&mut task).await.unwrap();
    let told: Snapshotted = task.report().record().answer().unwrap();
    told.quiesced
}

fn assert_thawed(t: &TestHost, id: InstanceId) {
    assert!(!t.fake.inside(id, |inside| inside.frozen));
    assert!(t.host.store.quiesced().borrow().is_empty());
}

/// Those of `names` that were called, in order.
fn order(t: &TestHost, names: &[&'static str]) -> Vec<&'static str> {
    let calls = t.fake.calls().into_iter();
    calls.filter(|call| names.contains(call)).collect()
}

#[tokio::test]
async fn a_copy_of_a_frozen_guest_unwinds_from_every_step() {
    for (live, steps) in [(true, 3), (false, 5)] {
        let t = inhabited().await;
        let id = guest(&t, !live).await;
        let unwound = assert_unwinds(&t, async |t| {
            assert_thawed(t, id);
            copy(t, id, live)
        });
        assert_eq!(unwound.await, steps, "live: {live}");
        assert_thawed(&t, id);
    }
}

#[tokio::test]
async fn a_guest_goes_on_as_soon_as_its_copy_has_begun() {
    let t = inhabited().await;
    let id = guest(&t, false).await;
    assert!(copied(&t, id, true).await);
    let told = order(&t, &["freeze", "begin_copy", "thaw", "copied"]);
    assert_eq!(told, ["freeze", "begin_copy", "thaw", "copied"]);
    assert_thawed(&t, id);
}

#[tokio::test]
async fn a_guest_that_is_stopped_for_its_copy_is_frozen_before_and_thawed_after() {
    let t = inhabited().await;
    let id = guest(&t, true).await;
    assert!(copied(&t, id, false).await);
    let told = order(&t, &["freeze", "pause", "begin_copy", "resume", "thaw"]);
    assert_eq!(told, ["freeze", "pause", "begin_copy", "resume", "thaw"]);
    assert_thawed(&t, id);
}

#[tokio::test]
async fn a_guest_that_need_not_be_frozen_is_copied_as_it_is_when_it_cannot_be() {
    let t = inhabited().await;
    let id = guest(&t, false).await;
    let failure = HypervisorError::AgentTimeout(id);
    t.fake.fail_after("freeze", Times::Next(1), failure);
    assert!(!copied(&t, id, true).await);
    assert_thawed(&t, id);
    let without = t.spawned(t.spec()).await;
    std::fs::remove_file(t.host.paths.state.join("export/image")).unwrap();
    assert!(!copied(&t, without, true).await);
    assert_eq!(order(&t, &["freeze"]).len(), 1, "nobody is there to ask");
}

#[tokio::test]
async fn no_copy_is_made_of_a_guest_that_must_be_frozen_and_cannot_be() {
    let t = inhabited().await;
    let id = guest(&t, true).await;
    let before = t.snapshot().await;
    let message = "no".to_owned();
    let said_no = HypervisorError::AgentFailed { guest: id, message };
    for failure in [
        said_no,
        HypervisorError::AgentTimeout(id),
        HypervisorError::Agent(id),
    ] {
        for live in [true, false] {
            t.fake.fail("freeze", Times::Next(1), failure.clone());
            let action = copy(&t, id, live);
            let mut task = t.task(&action).await;
            let e = action.run(&mut task).await.unwrap_err();
            let told = (e.reason(), e.phase());
            assert_eq!(told, ("QUIESCE_FAILED", Some(Phase::Quiesce)), "{e}");
            assert_taken_back(&t, task).await;
            assert_eq!(t.snapshot().await, before);
            assert_thawed(&t, id);
        }
    }
    t.host.hypervisor.pause(id).await.unwrap();
    let action = copy(&t, id, true);
    let e = action.run(&mut t.task(&action).await).await.unwrap_err();
    assert_eq!(e.reason(), "QUIESCE_FAILED", "paused, its agent cannot");
}

#[tokio::test]
async fn a_guest_that_its_caller_has_frozen_stays_so() {
    let t = inhabited().await;
    let id = guest(&t, true).await;
    t.host.hypervisor.freeze(id).await.unwrap();
    let known = Quiesced {
        until: SystemTime::now() + Duration::from_secs(600),
        filesystems: 1,
    };
    t.host.store.put_quiesced(id, known).await.unwrap();
    assert!(copied(&t, id, true).await);
    assert!(t.fake.inside(id, |inside| inside.frozen));
    assert_eq!(t.host.store.quiesced().borrow()[&id], known);
}

#[tokio::test]
async fn a_copy_that_begins_when_the_time_of_a_freeze_is_over_is_not_called_frozen() {
    let t = inhabited().await;
    let id = guest(&t, true).await;
    let mut gate = t.fake.hold("begin_copy");
    let action = copy(&t, id, true);
    let mut task = t.task(&action).await;
    let late = async {
        gate.reached().await;
        t.host.store.remove_quiesced(id).await.unwrap();
        drop(gate);
    };
    let (ended, ()) = tokio::join!(action.run(&mut task), late);
    assert_eq!(ended.unwrap_err().reason(), "QUIESCE_FAILED");
    assert_taken_back(&t, task).await;
}
