use std::collections::BTreeMap;

use computedriver::v1;
use computedriver::v1::SampleStatus as Status;
use proptest::prelude::*;

use super::{Standing, StatsView};

fn batch(
    sequence: u64,
    seconds: i64,
    instances: Vec<v1::InstanceStats>,
) -> v1::StreamInstanceStatsResponse {
    v1::StreamInstanceStatsResponse {
        more: false,
        sequence,
        collect_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        interval: None,
        full: sequence == 1,
        instances,
    }
}

fn sample(id: &str, status: Status) -> v1::InstanceStats {
    v1::InstanceStats {
        sample: Some(v1::SampleState {
            instance_id: id.into(),
            status: status.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn disk(id: &str, rd_bytes: i64) -> v1::BlockCounters {
    v1::BlockCounters {
        disk_id: id.into(),
        rd_bytes: Some(rd_bytes),
        ..Default::default()
    }
}

fn read(id: &str, rd_bytes: i64) -> v1::InstanceStats {
    v1::InstanceStats {
        disks: vec![disk("root", rd_bytes)],
        ..sample(id, Status::Ok)
    }
}

fn reset(mut stats: v1::InstanceStats) -> v1::InstanceStats {
    if let Some(sample) = &mut stats.sample {
        sample.reset = true;
    }
    stats
}

/// The rate of reads after each of the batches.
fn rates(batches: Vec<v1::StreamInstanceStatsResponse>) -> Vec<Option<f64>> {
    let mut view = StatsView::default();
    let rate = |batch| {
        view.apply(batch);
        view.get("a").and_then(|usage| usage.rates().read_bytes)
    };
    batches.into_iter().map(rate).collect()
}

#[test]
fn a_batch_in_several_messages_counts_once_it_is_whole() {
    let part = |sequence, seconds, more, instances| v1::StreamInstanceStatsResponse {
        more,
        ..batch(sequence, seconds, instances)
    };
    let mut view = StatsView::default();
    let ids = |view: &StatsView| view.instances().len();
    view.apply(part(1, 10, true, vec![read("a", 1000)]));
    assert_eq!(ids(&view), 0);
    let last = part(1, 10, false, vec![read("b", 1000)]);
    view.apply(v1::StreamInstanceStatsResponse {
        full: false,
        ..last
    });
    assert_eq!(ids(&view), 2);
    // A full one names all again: nobody has gone meanwhile, and rates go on.
    let full = part(2, 12, true, vec![read("a", 3000)]);
    view.apply(v1::StreamInstanceStatsResponse { full: true, ..full });
    view.apply(part(2, 12, false, vec![read("b", 5000)]));
    let rate = |id: &str| view.get(id).and_then(|usage| usage.rates().read_bytes);
    assert_eq!((rate("a"), rate("b")), (Some(1000.0), Some(2000.0)));
    // A stream that was lost in between begins anew.
    view.apply(part(3, 14, true, vec![read("a", 9000)]));
    view.lost();
    view.apply(part(3, 14, false, vec![read("b", 9000)]));
    assert_eq!(ids(&view), 2);
}

#[test]
fn a_rate_needs_two_readings() {
    let seen = rates(vec![
        batch(1, 10, vec![read("a", 1000)]),
        batch(2, 12, vec![read("a", 5000)]),
    ]);
    assert_eq!(seen, [None, Some(2000.0)]);
}

#[test]
fn who_is_not_named_in_a_batch_of_changes_rests() {
    let seen = rates(vec![
        batch(1, 10, vec![read("a", 0)]),
        batch(2, 12, vec![]),
        batch(3, 14, vec![read("a", 600)]),
    ]);
    assert_eq!(seen, [None, Some(0.0), Some(300.0)]);
}

#[test]
fn over_samples_that_were_passed_over_a_rate_is_the_mean() {
    let seen = rates(vec![
        batch(1, 10, vec![read("a", 0)]),
        batch(4, 20, vec![read("a", 100)]),
        batch(7, 30, vec![]),
        batch(9, 34, vec![read("a", 500)]),
    ]);
    assert_eq!(seen, [None, Some(10.0), Some(0.0), Some(100.0)]);
}

#[test]
fn a_guest_that_is_off_has_no_counters() {
    let off = v1::InstanceStats {
        power_state: v1::PowerState::Shutdown.into(),
        ..sample("a", Status::Ok)
    };
    let mut view = StatsView::default();
    view.apply(batch(1, 10, vec![read("a", 0)]));
    view.apply(batch(2, 12, vec![off.clone()]));
    let usage = view.get("a").expect("it is listed");
    assert_eq!(usage.counters(), &off);
    assert_eq!(usage.rates().read_bytes, None);
}

#[test]
fn a_counter_that_began_anew_has_no_rate_and_then_one_again() {
    for renewed in [reset(read("a", 9000)), read("a", 10)] {
        let value = renewed.disks[0].rd_bytes.expect("set above");
        let seen = rates(vec![
            batch(1, 10, vec![read("a", 1000)]),
            batch(2, 11, vec![renewed]),
            batch(3, 12, vec![read("a", value + 5)]),
        ]);
        assert_eq!(seen, [None, None, Some(5.0)]);
    }
}

#[test]
fn a_clock_that_stands_or_goes_back_gives_no_rate() {
    let seen = rates(vec![
        batch(1, 10, vec![read("a", 0)]),
        batch(2, 10, vec![read("a", 10)]),
        batch(3, 5, vec![read("a", 20)]),
        batch(4, 6, vec![read("a", 30)]),
    ]);
    assert_eq!(seen, [None, None, None, Some(10.0)]);
}

#[test]
fn a_guest_passed_over_keeps_its_counters_and_later_shows_its_mean() {
    for status in [Status::BusySkipped, Status::Stale] {
        let mut view = StatsView::default();
        view.apply(batch(1, 10, vec![read("a", 0)]));
        view.apply(batch(2, 12, vec![sample("a", status)]));
        view.apply(batch(3, 14, vec![]));
        let usage = view.get("a").expect("it is there");
        assert_ne!(usage.standing(), Standing::Measured);
        assert_eq!(usage.counters().disks, [disk("root", 0)]);
        assert_eq!(usage.rates().read_bytes, None);
        view.apply(batch(4, 20, vec![read("a", 1000)]));
        let usage = view.get("a").expect("it is there");
        assert_eq!(usage.standing(), Standing::Measured);
        assert_eq!(usage.rates().read_bytes, Some(100.0));
    }
}

#[test]
fn a_stale_guest_says_since_when_and_its_cheap_counters_go_on() {
    let since = prost_types::Timestamp {
        seconds: 11,
        nanos: 0,
    };
    let stale = |cpu_time_ns| {
        let mut stats = sample("a", Status::Stale);
        stats.cpu_time_ns = Some(cpu_time_ns);
        if let Some(sample) = &mut stats.sample {
            sample.stale_since = Some(since);
        }
        stats
    };
    let mut view = StatsView::default();
    view.apply(batch(1, 10, vec![stale(0)]));
    view.apply(batch(2, 12, vec![stale(1_000_000_000)]));
    let usage = view.get("a").expect("it is there");
    assert_eq!(usage.standing(), Standing::Stale { since: Some(since) });
    assert_eq!(usage.rates().cpu, Some(0.5));
}

#[test]
fn who_is_gone_or_missing_from_a_whole_batch_is_no_longer_there() {
    let mut view = StatsView::default();
    let all = ["a", "b", "c"].map(|id| read(id, 0));
    view.apply(batch(1, 10, all.to_vec()));
    view.apply(batch(2, 12, vec![sample("b", Status::Gone)]));
    let ids = |view: &StatsView| -> Vec<String> {
        view.instances()
            .map(|usage| usage.id().to_owned())
            .collect()
    };
    assert_eq!(ids(&view), ["a", "c"]);
    view.lost();
    assert_eq!(ids(&view), ["a", "c"], "what was known stays meanwhile");
    view.apply(batch(1, 90, vec![read("c", 5000)]));
    assert_eq!(ids(&view), ["c"]);
    let rates = view.get("c").expect("it is there").rates();
    assert_eq!(rates.read_bytes, None, "it may have started again unseen");
}

#[test]
fn devices_are_summed_and_a_new_one_counts_from_its_second_reading() {
    let of = |disks| v1::InstanceStats {
        disks,
        ..sample("a", Status::Ok)
    };
    let seen = rates(vec![
        batch(1, 10, vec![of(vec![disk("x", 0)])]),
        batch(2, 11, vec![of(vec![disk("x", 10), disk("y", 1 << 40)])]),
        batch(
            3,
            12,
            vec![of(vec![disk("x", 20), disk("y", (1 << 40) + 5)])],
        ),
        batch(4, 13, vec![of(vec![disk("y", (1 << 40) + 5)])]),
    ]);
    assert_eq!(seen, [None, Some(10.0), Some(15.0), Some(0.0)]);
}

#[test]
fn processors_are_summed_where_the_whole_is_not_told() {
    let of = |a, b| v1::InstanceStats {
        cpus: [a, b]
            .map(|time_ns| v1::CpuDiagnostics {
                time_ns,
                ..Default::default()
            })
            .to_vec(),
        ..sample("a", Status::Ok)
    };
    let mut view = StatsView::default();
    view.apply(batch(1, 10, vec![of(Some(0), Some(5))]));
    view.apply(batch(
        2,
        12,
        vec![of(Some(3_000_000_000), Some(1_000_000_005))],
    ));
    assert_eq!(view.get("a").and_then(|u| u.rates().cpu), Some(2.0));
    view.apply(batch(3, 14, vec![of(Some(4_000_000_000), None)]));
    assert_eq!(view.get("a").and_then(|u| u.rates().cpu), None);
}

/// Any instance that a batch may name, sense or not.
fn anything() -> impl Strategy<Value = v1::InstanceStats> {
    let value = prop_oneof![
        Just(None),
        any::<i64>().prop_map(Some),
        (0..1000i64).prop_map(Some)
    ];
    let ids = prop_oneof![Just("a"), Just("b"), Just("c"), Just("")];
    (ids, 0..6i32, any::<bool>(), value).prop_map(|(id, status, renewed, value)| {
        let mut stats = read(id, value.unwrap_or(7));
        stats.cpu_time_ns = value;
        stats.disks[0].wr_bytes = value;
        if let Some(sample) = &mut stats.sample {
            (sample.status, sample.reset) = (status, renewed);
        }
        stats
    })
}

fn any_batch() -> impl Strategy<Value = v1::StreamInstanceStatsResponse> {
    let instances = prop::collection::vec(anything(), 0..4);
    let time = (any::<i64>(), any::<i32>());
    let time = prop_oneof![time, (0..100i64, 0..1_000_000_000i32)];
    let sequence = prop_oneof![any::<u64>(), 0..20u64];
    (sequence, time, any::<bool>(), instances).prop_map(
        |(sequence, (seconds, nanos), full, instances)| v1::StreamInstanceStatsResponse {
            more: false,
            sequence,
            collect_time: Some(prost_types::Timestamp { seconds, nanos }),
            interval: None,
            full,
            instances,
        },
    )
}

proptest! {
    #[test]
    fn whatever_a_server_sends_no_rate_is_negative_or_no_number(batches in prop::collection::vec(any_batch(), 0..20)) {
        let mut view = StatsView::default();
        for batch in batches {
            view.apply(batch);
            for usage in view.instances() {
                let r = usage.rates();
                for rate in [r.cpu, r.read_bytes, r.write_bytes].into_iter().flatten() {
                    prop_assert!(rate.is_finite() && rate >= 0.0, "{rate}");
                }
            }
        }
    }

    /// Growth is neither lost nor invented: rate times time, summed, is what the counter grew by.
    #[test]
    fn rates_add_up_to_the_growth(steps in prop::collection::vec((1..50i64, 0..1_000_000i64, 0..3u8), 1..40)) {
        let mut view = StatsView::default();
        view.apply(batch(1, 0, vec![read("a", 0)]));
        let (mut now, mut read_at, mut value, mut told) = (0, 0, 0, 0.0);
        let mut known = 0;
        for ((seconds, growth, kind), sequence) in steps.into_iter().zip(2..) {
            now += seconds;
            value += growth;
            let instances = match kind {
                0 => vec![sample("a", Status::BusySkipped)],
                _ => vec![read("a", value)],
            };
            view.apply(batch(sequence, now, instances));
            let rate = view.get("a").and_then(|usage| usage.rates().read_bytes);
            prop_assert_eq!(rate.is_some(), kind != 0);
            if let Some(rate) = rate {
                #[allow(clippy::cast_precision_loss)]
                let span = (now - read_at) as f64;
                told += rate * span;
                (read_at, known) = (now, value);
            }
        }
        #[allow(clippy::cast_precision_loss)]
        let grew = known as f64;
        prop_assert!((told - grew).abs() <= grew * 1e-9 + 1e-6, "{told} {grew}");
    }

    /// A subscriber of changes sees what a subscriber of everything sees.
    #[test]
    fn changes_show_what_whole_batches_show(steps in prop::collection::vec(prop::collection::btree_map(0..4u8, 0..5i64, 0..4), 1..20)) {
        let (mut whole, mut changes) = (StatsView::default(), StatsView::default());
        let mut now: BTreeMap<u8, i64> = BTreeMap::new();
        for (step, sequence) in steps.into_iter().zip(1..) {
            let at = i64::try_from(sequence).expect("small");
            let mut changed = Vec::new();
            for (id, growth) in step {
                let before = now.get(&id).copied();
                let after = before.unwrap_or_default() + growth;
                now.insert(id, after);
                if before != Some(after) {
                    changed.push(read(&id.to_string(), after));
                }
            }
            let all = now.iter().map(|(id, value)| read(&id.to_string(), *value)).collect();
            whole.apply(v1::StreamInstanceStatsResponse { full: true, ..batch(sequence, at, all) });
            changes.apply(batch(sequence, at, changed));
            let shown = |view: &StatsView| -> Vec<_> {
                view.instances().map(|u| (u.id().to_owned(), u.counters().disks.clone(), u.rates())).collect()
            };
            prop_assert_eq!(shown(&whole), shown(&changes));
        }
    }
}
