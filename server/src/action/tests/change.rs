//! Changes of an instance that is there: each fails at every step, and is done twice.

use std::time::Duration;

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{Patience, Pause, PowerOff, PowerOn, PoweredOff, Unpause},
    hypervisor::fake::Happening,
    model::{OperationRecord, OperationState, PowerState, RequestId, Wanted},
    testing::{LIMIT, ended, key, key_of},
};

/// Longer than any test waits.
const FOR_EVER: Patience = Patience {
    timeout: Duration::from_secs(3600),
    retry_interval: Duration::from_secs(3600),
};
/// What a deaf guest is given.
const SHORT: Patience = Patience {
    timeout: Duration::from_millis(60),
    retry_interval: Duration::from_millis(20),
};

/// Does it to its end, as a caller would.
async fn done<A: Action>(t: &TestHost, action: A) -> OperationRecord {
    let body = format!("{:?}", std::any::type_name::<A>());
    let progress = Box::pin(t.operations().begin(key(&body), action)).await;
    ended(progress.unwrap()).await
}

/// Does it well.
async fn did<A: Action>(t: &TestHost, action: A) -> OperationRecord {
    let end = done(t, action).await;
    assert_eq!(end.state, OperationState::Succeeded, "{:?}", end.error);
    end
}

fn power(t: &TestHost, id: InstanceId) -> PowerState {
    t.fake.snapshot()[&id].state
}

fn wanted(t: &TestHost, id: InstanceId) -> Wanted {
    t.host.store.instance(id).unwrap().wanted
}

/// A host with one instance with everything, beside others.
async fn host_of_one() -> (TestHost, InstanceId) {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    (t, id)
}

/// Fails it at every step, does it, and does it again: the second time is a success that changes nothing and takes no
/// step. Answers with how many steps the first took.
async fn assert_change<A: Action>(t: &TestHost, make: impl Fn() -> A) -> usize {
    let steps = assert_unwinds(t, async |_| make()).await;
    did(t, make()).await;
    let after = t.snapshot().await;
    let mut again = t.task(&make()).await;
    make().run(&mut again).await.unwrap();
    assert_eq!(again.steps(), 0, "what is so already takes no step");
    did(t, make()).await;
    assert_eq!(
        t.snapshot().await,
        after,
        "the second time changed something"
    );
    steps
}

#[tokio::test]
async fn a_pause_and_an_unpause_fail_at_every_step_and_are_done_twice() {
    let (t, instance) = host_of_one().await;
    assert_eq!(assert_change(&t, || Pause { instance }).await, 1);
    assert_eq!(power(&t, instance), PowerState::Paused);
    assert_eq!(wanted(&t, instance), Wanted::Paused);
    assert_eq!(assert_change(&t, || Unpause { instance }).await, 1);
    assert_eq!(power(&t, instance), PowerState::Running);
    assert_eq!(wanted(&t, instance), Wanted::Running);
}

#[tokio::test]
async fn a_power_cut_and_a_power_on_fail_at_every_step_and_are_done_twice() {
    let (t, instance) = host_of_one().await;
    let cut = || PowerOff {
        instance,
        patience: None,
    };
    assert_eq!(assert_change(&t, cut).await, 1);
    assert_eq!(power(&t, instance), PowerState::Shutdown);
    assert_eq!(wanted(&t, instance), Wanted::Off);
    assert_eq!(assert_change(&t, || PowerOn { instance }).await, 3);
    assert_eq!(power(&t, instance), PowerState::Running);
    assert_eq!(wanted(&t, instance), Wanted::Running);
}

#[tokio::test]
async fn a_paused_guest_loses_its_power_and_a_failure_gives_it_back_paused() {
    let (t, instance) = host_of_one().await;
    did(&t, Pause { instance }).await;
    let patience = Some(FOR_EVER);
    let steps = assert_change(&t, || PowerOff { instance, patience }).await;
    assert_eq!(steps, 1, "a guest that does not run is not asked");
}

#[tokio::test]
async fn a_guest_that_obeys_is_not_forced_and_one_that_is_deaf_is() {
    let (t, instance) = host_of_one().await;
    for agent in [false, true] {
        if agent {
            t.fake.emit(instance, Happening::AgentUp);
        }
        let patience = Some(FOR_EVER);
        let end = did(&t, PowerOff { instance, patience }).await;
        assert!(!end.answer::<PoweredOff>().unwrap().forced);
        assert_eq!(power(&t, instance), PowerState::Shutdown);
        did(&t, PowerOn { instance }).await;
    }
    t.fake.deafen(instance);
    let patience = Some(SHORT);
    let end = did(&t, PowerOff { instance, patience }).await;
    assert!(end.answer::<PoweredOff>().unwrap().forced);
    assert_eq!(power(&t, instance), PowerState::Shutdown);
    let asked = t.fake.calls().iter().filter(|c| **c == "shutdown").count();
    assert!(asked > 3, "it is asked again and again: {asked}");
}

#[tokio::test]
async fn a_guest_that_hangs_while_it_is_asked_is_forced_in_time() {
    let (t, instance) = host_of_one().await;
    let hangs = t.fake.hold("shutdown");
    let patience = Some(SHORT);
    let end = did(&t, PowerOff { instance, patience }).await;
    assert!(end.answer::<PoweredOff>().unwrap().forced);
    drop(hangs);
}

#[tokio::test]
async fn a_power_off_that_is_cancelled_in_the_middle_leaves_the_guest_running() {
    let (t, instance) = host_of_one().await;
    let before = t.snapshot().await;
    t.fake.deafen(instance);
    let operations = t.operations();
    let patience = Some(FOR_EVER);
    let begun = operations.begin(key("off"), PowerOff { instance, patience });
    let mut progress = Box::pin(begun).await.unwrap();
    let asking = |progress: &crate::task::Progress| {
        let mut seen = progress.milestones.iter();
        seen.any(|event| event.phase == Phase::Shutdown)
    };
    let asked = progress.wait_for(asking);
    tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
    let id = progress.borrow().record.id;
    operations.cancel(id).await.unwrap();
    assert_eq!(ended(progress).await.state, OperationState::Cancelled);
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_the_first_was() {
    let (t, instance) = host_of_one().await;
    t.fake.deafen(instance);
    let request = RequestId::random();
    let operations = t.operations();
    let patience = Some(SHORT);
    for _ in 0..2 {
        let begun = operations.begin(key_of(request, "off"), PowerOff { instance, patience });
        let end = ended(Box::pin(begun).await.unwrap()).await;
        assert!(end.answer::<PoweredOff>().unwrap().forced);
    }
}

#[tokio::test]
async fn a_change_of_an_instance_in_another_state_is_refused_with_that_state() {
    let (t, instance) = host_of_one().await;
    did(&t, Pause { instance }).await;
    let before = t.snapshot().await;
    let end = done(&t, PowerOn { instance }).await;
    let e = end.error.unwrap();
    assert_eq!(e.reason(), "INSTANCE_STATE");
    assert_eq!(e.fields()["power_state"], "PAUSED");
    assert_eq!(t.snapshot().await, before);
    let absent = InstanceId::random();
    let operations = t.operations();
    let begun = operations.begin(key("x"), Pause { instance: absent });
    let e = Box::pin(begun).await.unwrap_err();
    assert_eq!(e.reason(), "INSTANCE_NOT_FOUND");
}
