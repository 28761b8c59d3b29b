//! What could not be taken back, and came to be right meanwhile.

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{Destroy, TriggerCrashDump, Unpause},
    hypervisor::HypervisorError,
};

async fn done(t: &TestHost, action: impl Action) -> OperationRecord {
    let begun = Box::pin(t.operations().begin(key("a"), action)).await;
    ended(begun.unwrap()).await
}

async fn power(t: &TestHost, id: InstanceId) -> PowerState {
    t.host.hypervisor.info(id).await.unwrap().state
}

/// An instance whose guest was paused by a change that failed, and could not be let go again.
async fn owing(t: &TestHost) -> InstanceId {
    let broken = |call| HypervisorError::Failed {
        call,
        message: "out of luck".to_owned(),
        code: 1,
        domain: 10,
    };
    let instance = t.spawned(t.spec()).await;
    t.fake.fail_after("pause", Times::Next(1), broken("pause"));
    t.fake.fail("resume", Times::Always, broken("resume"));
    let e = done(t, Pause { instance }).await.error.unwrap();
    assert!(e.fields().contains_key("undo_failed"), "{e:?}");
    assert_eq!(power(t, instance).await, PowerState::Paused);
    instance
}

#[tokio::test]
async fn what_is_owed_is_taken_back_before_the_next_change() {
    let t = TestHost::new().await;
    let instance = owing(&t).await;
    t.fake.heal();
    let next = done(&t, TriggerCrashDump { instance }).await;
    assert_eq!(next.state, OperationState::Succeeded, "{:?}", next.error);
    assert_eq!(power(&t, instance).await, PowerState::Running);
    assert_eq!(t.host.store.owed(instance).await.unwrap(), []);
    assert!(t.host.store.half_changed().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_that_went_well_is_not_undone_by_what_an_earlier_one_owes() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let instance = owing(&t).await;
    let pause = done(&t, Pause { instance }).await;
    assert_eq!(pause.state, OperationState::Succeeded, "{:?}", pause.error);
    t.fake.heal();
    let next = recovered(&t).await;
    assert_eq!(power(&next, instance).await, PowerState::Paused);
    assert_eq!(next.host.store.unsettled().await.unwrap(), []);
    let kept = next.host.store.half_changed().await.unwrap();
    assert!(
        kept.contains(&instance),
        "nothing of its way back is tidied away"
    );
    done(&next, Destroy { instance }).await;
    assert!(next.host.store.half_changed().await.unwrap().is_empty());
    assert_eq!(next.snapshot().await, before);
}

#[tokio::test]
async fn what_is_owed_stays_owed_while_changes_fail() {
    let t = TestHost::new().await;
    let instance = owing(&t).await;
    let unpause = done(&t, Unpause { instance }).await;
    assert_eq!(unpause.state, OperationState::Failed);
    assert_eq!(t.host.store.owed(instance).await.unwrap().len(), 1);
    t.fake.heal();
    let next = recovered(&t).await;
    assert_eq!(power(&next, instance).await, PowerState::Running);
    assert!(next.host.store.half_changed().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_later_change_that_is_finished_at_the_start_makes_stale_is_kept_and_not_taken_back()
{
    let t = TestHost::new().await;
    let instance = owing(&t).await;
    let action = attach(&t, instance);
    let mut task = t.task(&action).await.failing_at(1);
    action.run(&mut task).await.unwrap_err();
    let later = task.report().record().id;
    t.fake.heal();
    let next = recovered(&t).await;
    assert_eq!(record(&next, later).await.state, OperationState::Succeeded);
    assert_eq!(power(&next, instance).await, PowerState::Paused);
    let kept = next.host.store.half_changed().await.unwrap();
    assert!(kept.contains(&instance), "its way back is not tidied away");
}
