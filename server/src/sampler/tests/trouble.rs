//! Guests that hang, start anew and go; hypervisors that go away or do not answer.

use super::{Groups, Health, Hypervisor, InstanceId, Lab, Listener, PowerState, SECOND, StartMode};
use super::{entry, ids, next, spans};

async fn health(listener: &mut Listener, id: InstanceId) -> Health {
    entry(&next(listener).await, id).health(listener.groups())
}

#[tokio::test]
async fn a_stuck_guest_turns_stale_and_stalls_nobody() {
    let lab = Lab::new().await;
    let (stuck, well) = (lab.guest().await, lab.guest().await);
    let mut block = lab.listen(Groups::BLOCK, 1);
    let mut cheap = lab.listen(Groups::CPU, 1);
    assert_eq!(health(&mut block, stuck).await, Health::Measured);
    next(&mut cheap).await;

    lab.test.fake.counted().hang(stuck);
    let begun = tokio::time::Instant::now();
    let cheap_at = next(&mut cheap).await;
    assert!(
        begun.elapsed() < SECOND + SECOND / 10,
        "cheap counters wait for nobody"
    );
    assert_eq!(
        entry(&cheap_at, stuck).health(Groups::CPU),
        Health::Measured
    );

    let skipped = next(&mut block).await;
    let Health::Skipped { since } = entry(&skipped, stuck).health(Groups::BLOCK) else {
        panic!("{:?}", entry(&skipped, stuck));
    };
    assert_eq!(since, skipped.sample.time);
    assert_eq!(entry(&skipped, stuck).disks, []);
    for value in 1..5 {
        lab.count(well, 1, value);
        let batch = next(&mut block).await;
        let seen = entry(&batch, stuck);
        assert_eq!(seen.health(Groups::BLOCK), Health::Stale { since });
        assert_eq!(seen.disks, []);
        let seen = entry(&batch, well);
        assert_eq!(seen.health(Groups::BLOCK), Health::Measured);
        assert_eq!(seen.disks[0].1.rd_bytes, Some(value));
        assert_eq!(spans(&batch), SECOND);
        // That it is stale was told once.
        assert_eq!(ids(&batch, Groups::BLOCK).contains(&stuck), value == 1);
    }
    let figures = lab.sampler.figures();
    assert_eq!((figures.measured, figures.stale), (1, 1));

    lab.test.fake.counted().unhang(stuck);
    assert_eq!(health(&mut block, stuck).await, Health::Measured);
}

#[tokio::test]
async fn a_guest_that_hangs_is_asked_once_however_often_it_is_measured() {
    let lab = Lab::new().await;
    let stuck = lab.guest().await;
    lab.test.fake.counted().hang(stuck);
    let mut block = lab.listen(Groups::BLOCK, 1);
    for _ in 0..10 {
        next(&mut block).await;
    }
    assert_eq!(lab.asked("monitor_counters"), 1);
}

#[tokio::test]
async fn guests_that_hang_take_no_slot_from_others() {
    let lab = Lab::new().await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        stuck.push(lab.guest().await);
    }
    let well = lab.guest().await;
    for id in &stuck {
        lab.test.fake.counted().hang(*id);
    }
    let mut block = lab.listen(Groups::BLOCK, 10);
    assert_eq!(health(&mut block, well).await, Health::Measured);
}

#[tokio::test]
async fn an_answer_that_comes_late_counts_next_time() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut block = lab.listen(Groups::BLOCK, 10);
    next(&mut block).await;
    lab.test.fake.counted().hang(id);
    assert!(matches!(
        health(&mut block, id).await,
        Health::Skipped { .. }
    ));
    lab.count(id, 1, 9);
    lab.test.fake.counted().unhang(id);
    tokio::time::sleep(SECOND).await;
    // It hangs again at once; what it said between counts.
    lab.test.fake.counted().hang(id);
    let batch = next(&mut block).await;
    assert_eq!(entry(&batch, id).health(Groups::BLOCK), Health::Measured);
    assert_eq!(entry(&batch, id).disks[0].1.rd_bytes, Some(9));
}

#[tokio::test]
async fn without_the_hypervisor_all_are_stale_and_none_is_gone() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listener = lab.listen(Groups::all(), 1);
    assert_eq!(health(&mut listener, id).await, Health::Measured);
    lab.test.fake.go_down("the daemon is being restarted");
    let down = next(&mut listener).await;
    let since = down.sample.time;
    for batch in [down, next(&mut listener).await] {
        let seen = entry(&batch, id);
        assert_eq!(seen.health(Groups::all()), Health::Stale { since });
        assert_eq!(seen.state, PowerState::Unknown);
        assert_eq!((seen.cpu_time_ns, seen.disks.len()), (None, 0));
        assert_eq!(batch.gone().count(), 0);
    }
    let asked = lab.asked("host_counters");
    lab.test.fake.come_back();
    let up = next(&mut listener).await;
    let seen = entry(&up, id);
    assert_eq!(seen.health(Groups::all()), Health::Measured);
    assert_eq!(seen.cpu_time_ns, Some(0));
    assert!(!up.reset(seen), "the guest ran all the time");
    assert_eq!(lab.asked("host_counters"), asked + 1);
}

#[tokio::test]
async fn a_hypervisor_that_does_not_answer_is_not_asked_again() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listener = lab.listen(Groups::CPU, 1);
    next(&mut listener).await;
    let gate = lab.test.fake.hold("host_counters");
    let skipped = next(&mut listener).await;
    assert!(matches!(
        entry(&skipped, id).health(Groups::CPU),
        Health::Skipped { .. }
    ));
    assert!(matches!(
        health(&mut listener, id).await,
        Health::Stale { .. }
    ));
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        next(&mut listener).await;
    }
    assert!(begun.elapsed() <= SECOND * 6, "batches come as asked for");
    assert_eq!(lab.asked("host_counters"), 2);
    drop(gate);
    assert_eq!(health(&mut listener, id).await, Health::Measured);
}

#[tokio::test]
async fn an_instance_that_is_gone_is_named_once() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listener = lab.listen(Groups::CPU, 60);
    next(&mut listener).await;
    lab.test.host.store.remove_instance(id).await.unwrap();
    let mut late = lab.listen(Groups::CPU, 60);
    let batch = next(&mut listener).await;
    assert_eq!(batch.gone().collect::<Vec<_>>(), [id]);
    assert_eq!(ids(&batch, Groups::CPU), []);
    assert_eq!(next(&mut listener).await.gone().count(), 0);
    next(&mut late).await;
    assert_eq!(
        next(&mut late)
            .await
            .gone()
            .filter(|gone| *gone == id)
            .count(),
        0
    );
}

#[tokio::test]
async fn a_guest_that_is_off_is_measured_and_has_no_counters() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listener = lab.listen(Groups::all(), 1);
    next(&mut listener).await;
    lab.test.fake.destroy(id).await.unwrap();
    let batch = next(&mut listener).await;
    let seen = entry(&batch, id);
    assert_eq!(seen.state, PowerState::Shutdown);
    assert_eq!(seen.health(Groups::all()), Health::Measured);
    assert_eq!((seen.cpu_time_ns, seen.disks.len()), (None, 0));
    let asked = lab.asked("monitor_counters");
    next(&mut listener).await;
    assert_eq!(lab.asked("monitor_counters"), asked);

    // Its next start is told as one, though it was seen to be off between.
    lab.count(id, 2, 0);
    lab.test.fake.start(id, StartMode::Running).await.unwrap();
    let batch = next(&mut listener).await;
    assert!(batch.reset(entry(&batch, id)));
    let batch = next(&mut listener).await;
    assert!(!batch.reset(entry(&batch, id)));
}

#[tokio::test]
async fn counters_of_an_earlier_start_are_not_told_as_those_of_this_one() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listener = lab.listen(Groups::BLOCK, 1);
    next(&mut listener).await;
    lab.count(id, 2, 3);
    let fake = &lab.test.fake;
    fake.counted().set_monitor(
        id,
        crate::hypervisor::stats::MonitorCounters {
            life: 1,
            ..Default::default()
        },
    );
    let batch = next(&mut listener).await;
    let seen = entry(&batch, id);
    assert!(batch.reset(seen));
    assert!(matches!(seen.health(Groups::BLOCK), Health::Skipped { .. }));
    lab.count(id, 2, 3);
    let batch = next(&mut listener).await;
    assert_eq!(entry(&batch, id).disks[0].1.rd_bytes, Some(3));
}

#[tokio::test]
async fn a_guest_that_cannot_be_read_takes_no_other_with_it() {
    let lab = Lab::new().await;
    let (odd, well) = (lab.guest().await, lab.guest().await);
    let mut listener = lab.listen(Groups::all(), 1);
    next(&mut listener).await;
    lab.test.fake.counted().blind(odd);
    let batch = next(&mut listener).await;
    let since = batch.sample.time;
    let seen = entry(&batch, odd);
    assert_eq!(seen.health(Groups::all()), Health::Skipped { since });
    assert_eq!((seen.state, seen.cpu_time_ns), (PowerState::Unknown, None));
    assert_eq!(entry(&batch, well).health(Groups::all()), Health::Measured);
    assert_eq!(health(&mut listener, odd).await, Health::Stale { since });
    lab.test.fake.counted().unblind(odd);
    let batch = next(&mut listener).await;
    let seen = entry(&batch, odd);
    assert_eq!(seen.health(Groups::all()), Health::Measured);
    assert!(!batch.reset(seen), "the guest ran all the time");
}

#[tokio::test]
async fn a_miss_of_long_ago_says_nothing_of_one_now() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    lab.test.fake.counted().hang(id);
    let mut cheap = lab.listen(Groups::CPU, 10);
    let mut block = lab.listen(Groups::BLOCK, 1);
    next(&mut block).await;
    let stale = health(&mut block, id).await;
    assert!(matches!(stale, Health::Stale { .. }), "{stale:?}");
    // Who asks again soon is told the same.
    drop(block);
    next(&mut cheap).await;
    let mut block = lab.listen(Groups::BLOCK, 1);
    assert_eq!(health(&mut block, id).await, stale);
    drop(block);
    for _ in 0..10 {
        next(&mut cheap).await;
    }
    let figures = lab.sampler.figures();
    assert_eq!((figures.measured, figures.stale), (1, 0));
    drop(cheap);
    tokio::time::sleep(SECOND * 100).await;
    assert_eq!(lab.sampler.figures().measured, 0);
    let mut block = lab.listen(Groups::BLOCK, 1);
    let missed = health(&mut block, id).await;
    assert!(matches!(missed, Health::Skipped { .. }), "{missed:?}");
}
