use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use proptest::prelude::*;

use super::*;
use crate::model::PowerState;

fn info(state: PowerState) -> GuestInfo {
    GuestInfo {
        state,
        max_mem_kib: 4,
        mem_kib: 2,
        num_cpu: 1,
        cpu_time_ns: 0,
    }
}

fn told(known: &Known, id: InstanceId) -> Option<PowerState> {
    known.last(id).map(|reading| reading.info.state)
}

#[test]
fn a_reading_is_told_until_something_happens_to_the_guest() {
    let (known, id, other) = (Known::default(), InstanceId::random(), InstanceId::random());
    assert_eq!(told(&known, id), None);
    for guest in [id, other] {
        let begun = known.begin(guest);
        known.keep(guest, begun, info(PowerState::Running), 7);
    }
    known.touch(other);
    assert_eq!(told(&known, other), None);
    assert_eq!(told(&known, id), Some(PowerState::Running));
    assert_eq!(known.last(id).map(|reading| reading.life), Some(7));
    known.clear();
    assert_eq!(told(&known, id), None);
}

#[test]
fn a_reading_beside_which_something_happened_is_not_kept() {
    let (known, id) = (Arc::new(Known::default()), InstanceId::random());
    let happenings: [&dyn Fn(); 5] = [
        &|| known.touch(id),
        &|| known.clear(),
        &|| known.forget(id),
        &|| drop(known.change(id)),
        // Another reading begins after it, which must not lend the first one its number.
        &|| {
            known.clear();
            known.begin(id);
        },
    ];
    for (which, happen) in happenings.iter().enumerate() {
        let begun = known.begin(id);
        happen();
        known.keep(id, begun, info(PowerState::Running), 7);
        assert_eq!(told(&known, id), None, "{which}");
    }
}

#[test]
fn what_is_read_while_a_call_of_ours_is_at_work_is_not_told_after_it() {
    let (known, id) = (Arc::new(Known::default()), InstanceId::random());
    let change = known.change(id);
    let begun = known.begin(id);
    known.keep(id, begun, info(PowerState::Running), 7);
    let late = known.begin(id);
    drop(change);
    assert_eq!(told(&known, id), None);
    known.keep(id, late, info(PowerState::Running), 7);
    assert_eq!(told(&known, id), None);
}

#[test]
fn a_reading_ages() {
    let (known, id) = (Known::default(), InstanceId::random());
    let mut begun = known.begin(id);
    begun.at -= FRESH;
    known.keep(id, begun, info(PowerState::Running), 7);
    assert_eq!(told(&known, id), None);
}

/// A guest changes, and after each change it is touched, as by an event: whoever looks after that must not be told of the
/// time before it.
#[test]
fn nobody_is_told_of_a_time_before_the_last_event() {
    const TURNS: u64 = 20_000;
    let (known, id) = (Known::default(), InstanceId::random());
    let (truth, heard) = (AtomicU64::new(0), AtomicU64::new(0));
    let looks = || {
        while heard.load(SeqCst) < TURNS {
            let heard = heard.load(SeqCst);
            if let Some(reading) = known.last(id) {
                assert!(reading.info.cpu_time_ns >= heard);
            }
            let begun = known.begin(id);
            let cpu_time_ns = truth.load(SeqCst);
            let info = info(PowerState::Running);
            let info = GuestInfo {
                cpu_time_ns,
                ..info
            };
            known.keep(id, begun, info, 7);
        }
    };
    std::thread::scope(|scope| {
        let looking = [(); 3].map(|()| scope.spawn(looks));
        for turn in 1..=TURNS {
            truth.store(turn, SeqCst);
            known.touch(id);
            heard.store(turn, SeqCst);
        }
        for thread in looking {
            thread.join().unwrap();
        }
    });
}

proptest! {
    /// Any order of readings that overlap and of happenings: a reading is told only if nothing came after its begin.
    #[test]
    fn what_is_told_was_begun_after_the_last_happening(steps in prop::collection::vec((0_u8..6, 0_usize..3), 1..60)) {
        let (known, id) = (Arc::new(Known::default()), InstanceId::random());
        let mut open: [Option<(Begun, u64)>; 3] = [None; 3];
        let mut happened = 0_u64;
        for (now, (step, slot)) in (1_u64..).zip(steps) {
            match step {
                0 => open[slot] = Some((known.begin(id), now)),
                1 => {
                    if let Some((begun, since)) = open[slot].take() {
                        let info = GuestInfo { cpu_time_ns: since, ..info(PowerState::Running) };
                        known.keep(id, begun, info, 7);
                    }
                }
                other => {
                    happened = now;
                    match other {
                        2 => known.touch(id),
                        3 => known.clear(),
                        4 => known.forget(id),
                        _ => drop(known.change(id)),
                    }
                }
            }
            if let Some(reading) = known.last(id) {
                prop_assert!(reading.info.cpu_time_ns > happened);
            }
        }
    }
}
