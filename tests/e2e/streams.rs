//! Streams of counters of real guests, one of which hangs.

use std::{collections::BTreeMap, time::Duration};

use computedriver::v1::{self, SampleStatus, stats_service_client::StatsServiceClient};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use crate::support::{Sandbox, command, reason, request};

suite!(a_stopped_guest_turns_stale_and_stalls_nobody);

/// Batches within which anything that must happen has happened, one a second.
const PATIENCE: usize = 60;

const SECOND: Option<prost_types::Duration> = Some(prost_types::Duration {
    seconds: 1,
    nanos: 0,
});

/// A batch each second may be late on a busy machine, but not as late as one that waits for a guest that hangs.
const LATE: Duration = Duration::from_secs(4);

/// Less than two batches with everything, bytes.
const WINDOW: u32 = 512;

/// Batches of which one who does not read can have been sent but a few.
const MANY: u64 = 20;

/// Sends a signal to an emulator.
fn signal(name: &str, pid: u32) {
    let done = command("kill").args([name, &pid.to_string()]).status();
    assert!(done.expect("kill runs").success());
}

/// A stream of disk counters, and what is known by it.
struct Disks {
    stream: Streaming<v1::StreamBlockStatsResponse>,
    known: BTreeMap<String, v1::InstanceBlockStats>,
    sequence: u64,
    /// Whether only changes are asked for.
    changes: bool,
    /// Between the last two batches.
    span: Duration,
}

impl Disks {
    /// What changes, each second.
    async fn of(sandbox: &Sandbox) -> Self {
        Self::by(sandbox.stats().await, None).await
    }

    /// Everything, about each second.
    async fn all_of(sandbox: &Sandbox) -> Self {
        Self::by(sandbox.stats().await, SECOND).await
    }

    /// The same over a connection that takes no more than a few batches from who does not read.
    async fn narrow(sandbox: &Sandbox) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix:{}", sandbox.socket().display()));
        let narrow = endpoint.unwrap().initial_stream_window_size(WINDOW);
        let channel = narrow.connect().await.expect("the server listens");
        Self::by(StatsServiceClient::new(channel), SECOND).await
    }

    async fn by(
        mut stats: StatsServiceClient<Channel>,
        full_every: Option<prost_types::Duration>,
    ) -> Self {
        let asked = v1::StreamBlockStatsRequest {
            interval: SECOND,
            full_every,
            ..Default::default()
        };
        let stream = stats.stream_block_stats(asked).await;
        Self {
            stream: stream.unwrap().into_inner(),
            changes: full_every.is_none(),
            known: BTreeMap::new(),
            sequence: 0,
            span: Duration::ZERO,
        }
    }

    /// Reads one batch. Whom it tells of.
    async fn read(&mut self) -> Vec<String> {
        let batch = self.stream.message().await.unwrap().expect("a batch");
        let first = self.sequence == 0;
        assert!(batch.full || !first, "the first is full");
        assert!(
            !batch.full || !self.changes || first,
            "no other was asked for"
        );
        assert!(batch.sequence > self.sequence && batch.collect_time.is_some());
        self.sequence = batch.sequence;
        self.span = batch.interval.unwrap_or_default().try_into().unwrap();
        let whose = batch.instances.iter().flat_map(|one| one.sample.as_ref());
        let told = whose.map(|sample| sample.instance_id.clone()).collect();
        if batch.full {
            self.known.clear();
        }
        for instance in batch.instances {
            let sample = instance.sample.as_ref().expect("whose it is");
            self.known.insert(sample.instance_id.clone(), instance);
        }
        told
    }

    fn status(&self, id: &str) -> Option<SampleStatus> {
        Some(self.known.get(id)?.sample.as_ref()?.status())
    }

    /// Reads until the guest is told so, with counters when it is measured and without otherwise.
    async fn until(&mut self, id: &str, status: SampleStatus) {
        for _ in 0..PATIENCE {
            self.read().await;
            let known = self.known.get(id);
            let counted = known.is_some_and(|known| !known.disks.is_empty());
            if self.status(id) == Some(status) && counted == (status == SampleStatus::Ok) {
                return;
            }
        }
        panic!("{id} does not become {status:?}: {:?}", self.known);
    }
}

/// Cheap counters of one guest, once.
async fn usage(sandbox: &Sandbox, id: &str) -> v1::InstanceStats {
    let asked = v1::StreamInstanceStatsRequest {
        instance_ids: vec![id.to_owned()],
        groups: vec![v1::StatsGroup::Cpu.into(), v1::StatsGroup::Memory.into()],
        ..Default::default()
    };
    let stream = sandbox.stats().await.stream_instance_stats(asked).await;
    let batch = stream.unwrap().into_inner().message().await;
    let mut instances = batch.unwrap().expect("a batch").instances;
    assert_eq!(instances.len(), 1, "{instances:?}");
    instances.remove(0)
}

async fn a_stopped_guest_turns_stale_and_stalls_nobody(sandbox: &mut Sandbox) {
    let (stuck, _) = sandbox.spawn(request()).await.unwrap();
    let [pid] = sandbox.emulators()[..] else {
        panic!("one guest runs");
    };
    let (well, _) = sandbox.spawn(request()).await.unwrap();
    let (stuck, well) = (stuck.instance_id, well.instance_id);
    let (mut disks, mut unread) = (Disks::of(sandbox).await, Disks::narrow(sandbox).await);
    disks.until(&stuck, SampleStatus::Ok).await;
    assert_eq!(disks.status(&well), Some(SampleStatus::Ok));
    let root = &disks.known[&stuck].disks[0];
    assert!(root.rd_bytes > Some(0), "it booted from it: {root:?}");

    signal("-STOP", pid);
    disks.until(&stuck, SampleStatus::Stale).await;
    let since = disks.known[&stuck].sample.as_ref().unwrap().stale_since;
    assert!(since.is_some());
    let (mut all, mut told) = (Disks::all_of(sandbox).await, 0);
    for _ in 0..6 {
        told += usize::from(all.read().await.contains(&well));
        assert!(all.span < LATE, "{:?}", all.span);
        assert_eq!(all.status(&well), Some(SampleStatus::Ok));
        assert!(!all.known[&well].disks.is_empty());
        let stale = all.known[&stuck].sample.as_ref().unwrap();
        assert_eq!(stale.status(), SampleStatus::Stale);
        assert_eq!(stale.stale_since, since, "it is stale since the same time");
    }
    assert!(told >= 3, "the other is measured anew: {told}");
    drop(all);

    let cheap = usage(sandbox, &stuck).await;
    let state = cheap.sample.as_ref().unwrap().status();
    assert_eq!(state, SampleStatus::Ok);
    assert_eq!(cheap.power_state(), v1::PowerState::Running);
    assert!(cheap.cpu_time_ns > Some(0) && cheap.memory.is_some());
    assert!(cheap.disks.is_empty(), "they were not asked for");
    let asked = v1::GetInfoRequest {
        instance_id: well.clone(),
    };
    sandbox.instances().await.get_info(asked).await.unwrap();

    signal("-CONT", pid);
    disks.until(&stuck, SampleStatus::Ok).await;
    // Who has read nothing all the time was not sent everything, and learns the same.
    while disks.sequence < MANY {
        disks.read().await;
    }
    let (mut gap, mut span) = (0, Duration::ZERO);
    while unread.sequence < disks.sequence {
        let before = unread.sequence;
        unread.read().await;
        if before > 0 && unread.sequence - before > gap {
            (gap, span) = (unread.sequence - before, unread.span);
        }
    }
    assert!(gap > MANY / 4 && span > LATE, "{gap} in {span:?}");
    for id in [&stuck, &well] {
        assert_eq!(unread.status(id), Some(SampleStatus::Ok));
        assert!(!unread.known[id].disks.is_empty());
    }

    for id in [&stuck, &well] {
        sandbox.destroy(id).await.unwrap();
        disks.until(id, SampleStatus::Gone).await;
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_stream_is_told_all_at_once() {
    let mut sandbox = Sandbox::start(&[]).await;
    let refused = |asked: v1::StreamInstanceStatsRequest| async {
        let stream = sandbox.stats().await.stream_instance_stats(asked).await;
        let e = stream.expect_err("it is refused");
        (e.code(), reason(&e), e.message().to_owned())
    };
    let (code, why, message) = refused(v1::StreamInstanceStatsRequest {
        instance_ids: vec!["nobody".to_owned()],
        interval: Some(prost_types::Duration::default()),
        full_every: Some(prost_types::Duration {
            seconds: 4000,
            nanos: 0,
        }),
        groups: vec![v1::StatsGroup::Unspecified.into()],
    })
    .await;
    assert_eq!(
        (code, why.as_str()),
        (Code::InvalidArgument, "INVALID_REQUEST")
    );
    for field in ["instance_ids[0]", "interval", "groups[0]", "1 more"] {
        assert!(message.contains(field), "{field}: {message}");
    }
    let absent = refused(v1::StreamInstanceStatsRequest {
        instance_ids: vec![Uuid::new_v4().to_string()],
        ..Default::default()
    });
    let (code, why, _) = absent.await;
    assert_eq!((code, why.as_str()), (Code::NotFound, "INSTANCE_NOT_FOUND"));

    // Nothing to tell is told too, and the end of the server is.
    let mut disks = Disks::of(&sandbox).await;
    disks.read().await;
    let (ended, end) = tokio::join!(end(&mut disks.stream), sandbox.stop());
    assert!(end.success());
    assert_eq!(
        (ended.code(), reason(&ended).as_str()),
        (Code::Unavailable, "DRAINING")
    );
}

async fn end(stream: &mut Streaming<v1::StreamBlockStatsResponse>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => return status,
        }
    }
}
