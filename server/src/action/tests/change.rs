//! Changes of an instance that is there: each fails at every step, and is done twice.

use std::time::Duration;

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{
        BringBack, Patience, Pause, PowerOff, PowerOn, PoweredOff, Reboot, Resume, Suspend,
        TriggerCrashDump, Unpause,
    },
    hypervisor::{Hypervisor, StartMode, fake::Happening},
    model::{EventKind, OperationRecord, OperationState, PowerState, RequestId, Wanted},
    testing::{LIMIT, ended, key, key_of},
};

/// Longer than any test waits.
pub(super) const FOR_EVER: Patience = Patience {
    timeout: Duration::from_secs(3600),
    retry_interval: Duration::from_secs(3600),
};
/// What a deaf guest is given.
const SHORT: Patience = Patience {
    timeout: Duration::from_millis(60),
    retry_interval: Duration::from_millis(20),
};

/// Does it to its end, as a caller would.
pub(super) async fn done<A: Action>(t: &TestHost, action: A) -> OperationRecord {
    let body = format!("{:?}", std::any::type_name::<A>());
    let progress = Box::pin(t.operations().begin(key(&body), action)).await;
    ended(progress.unwrap()).await
}

/// Does it well.
pub(super) async fn did<A: Action>(t: &TestHost, action: A) -> OperationRecord {
    let end = done(t, action).await;
    assert_eq!(end.state, OperationState::Succeeded, "{:?}", end.error);
    end
}

pub(super) fn power(t: &TestHost, id: InstanceId) -> PowerState {
    t.fake.snapshot()[&id].state
}

fn wanted(t: &TestHost, id: InstanceId) -> Wanted {
    t.host.store.instance(id).unwrap().wanted
}

/// A host with one instance with everything, beside others.
pub(super) async fn host_of_one() -> (TestHost, InstanceId) {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    (t, id)
}

/// Fails it at every step, does it, and does it again: the second time is a success that changes nothing and takes no
/// step. Answers with how many steps the first took.
pub(super) async fn assert_change<A: Action>(t: &TestHost, make: impl Fn() -> A) -> usize {
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

/// Kinds of all events so far.
pub(super) async fn kinds(t: &TestHost) -> Vec<EventKind> {
    t.host.journal.flush().await;
    let told = t.host.store.events(0, 10_000).await.unwrap();
    told.iter().map(|entry| entry.event.kind).collect()
}

#[tokio::test]
async fn a_reboot_fails_at_every_step_from_every_state() {
    let (t, instance) = host_of_one().await;
    let hard = || Reboot {
        instance,
        patience: None,
    };
    let soft = || Reboot {
        instance,
        patience: Some(FOR_EVER),
    };
    // Returned, stopped, plugged, defined, started.
    assert_eq!(assert_unwinds(&t, async |_| hard()).await, 5);
    assert_eq!(assert_unwinds(&t, async |_| soft()).await, 4);
    did(&t, Pause { instance }).await;
    assert_eq!(assert_unwinds(&t, async |_| soft()).await, 5);
    did(&t, hard()).await;
    assert_eq!(power(&t, instance), PowerState::Running);
    let patience = None;
    did(&t, PowerOff { instance, patience }).await;
    assert_eq!(assert_unwinds(&t, async |_| soft()).await, 4);
    did(&t, soft()).await;
    assert_eq!(power(&t, instance), PowerState::Running);
    assert_eq!(wanted(&t, instance), Wanted::Running);
    did(&t, Suspend { instance }).await;
    let e = done(&t, hard()).await.error.unwrap();
    assert_eq!(e.reason(), "INSTANCE_STATE");
}

#[tokio::test]
async fn a_reboot_is_never_told_as_a_stop() {
    let (t, instance) = host_of_one().await;
    let before = kinds(&t).await.len();
    for patience in [None, Some(FOR_EVER), Some(SHORT)] {
        if patience == Some(SHORT) {
            t.fake.deafen(instance);
        }
        did(&t, Reboot { instance, patience }).await;
    }
    use EventKind::{OperationBegun, OperationEnded, Rebooted};
    let one = [OperationBegun, Rebooted, OperationEnded];
    assert_eq!(kinds(&t).await[before..], one.repeat(3));
}

#[tokio::test]
async fn a_reboot_that_cannot_bring_the_guest_back_says_that_it_is_off() {
    let (t, instance) = host_of_one().await;
    let before = kinds(&t).await.len();
    t.fake.fail("start", Times::Always, broken("start"));
    let patience = None;
    done(&t, Reboot { instance, patience }).await;
    t.fake.heal();
    assert_eq!(power(&t, instance), PowerState::Shutdown);
    let told = kinds(&t).await.split_off(before);
    assert!(told.contains(&EventKind::Stopped), "{told:?}");
    assert!(!told.contains(&EventKind::Rebooted), "{told:?}");
}

#[tokio::test]
async fn a_suspend_and_a_resume_fail_at_every_step_and_are_done_twice() {
    let (t, instance) = host_of_one().await;
    for paused in [false, true] {
        if paused {
            did(&t, Pause { instance }).await;
        }
        assert_eq!(assert_change(&t, || Suspend { instance }).await, 1);
        assert_eq!(power(&t, instance), PowerState::Suspended);
        assert_eq!(wanted(&t, instance), Wanted::Suspended);
        assert_eq!(assert_change(&t, || Resume { instance }).await, 2);
        assert_eq!(power(&t, instance), PowerState::Running);
        assert_eq!(wanted(&t, instance), Wanted::Running);
    }
}

#[tokio::test]
async fn a_suspended_instance_that_is_powered_off_has_no_memory_left() {
    let (t, instance) = host_of_one().await;
    did(&t, Suspend { instance }).await;
    let before = t.snapshot().await;
    let patience = Some(FOR_EVER);
    let off = PowerOff { instance, patience };
    // A failure before its memory goes, or in the begin of that, changes nothing.
    for (call, error) in [
        ("destroy", broken("destroy")),
        ("discard", broken("discard")),
    ] {
        t.fake.fail(call, Times::Next(1), error);
        assert_eq!(done(&t, off).await.state, OperationState::Failed);
        assert_eq!(t.snapshot().await, before, "{call} changed something");
    }
    // Memory that is gone is not there, whatever was told of that.
    t.fake
        .fail_after("discard", Times::Next(1), broken("discard"));
    assert_eq!(done(&t, off).await.state, OperationState::Failed);
    let stands = (power(&t, instance), wanted(&t, instance));
    assert_eq!(stands, (PowerState::Shutdown, Wanted::Off));
    did(&t, PowerOn { instance }).await;
    did(&t, Suspend { instance }).await;
    for _ in 0..2 {
        did(&t, off).await;
        let stands = (power(&t, instance), wanted(&t, instance));
        assert_eq!(stands, (PowerState::Shutdown, Wanted::Off));
    }
    did(&t, PowerOn { instance }).await;
    did(&t, Suspend { instance }).await;
    let destroyed = Destroy { instance };
    did(&t, destroyed).await;
    assert!(!t.fake.snapshot().contains_key(&instance));
}

#[tokio::test]
async fn memory_that_a_crash_cut_from_being_discarded_goes_and_its_instance_is_off() {
    let (t, instance) = host_of_one().await;
    did(&t, Suspend { instance }).await;
    let patience = None;
    let off = PowerOff { instance, patience };
    let mut cut = t.task(&off).await.failing_at(1);
    off.run(&mut cut).await.unwrap_err();
    let operation = cut.report().record().id;
    let next = t.next_life().await;
    crate::recover::run(&next.host).await.unwrap();
    let ended = next.host.store.operation(operation).await.unwrap().unwrap();
    assert_eq!(ended.state, OperationState::Succeeded);
    assert!(ended.answer::<PoweredOff>().unwrap().forced);
    let stands = (power(&next, instance), wanted(&next, instance));
    assert_eq!(stands, (PowerState::Shutdown, Wanted::Off));
    did(&next, PowerOn { instance }).await;
}

#[tokio::test]
async fn a_suspend_that_is_cancelled_has_the_guest_run_on() {
    let (t, instance) = host_of_one().await;
    let before = t.snapshot().await;
    let saves = t.fake.hold("save");
    let operations = t.operations();
    let begun = operations.begin(key("s"), Suspend { instance });
    let mut progress = Box::pin(begun).await.unwrap();
    let far = |progress: &crate::task::Progress| {
        let mut told = progress.advance.iter();
        told.any(|event| event.amount.is_some())
    };
    let told = progress.wait_for(far);
    tokio::time::timeout(LIMIT, told).await.unwrap().unwrap();
    let id = progress.borrow().record.id;
    operations.cancel(id).await.unwrap();
    let stopped = || async { t.fake.calls().contains(&"stop_saving").then_some(()) };
    while stopped().await.is_none() {
        tokio::task::yield_now().await;
    }
    t.fake.fail("save", Times::Next(1), broken("save"));
    drop(saves);
    assert_eq!(ended(progress).await.state, OperationState::Cancelled);
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_save_that_gets_nowhere_ends_and_the_guest_runs_on() {
    let (t, instance) = host_of_one().await;
    let before = t.snapshot().await;
    let saves = t.fake.hold("save");
    let suspend = Suspend { instance };
    let mut task = t.task(&suspend).await;
    tokio::time::pause();
    let e = suspend.run(&mut task).await.unwrap_err();
    tokio::time::resume();
    assert_eq!(e.reason(), "HYPERVISOR_TIMEOUT");
    drop(saves);
    task.unwind().await.unwrap();
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_disk_that_is_full_fails_a_suspend_by_name() {
    let (t, instance) = host_of_one().await;
    let before = t.snapshot().await;
    let full = HypervisorError::Failed {
        call: "virDomainManagedSave",
        message: "Failed to write: No space left on device".to_owned(),
        code: 38,
        domain: 0,
    };
    t.fake.fail("save", Times::Next(1), full);
    let e = done(&t, Suspend { instance }).await.error.unwrap();
    assert_eq!(e.reason(), "HOST_DISK_FULL");
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_guest_that_switched_itself_off_is_wanted_off_and_one_that_crashed_is_not() {
    let (t, instance) = host_of_one().await;
    t.fake.emit(instance, Happening::Crash);
    t.host.journal.flush().await;
    assert_eq!(wanted(&t, instance), Wanted::Running);
    did(&t, PowerOn { instance }).await;
    t.fake.emit(instance, Happening::PowerOff);
    t.host.journal.flush().await;
    assert_eq!(wanted(&t, instance), Wanted::Off);
    let next = t.next_life().await;
    assert_eq!(wanted(&next, instance), Wanted::Off, "it is written down");
}

#[tokio::test]
async fn what_should_run_is_brought_back_as_its_owner_wants_it() {
    let (t, instance) = host_of_one().await;
    for (wants, stands) in [
        (Wanted::Running, PowerState::Running),
        (Wanted::Paused, PowerState::Paused),
        (Wanted::Off, PowerState::Shutdown),
    ] {
        t.fake.set_unheard(instance, PowerState::Shutdown);
        let record = t.host.store.instance(instance).unwrap().wanting(wants);
        t.host.store.put_instance(record).await.unwrap();
        let steps = assert_unwinds(&t, async |_| BringBack { instance }).await;
        assert_eq!(steps, if wants == Wanted::Off { 0 } else { 3 });
        did(&t, BringBack { instance }).await;
        assert_eq!((power(&t, instance), wanted(&t, instance)), (stands, wants));
    }
}

#[tokio::test]
async fn one_that_cannot_be_brought_back_holds_up_nobody() {
    let (t, instance) = host_of_one().await;
    let lost = t.spawned(t.everything()).await;
    let suspended = t.spawned(t.spec()).await;
    did(
        &t,
        Suspend {
            instance: suspended,
        },
    )
    .await;
    let next = t.next_life().await;
    for id in [instance, lost] {
        next.fake.set_unheard(id, PowerState::Shutdown);
    }
    // Its interfaces cannot be planned any more: the flavor asks for what this host does not honour.
    let mut record = (*next.host.store.instance(lost).unwrap()).clone();
    let extra = &mut record.spec.flavor.extra_specs;
    extra.insert("hw:not_known".to_owned(), "1".to_owned());
    next.host.store.put_instance(record).await.unwrap();
    crate::recover::bring_back(&next.host, &next.operations()).await;
    assert_eq!(power(&next, instance), PowerState::Running);
    assert_eq!(power(&next, lost), PowerState::Shutdown);
    assert_eq!(power(&next, suspended), PowerState::Suspended);
}

#[tokio::test]
async fn an_interrupt_goes_to_a_guest_that_is_on_only() {
    let (t, instance) = host_of_one().await;
    did(&t, TriggerCrashDump { instance }).await;
    assert!(t.fake.calls().contains(&"interrupt"));
    t.fake.destroy(instance).await.unwrap();
    let e = done(&t, TriggerCrashDump { instance }).await.error.unwrap();
    assert_eq!(e.reason(), "INSTANCE_STATE");
    t.fake.start(instance, StartMode::Paused).await.unwrap();
    did(&t, TriggerCrashDump { instance }).await;
}
