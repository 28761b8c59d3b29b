use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Batch, Entry, Health, Listener, Sampler, View, Wish};
use crate::{
    domain::Domain,
    hypervisor::{
        Hypervisor, StartMode, VirtType,
        stats::{BlockCounters, Groups, HostCounters, InterfaceCounters, MonitorCounters},
    },
    model::{InstanceId, InstanceRecord, InstanceState, OperationId, PowerState, VifKind},
    testing::{TestHost, vif},
};

mod history;
mod trouble;

const SECOND: Duration = Duration::from_secs(1);

/// A host whose time goes by as fast as nothing is left to do, and its sampler.
struct Lab {
    test: TestHost,
    sampler: Sampler,
    end: CancellationToken,
    _run: JoinSet<()>,
}

impl Lab {
    async fn new() -> Self {
        let test = TestHost::new().await;
        let end = CancellationToken::new();
        let sampler = Sampler::new(SECOND, end.clone());
        let mut run = JoinSet::new();
        run.spawn(sampler.clone().run(test.host.clone()));
        tokio::time::pause();
        Self {
            test,
            sampler,
            end,
            _run: run,
        }
    }

    /// A running guest with one disk and one interface.
    async fn guest(&self) -> InstanceId {
        tokio::time::resume();
        let mut spec = self.test.spec();
        let id = spec.id;
        spec.vifs = vec![vif(1, VifKind::User)];
        let record = InstanceRecord {
            spec,
            fingerprint: String::new(),
            operation: OperationId::random(),
            state: InstanceState::Active,
            root: None,
            images: Vec::new(),
            created: std::time::SystemTime::now(),
            launched: None,
            wanted: crate::model::Wanted::Running,
            rescue: None,
        };
        self.test.host.store.put_instance(record).await.unwrap();
        let fake = &self.test.fake;
        let domain = Domain::example(id, VirtType::Test);
        fake.define(&domain).await.unwrap();
        fake.start(id, StartMode::Running).await.unwrap();
        self.count(id, 1, 0);
        tokio::time::pause();
        id
    }

    /// Sets all counters of a guest.
    fn count(&self, id: InstanceId, life: u64, value: u64) {
        let counted = self.test.fake.counted();
        let interface = InterfaceCounters {
            rx_bytes: Some(value),
            ..InterfaceCounters::default()
        };
        counted.set_host(HostCounters {
            id,
            state: PowerState::Running,
            life,
            cpu_time_ns: Some(value),
            cpus: Vec::new(),
            memory: None,
            interfaces: vec![("52:54:00:00:00:01".to_owned(), interface)],
        });
        let disk = BlockCounters {
            rd_bytes: Some(value),
            ..BlockCounters::default()
        };
        let counters = MonitorCounters {
            life,
            disks: vec![("vda".to_owned(), disk), ("unknown".to_owned(), disk)],
            balloon: None,
        };
        counted.set_monitor(id, counters);
    }

    fn listen(&self, groups: Groups, seconds: u32) -> Listener {
        self.sampler.listen(Wish {
            groups,
            interval: SECOND * seconds,
            full_every: None,
            fresh: false,
        })
    }

    fn asked(&self, call: &str) -> usize {
        let calls = self.test.fake.calls();
        calls.iter().filter(|known| **known == call).count()
    }
}

async fn next(listener: &mut Listener) -> Batch {
    let next = tokio::time::timeout(SECOND * 600, listener.next()).await;
    next.expect("a batch comes").expect("the sampler lives")
}

/// The time that a batch spans, without what timers round.
fn spans(batch: &Batch) -> Duration {
    let interval = batch.interval().expect("it is not the first");
    Duration::from_secs_f64((interval.as_secs_f64() * 10.0).round() / 10.0)
}

fn entry(batch: &Batch, id: InstanceId) -> &Entry {
    batch.sample.entry(id).expect("the guest is in it")
}

fn ids(batch: &Batch, groups: Groups) -> Vec<InstanceId> {
    batch.entries(groups).map(|entry| entry.id).collect()
}

#[tokio::test]
async fn nobody_listening_asks_nothing() {
    let lab = Lab::new().await;
    lab.guest().await;
    tokio::time::sleep(SECOND * 3600).await;
    assert_eq!(lab.asked("host_counters"), 0);
    let mut listener = lab.listen(Groups::CPU, 1);
    next(&mut listener).await;
    drop(listener);
    let asked = lab.asked("host_counters");
    tokio::time::sleep(SECOND * 3600).await;
    assert_eq!(lab.asked("host_counters"), asked);
    assert_eq!(lab.sampler.figures().listeners, 0);
}

#[tokio::test]
async fn only_what_is_asked_for_is_measured() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut cpu = lab.listen(Groups::CPU, 1);
    for _ in 0..3 {
        let batch = next(&mut cpu).await;
        assert_eq!(entry(&batch, id).cpu_time_ns, Some(0));
        assert_eq!(entry(&batch, id).interfaces, []);
    }
    assert_eq!(lab.asked("monitor_counters"), 0);
    let mut block = lab.listen(Groups::BLOCK, 1);
    let batch = next(&mut block).await;
    let [(disk, counters)] = entry(&batch, id).disks.as_slice() else {
        panic!("{:?}", entry(&batch, id));
    };
    assert_eq!((&**disk, counters.rd_bytes), ("root", Some(0)));
    assert_eq!(lab.asked("monitor_counters"), 1);
}

#[tokio::test]
async fn interfaces_bear_the_ids_of_the_instance() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listener = lab.listen(Groups::INTERFACE, 1);
    let batch = next(&mut listener).await;
    let (name, counters) = &entry(&batch, id).interfaces[0];
    assert_eq!((&**name, counters.rx_bytes), ("eth1", Some(0)));
}

#[tokio::test]
async fn the_first_batch_is_full_and_later_ones_hold_what_changed() {
    let lab = Lab::new().await;
    let (one, other) = (lab.guest().await, lab.guest().await);
    let mut listener = lab.listen(Groups::CPU, 1);
    let first = next(&mut listener).await;
    assert!(first.is_full() && first.is_first() && first.interval().is_none());
    assert_eq!(ids(&first, Groups::CPU).len(), 2);

    lab.count(one, 1, 7);
    let second = next(&mut listener).await;
    assert!(!second.is_full());
    assert_eq!(ids(&second, Groups::CPU), [one]);
    assert_eq!(second.sample.sequence, first.sample.sequence + 1);
    assert_eq!(spans(&second), SECOND);

    // Nothing changed: the batch comes all the same.
    let third = next(&mut listener).await;
    assert_eq!(ids(&third, Groups::CPU), []);
    assert_eq!(entry(&third, other).cpu_time_ns, Some(0));
}

#[tokio::test]
async fn everything_comes_again_as_often_as_asked_for() {
    let lab = Lab::new().await;
    lab.guest().await;
    let mut listener = lab.sampler.listen(Wish {
        groups: Groups::CPU,
        interval: SECOND,
        full_every: Some(SECOND * 3),
        fresh: false,
    });
    let mut full = Vec::new();
    for _ in 0..7 {
        full.push(next(&mut listener).await.is_full());
    }
    assert_eq!(full, [true, false, false, true, false, false, true]);
}

#[tokio::test]
async fn an_interval_below_the_least_is_raised_to_it() {
    let lab = Lab::new().await;
    let sampler = Sampler::new(SECOND * 5, lab.end.clone());
    let mut run = JoinSet::new();
    run.spawn(sampler.clone().run(lab.test.host.clone()));
    let mut listener = sampler.listen(Wish {
        groups: Groups::CPU,
        interval: SECOND,
        full_every: None,
        fresh: false,
    });
    next(&mut listener).await;
    assert_eq!(spans(&next(&mut listener).await), SECOND * 5);
}

#[tokio::test]
async fn who_reads_slowly_sees_the_gap_and_is_right_afterwards() {
    let lab = Lab::new().await;
    let (one, other) = (lab.guest().await, lab.guest().await);
    let (mut slow, mut fast) = (lab.listen(Groups::CPU, 1), lab.listen(Groups::CPU, 1));
    let first = next(&mut slow).await;
    next(&mut fast).await;
    lab.count(one, 1, 5);
    next(&mut fast).await;
    lab.count(other, 1, 6);
    for _ in 0..5 {
        next(&mut fast).await;
    }
    let after = next(&mut slow).await;
    assert_eq!(after.sample.sequence, first.sample.sequence + 6);
    assert_eq!(spans(&after), SECOND * 6);
    assert_eq!(ids(&after, Groups::CPU).len(), 2);
    // And goes on at its pace.
    assert_eq!(spans(&next(&mut slow).await), SECOND);
}

#[tokio::test]
async fn a_hundred_listeners_cost_one_question_and_one_encoding() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let mut listeners: Vec<_> = (0..100).map(|_| lab.listen(Groups::BLOCK, 1)).collect();
    for round in 1..=3 {
        let mut bytes: Vec<Arc<[bytes::Bytes]>> = Vec::new();
        let mut made = 0;
        for listener in &mut listeners {
            let batch = next(listener).await;
            // Equal wishes need not be the same one.
            let ids = Some(Arc::new([id].into()));
            bytes.push(batch.encoded((View::Disks, Groups::BLOCK, ids), || {
                made += 1;
                [bytes::Bytes::from(vec![round; 100])].into()
            }));
        }
        assert_eq!(made, 1);
        assert!(bytes.iter().all(|one| one.as_ptr() == bytes[0].as_ptr()));
        assert_eq!(lab.asked("host_counters"), usize::from(round));
        assert_eq!(lab.asked("monitor_counters"), usize::from(round));
    }
}

#[tokio::test]
async fn one_sample_serves_all_who_ask_for_one() {
    let lab = Lab::new().await;
    let id = lab.guest().await;
    let now = || lab.sampler.now(Groups::all(), SECOND);
    let (one, other) = tokio::join!(now(), now());
    let one = one.unwrap();
    assert!(Arc::ptr_eq(&one, &other.unwrap()));
    assert!(!one.entry(id).unwrap().disks.is_empty());
    assert!(Arc::ptr_eq(&one, &now().await.unwrap()), "it is young");
    assert_eq!(lab.asked("host_counters"), 1);
    tokio::time::sleep(SECOND * 2).await;
    assert!(!Arc::ptr_eq(&one, &now().await.unwrap()), "it is old");
    assert_eq!(lab.sampler.figures().host.count, 2);
    assert_eq!(lab.sampler.figures().measured, 1);
}

#[tokio::test]
async fn the_end_is_told_to_all() {
    let lab = Lab::new().await;
    let mut listener = lab.listen(Groups::CPU, 1);
    next(&mut listener).await;
    lab.end.cancel();
    assert!(listener.next().await.is_none());
    assert!(lab.sampler.now(Groups::BLOCK, SECOND).await.is_none());
}
