//! Rescues and their ends.

use pretty_assertions::assert_eq;
use tokio_util::sync::CancellationToken;

use super::{
    change::{assert_change, did, done, host_of_one, kinds, power},
    *,
};
use crate::{
    action::{PowerOff, PowerOn, Reboot, Rescue, Suspend, Unrescue},
    model::{EventKind, ImageSource, PowerState, Wanted},
    testing::LIMIT,
    upkeep,
};

pub(super) fn rescue_from(instance: InstanceId, image: Option<ImageSource>) -> Rescue {
    Rescue {
        instance,
        image,
        fingerprint: "a request".to_owned(),
    }
}

fn rescue(instance: InstanceId) -> Rescue {
    rescue_from(instance, None)
}

pub(super) fn unrescue(instance: InstanceId) -> Unrescue {
    Unrescue {
        instance,
        by_itself: false,
    }
}

/// The ids of the first two disks that the guest sees.
pub(super) fn seen(t: &TestHost, instance: InstanceId) -> Vec<String> {
    let domain = t.fake.snapshot()[&instance].domain.clone().unwrap();
    let disks = domain.disks.iter().take(2);
    disks.map(|disk| disk.id.to_string()).collect()
}

#[tokio::test]
async fn a_rescue_and_its_end_fail_at_every_step_and_are_done_twice() {
    let (t, instance) = host_of_one().await;
    let before = t.snapshot().await;
    let launched = t.host.store.instance(instance).unwrap().launched;
    // Fetched, made, returned; it goes by itself; plugged, defined, started.
    assert_eq!(assert_change(&t, || rescue(instance)).await, 6);
    let disk = t.host.paths.instance(instance).join("disk.rescue");
    assert!(disk.is_file());
    assert_eq!(seen(&t, instance), ["rescue", "root"]);
    // Returned; it goes by itself; plugged, defined, started.
    assert_eq!(assert_change(&t, || unrescue(instance)).await, 4);
    assert!(!disk.is_file());
    // But for when it was started last, all is as it was.
    let mut record = (*t.host.store.instance(instance).unwrap()).clone();
    record.launched = launched;
    t.host.store.put_instance(record).await.unwrap();
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn an_instance_that_is_off_is_rescued_and_runs_afterwards() {
    let (t, instance) = host_of_one().await;
    let patience = None;
    did(&t, PowerOff { instance, patience }).await;
    assert_eq!(assert_change(&t, || rescue(instance)).await, 6);
    assert_eq!(power(&t, instance), PowerState::Running);
    did(&t, PowerOff { instance, patience }).await;
    assert_eq!(assert_change(&t, || unrescue(instance)).await, 4);
    assert_eq!(power(&t, instance), PowerState::Running);
}

#[tokio::test]
async fn a_rescued_instance_stays_so_through_changes_of_its_power() {
    let (t, instance) = host_of_one().await;
    did(&t, rescue(instance)).await;
    let e = done(&t, Suspend { instance }).await.error.unwrap();
    assert_eq!(e.reason(), "INSTANCE_STATE");
    let patience = None;
    did(&t, Reboot { instance, patience }).await;
    assert_eq!(seen(&t, instance), ["rescue", "root"]);
    did(&t, PowerOff { instance, patience }).await;
    did(&t, PowerOn { instance }).await;
    assert_eq!(seen(&t, instance), ["rescue", "root"]);
    let other = Rescue {
        fingerprint: "another request".to_owned(),
        ..rescue(instance)
    };
    let e = done(&t, other).await.error.unwrap();
    assert_eq!(e.reason(), "INSTANCE_STATE");
}

#[tokio::test]
async fn neither_a_rescue_nor_its_end_is_told_as_a_stop() {
    let (t, instance) = host_of_one().await;
    let before = kinds(&t).await.len();
    did(&t, rescue(instance)).await;
    did(&t, unrescue(instance)).await;
    use EventKind::{OperationBegun, OperationEnded, Rescued, Unrescued};
    let told = [
        [OperationBegun, Rescued, OperationEnded],
        [OperationBegun, Unrescued, OperationEnded],
    ];
    assert_eq!(kinds(&t).await[before..], told.concat());
}

#[tokio::test]
async fn a_rescue_image_of_its_own_is_kept_as_long_as_it_is_used() {
    let (t, instance) = host_of_one().await;
    let image = || {
        Some(ImageSource {
            file: t.file("rescue.raw", &[7; 1 << 20]),
            format: DiskFormat::Raw,
        })
    };
    assert_unwinds(&t, async |_| rescue_from(instance, image())).await;
    did(&t, rescue_from(instance, image())).await;
    let used = async |t: &TestHost| {
        let images = t.host.images.list().await.unwrap();
        let used = images.iter();
        let used = used.filter(|one| one.instances.contains(&instance));
        used.count()
    };
    let with = used(&t).await;
    let next = t.next_life().await;
    assert_eq!(used(&next).await, with, "pinned again after a restart");
    did(&t, unrescue(instance)).await;
    assert_eq!(used(&t).await, with - 1);
}

/// Lets upkeep end the rescue of an instance, which is over.
async fn over(t: &TestHost, instance: InstanceId) {
    let ends = upkeep::end_rescues(t.host.clone(), t.operations(), CancellationToken::new());
    let over = async {
        while t.host.store.instance(instance).unwrap().rescue.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = ends => unreachable!(),
        ended = tokio::time::timeout(LIMIT, over) => ended.unwrap(),
    }
}

/// As if its time was over.
async fn ages(t: &TestHost, instance: InstanceId) {
    let mut record = (*t.host.store.instance(instance).unwrap()).clone();
    let rescue = record.rescue.as_mut().unwrap();
    rescue.until = Some(rescue.since);
    t.host.store.put_instance(record).await.unwrap();
}

#[tokio::test]
async fn a_rescue_whose_time_is_over_ends_by_itself_also_after_a_restart() {
    let (t, instance) = host_of_one().await;
    did(&t, rescue(instance)).await;
    ages(&t, instance).await;
    let next = t.next_life().await;
    over(&next, instance).await;
    assert_eq!(power(&next, instance), PowerState::Running);
}

#[tokio::test]
async fn a_rescue_that_ends_by_itself_does_not_start_what_its_owner_has_switched_off() {
    let (t, instance) = host_of_one().await;
    did(&t, rescue(instance)).await;
    let patience = None;
    did(&t, PowerOff { instance, patience }).await;
    ages(&t, instance).await;
    over(&t, instance).await;
    assert_eq!(power(&t, instance), PowerState::Shutdown);
    let record = t.host.store.instance(instance).unwrap();
    assert_eq!(record.wanted, Wanted::Off);
    assert_eq!(seen(&t, instance)[0], "root");
}

#[tokio::test]
async fn a_rescue_that_a_crash_cuts_is_taken_back_and_leaves_no_disk() {
    let (t, instance) = host_of_one().await;
    let before = t.snapshot().await;
    for nth in 0..6 {
        let action = rescue(instance);
        let mut task = t.task(&action).await.failing_at(nth);
        action.run(&mut task).await.unwrap_err();
        let next = t.next_life().await;
        crate::recover::run(&next.host).await.unwrap();
        assert_eq!(next.snapshot().await, before, "cut at step {nth}");
    }
    // Cut between its end and the removal of its disk.
    did(&t, rescue(instance)).await;
    did(&t, unrescue(instance)).await;
    let disk = t.host.paths.instance(instance).join("disk.rescue");
    std::fs::write(&disk, "left over").unwrap();
    let next = t.next_life().await;
    crate::recover::run(&next.host).await.unwrap();
    assert!(!disk.is_file());
}

#[tokio::test]
async fn a_rescued_instance_that_is_destroyed_leaves_nothing() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    let instance = t.spawned(t.everything()).await;
    did(&t, rescue(instance)).await;
    did(&t, Destroy { instance }).await;
    assert_eq!(t.snapshot().await, before);
}
