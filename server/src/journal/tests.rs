//! The journal over a whole host of fakes: order, places, lives, and what was missed.

use std::{collections::HashSet, sync::Arc};

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{Action, Destroy},
    hypervisor::{Hypervisor, StartMode, fake::Happening},
    model::{
        About, Entry, EventKind,
        EventKind::{
            Crashed, Created, Destroyed, DeviceAdded, EventsMissed, OperationBegun, OperationEnded,
            Reachable, Rebooted, Started, Stopped, Unreachable, VifPlugged, VifUnplugged,
        },
        InstanceId, OperationState, PowerState,
    },
    testing::{LIMIT, TestHost, ended, key},
    vif::VifError,
};

fn reading(t: &TestHost, after: u64) -> Reading {
    t.host.journal.read(after, None, Filter::default()).unwrap()
}

/// Reads until `last` has been told.
async fn until(reading: &mut Reading, last: EventKind) -> Vec<Arc<Entry>> {
    let mut told: Vec<Arc<Entry>> = Vec::new();
    while told.last().is_none_or(|entry| entry.event.kind != last) {
        let next = tokio::time::timeout(LIMIT, reading.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{last:?} does not come after {told:#?}"));
        told.extend(next.unwrap());
    }
    told
}

fn kinds(told: &[Arc<Entry>]) -> Vec<EventKind> {
    told.iter().map(|entry| entry.event.kind).collect()
}

async fn destroyed(t: &TestHost, instance: InstanceId) {
    let progress = Box::pin(t.operations().begin(key("d"), Destroy { instance })).await;
    let end = ended(progress.unwrap()).await;
    assert_eq!(end.state, OperationState::Succeeded, "{:?}", end.error);
}

#[tokio::test]
async fn a_life_is_told_in_order_under_the_operations_that_made_it() {
    let t = TestHost::new().await;
    let id = t.spawned(t.everything()).await;
    destroyed(&t, id).await;
    let told = until(&mut reading(&t, 0), OperationEnded).await;
    assert_eq!(
        kinds(&told),
        [
            Reachable,
            OperationBegun,
            VifPlugged,
            VifPlugged,
            Started,
            Created,
            OperationEnded,
            OperationBegun,
            Stopped,
            VifUnplugged,
            VifUnplugged,
            Destroyed,
            OperationEnded
        ]
    );
    for (of, told) in [(1, &told[1..7]), (7, &told[7..])] {
        let operation = told[0].event.operation;
        assert!(operation.is_some());
        for entry in told {
            assert_eq!(entry.event.operation, operation, "{of}: {entry:?}");
            assert_eq!(entry.event.instance, Some(id));
        }
    }
    let sequences: Vec<_> = told.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, Vec::from_iter(1..=13));
    let Some(About::Operation(end)) = &told[12].event.about else {
        panic!("{:?}", told[12]);
    };
    assert_eq!(end.state, OperationState::Succeeded);
}

#[tokio::test]
async fn a_spawn_that_fails_is_no_instance_that_came_and_went() {
    let t = TestHost::new().await;
    let broken = crate::hypervisor::HypervisorError::Busy;
    t.fake
        .fail_after("start", crate::hypervisor::fake::Times::Always, broken);
    let spec = t.spec();
    let action = t.spawn(spec).await;
    let progress = Box::pin(t.operations().begin(key("a"), action)).await;
    assert_eq!(ended(progress.unwrap()).await.state, OperationState::Failed);
    let told = until(&mut reading(&t, 0), OperationEnded).await;
    let expected = [Reachable, OperationBegun, Started, Stopped, OperationEnded];
    assert_eq!(kinds(&told), expected);
    assert_eq!(told[4].event.reason.as_deref(), Some("OVERLOADED"));
}

fn vifs(told: &[Arc<Entry>]) -> Vec<(EventKind, String)> {
    let told = told.iter().map(|entry| &entry.event);
    told.filter(|event| matches!(event.kind, VifPlugged | VifUnplugged))
        .map(|event| (event.kind, event.device.clone().unwrap()))
        .collect()
}

/// Each is plugged once, and afterwards unplugged once.
fn assert_pairs(told: &[(EventKind, String)], count: usize) {
    let of = |wanted| {
        let told = told.iter().filter(move |(kind, _)| *kind == wanted);
        let mut devices: Vec<_> = told.map(|(_, device)| device).collect();
        devices.sort();
        devices
    };
    assert_eq!(of(VifPlugged), of(VifUnplugged), "{told:?}");
    assert_eq!(told.len(), count * 2, "{told:?}");
    let begun = told.iter().take(count);
    assert!(begun.into_iter().all(|(kind, _)| *kind == VifPlugged));
}

#[tokio::test]
async fn interfaces_of_a_spawn_that_fails_anywhere_are_told_to_go_as_they_came() {
    let t = TestHost::new().await;
    for nth in 0.. {
        let after = t.host.journal.newest();
        let action = t.spawn(t.everything()).await;
        let mut task = t.task(&action).await.failing_at(nth);
        let ran = action.run(&mut task).await;
        if ran.is_ok() {
            assert!(nth > 6, "it has more steps than {nth}");
            break;
        }
        task.unwind().await.unwrap();
        t.host.journal.flush().await;
        let told = reading(&t, after).next().await.unwrap();
        let told = vifs(&told);
        let plugged = told.len() / 2;
        assert!(plugged == 0 || plugged == 2, "{nth}: {told:?}");
        assert_pairs(&told, plugged);
    }
}

#[tokio::test]
async fn a_destroy_that_is_repeated_tells_once_that_an_interface_went() {
    let t = TestHost::new().await;
    let after = t.host.journal.newest();
    let id = t.spawned(t.everything()).await;
    // The first of its interfaces goes, the second does not.
    let interface = t.host.store.instance(id).unwrap().spec.vifs[1].id.clone();
    t.vifs.fail_unplug(VifError::Unsupported { interface });
    let destroy = Destroy { instance: id };
    for _ in 0..2 {
        let progress = Box::pin(t.operations().begin(key("d"), destroy)).await;
        let end = ended(progress.unwrap()).await;
        assert_eq!(end.state, OperationState::Failed);
    }
    t.vifs.fail_unplug(None);
    destroyed(&t, id).await;
    let told = reading(&t, after).next().await.unwrap();
    assert_eq!(told.last().unwrap().event.kind, OperationEnded);
    assert_pairs(&vifs(&told), 2);
}

#[tokio::test]
async fn a_watcher_goes_on_from_its_place_and_hears_only_what_it_asked_for() {
    let t = TestHost::new().await;
    let (one, other) = (t.spawned(t.spec()).await, t.spawned(t.spec()).await);
    let later = until(&mut reading(&t, 5), OperationEnded).await;
    let sequences: Vec<_> = later.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [6, 7, 8, 9]);
    let filter = Filter {
        instances: HashSet::from([other]),
        kinds: Some(HashSet::from([Crashed, Started])),
    };
    let mut narrow = t.host.journal.read(0, None, filter).unwrap();
    t.fake.emit(one, Happening::Crash);
    t.fake.emit(other, Happening::Crash);
    let told = until(&mut narrow, Crashed).await;
    let told: Vec<_> = told
        .iter()
        .map(|e| (e.event.instance, e.event.kind))
        .collect();
    assert_eq!(told, [(Some(other), Started), (Some(other), Crashed)]);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_stalls_nobody_and_misses_nothing() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let after = t.host.journal.newest();
    let (mut idle, mut quick) = (reading(&t, after), reading(&t, after));
    const MANY: usize = 5000;
    for nth in 0..MANY {
        let event = Event::of(id, DeviceAdded).device(nth.to_string());
        t.fake.tell(id, event);
    }
    t.fake.emit(id, Happening::Reboot);
    assert_eq!(until(&mut quick, Rebooted).await.len(), MANY + 1);
    let late = until(&mut idle, Rebooted).await;
    let devices = late.iter().filter_map(|entry| entry.event.device.clone());
    let expected = (0..MANY).map(|nth| nth.to_string());
    assert!(devices.eq(expected), "all, in order");
}

#[tokio::test]
async fn a_place_that_is_not_here_is_refused() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let journal = &t.host.journal;
    let newest = journal.newest();
    let refused = |after, named| {
        let e = journal.read(after, named, Filter::default()).unwrap_err();
        assert_eq!((e.kind(), e.reason()), (Kind::OutOfRange, "EVENTS_EXPIRED"));
        e.to_string()
    };
    assert!(refused(newest + 1, None).contains("begun anew"));
    assert!(refused(newest, Some(Uuid::new_v4())).contains("of journal"));
    let mut behind = reading(&t, 0);
    let pruned = t.host.store.prune_events(2, FLUSH * 1000).await.unwrap();
    assert_eq!(pruned, newest - 2);
    assert!(refused(newest - 3, None).contains("older than what is kept"));
    let late = behind.next().await.unwrap_err();
    assert!(
        matches!(late, JournalError::Expired { after: 0, .. }),
        "{late}"
    );
    // What is left is told, and the numbers go on.
    let mut kept = reading(&t, newest - 2);
    t.fake.emit(id, Happening::Crash);
    let told = until(&mut kept, Crashed).await;
    assert_eq!(told.last().unwrap().sequence, newest + 1);
}

#[tokio::test]
async fn numbers_go_on_when_all_events_were_forgotten() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let newest = t.host.journal.newest();
    t.host
        .store
        .prune_events(10, std::time::Duration::ZERO)
        .await
        .unwrap();
    let next = t.next_life().await;
    let mut reading = reading(&next, newest);
    next.fake.emit(id, Happening::Crash);
    let told = until(&mut reading, Crashed).await;
    assert_eq!(kinds(&told), [Reachable, Crashed]);
    assert_eq!(told[0].sequence, newest + 1);
    assert_eq!(next.host.journal.id(), t.host.journal.id());
}

#[tokio::test]
async fn what_happened_while_no_server_was_there_is_told_by_the_next() {
    let t = TestHost::new().await;
    let (stopped, same) = (t.spawned(t.spec()).await, t.spawned(t.spec()).await);
    let gone = t.spawned(t.spec()).await;
    let after = t.host.journal.newest();
    t.fake.set_unheard(stopped, PowerState::Shutdown);
    t.fake.set_unheard(gone, PowerState::Shutdown);
    t.fake.undefine(gone).await.unwrap();
    let next = t.next_life().await;
    let mut reading = reading(&next, after);
    next.fake.emit(same, Happening::Crash);
    let told = until(&mut reading, Crashed).await;
    assert_eq!(kinds(&told), [Reachable, Stopped, Stopped, Crashed]);
    let whose: HashSet<_> = told[1..3]
        .iter()
        .map(|e| e.event.instance.unwrap())
        .collect();
    assert_eq!(whose, HashSet::from([stopped, gone]));
    let observed = |entry: &Arc<Entry>| entry.event.reason.as_deref() == Some("OBSERVED");
    assert!(told[1..3].iter().all(observed));
}

#[tokio::test]
async fn a_guest_that_went_is_told_though_the_first_listing_fails() {
    let t = TestHost::new().await;
    let gone = t.spawned(t.spec()).await;
    let after = t.host.journal.newest();
    t.fake.set_unheard(gone, PowerState::Shutdown);
    t.fake.undefine(gone).await.unwrap();
    let busy = crate::hypervisor::HypervisorError::Busy;
    let once = crate::hypervisor::fake::Times::Next(1);
    t.fake.fail("list", once, busy);
    let next = t.next_life().await;
    let told = until(&mut reading(&next, after), Stopped).await;
    assert_eq!(kinds(&told), [Reachable, Stopped]);
    assert_eq!(told[1].event.instance, Some(gone));
}

#[tokio::test]
async fn a_lost_hypervisor_is_told_once_and_what_changed_meanwhile_when_it_is_back() {
    let t = TestHost::new().await;
    let (changed, same) = (t.spawned(t.spec()).await, t.spawned(t.spec()).await);
    let mut reading = reading(&t, t.host.journal.newest());
    t.fake.go_down("gone");
    t.fake.go_down("still gone");
    t.fake.set_unheard(changed, PowerState::Paused);
    t.fake.come_back();
    t.fake.emit(same, Happening::Reboot);
    let told = until(&mut reading, Rebooted).await;
    let told: Vec<_> = told
        .iter()
        .map(|e| (e.event.kind, e.event.instance, e.event.reason.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (Unreachable, None, Some("CONNECTION_LOST")),
            (Reachable, None, Some("RECONNECTED")),
            (EventKind::Paused, Some(changed), Some("OBSERVED")),
            (Rebooted, Some(same), Some("REBOOTED")),
        ]
    );
}

#[tokio::test]
async fn news_that_had_no_room_is_told_to_be_missing() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let mut reading = reading(&t, t.host.journal.newest());
    // The scribe runs on this thread, and does not come to it before there is something to wait for.
    for _ in 0..20_000 {
        t.fake.tell(id, Event::of(id, DeviceAdded));
    }
    t.fake.destroy(id).await.unwrap();
    let told = until(&mut reading, Stopped).await;
    let told = kinds(&told);
    assert!(told.len() < 20_000);
    assert_eq!(told[told.len() - 2..], [EventsMissed, Stopped]);
}

#[tokio::test]
async fn a_guest_that_is_not_in_the_store_is_nobodys_news() {
    let t = TestHost::new().await;
    let domain = crate::domain::Domain::example(InstanceId::random(), crate::model::VirtType::Test);
    t.fake.define(&domain).await.unwrap();
    t.fake.start(domain.id, StartMode::Running).await.unwrap();
    let id = t.spawned(t.spec()).await;
    let told = until(&mut reading(&t, 0), OperationEnded).await;
    let whose = told.iter().filter_map(|entry| entry.event.instance);
    assert_eq!(whose.collect::<HashSet<_>>(), HashSet::from([id]));
}
