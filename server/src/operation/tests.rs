//! Operations through the registry's door: joined, refused, stopped, left, and told of.

mod way;

use std::time::Duration;

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{Destroy, Pause, PullImage},
    host::Claim,
    hypervisor::{HypervisorError, fake::Times},
    model::{Edge, InstanceState, Limits},
    step::ClaimResources,
    store::OperationFilter,
    testing::{LIMIT, TestHost, ended, key, key_of},
};

type Watched = watch::Receiver<Progress>;

async fn begin<A: Action>(operations: &Operations, key: RequestKey, action: A) -> Result<Watched> {
    Box::pin(operations.begin(key, action)).await
}

fn id(progress: &Watched) -> OperationId {
    progress.borrow().record.id
}

fn broken() -> HypervisorError {
    HypervisorError::Failed {
        call: "start",
        message: "out of luck".to_owned(),
        code: 1,
        domain: 10,
    }
}

/// Waits until the progress shows what is looked for.
async fn shows(progress: &mut Watched, look: impl FnMut(&Progress) -> bool) {
    let shown = tokio::time::timeout(LIMIT, progress.wait_for(look)).await;
    shown.expect("it shows in time").unwrap();
}

#[tokio::test]
async fn an_equal_request_joins_what_runs_and_any_other_is_told_who_holds_the_instance() {
    let t = TestHost::new().await;
    let (operations, spec) = (t.operations(), t.spec());
    let mut gate = t.fake.hold("start");
    let first = begin(&operations, key("a"), t.spawn(spec.clone()).await)
        .await
        .unwrap();
    gate.reached().await;
    let joined = begin(&operations, key("a"), t.spawn(spec.clone()).await)
        .await
        .unwrap();
    assert_eq!(id(&joined), id(&first));
    let instance = spec.id;
    let other = begin(&operations, key("b"), t.spawn(spec).await).await;
    let pause = begin(&operations, key("a"), Pause { instance }).await;
    for refused in [other.unwrap_err(), pause.unwrap_err()] {
        assert_eq!(refused.reason(), "OPERATION_PENDING");
        assert_eq!(refused.fields()["operation_id"], id(&first).to_string());
        assert_eq!(refused.fields()["verb"], "SPAWN");
    }
    assert_eq!(operations.running(), 1);
    drop(gate);
    assert_eq!(ended(joined).await.state, OperationState::Succeeded);
    assert_eq!(
        t.fake
            .calls()
            .iter()
            .filter(|call| **call == "start")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_request_id_has_one_answer_also_after_a_restart() {
    let t = TestHost::new().await;
    let (spec, request) = (t.spec(), RequestId::random());
    let instance = spec.id;
    let first = begin(&t.operations(), key_of(request, "a"), t.spawn(spec).await)
        .await
        .unwrap();
    let first = ended(first).await;
    let next = t.next_life().await;
    let fresh = next.operations();
    // Another registry of the same life knows it from the store, as one of the next does.
    for operations in [t.operations(), fresh] {
        let again = PullImage { source: t.image() };
        let reused = begin(&operations, key_of(request, "a"), again)
            .await
            .unwrap_err();
        assert_eq!(reused.reason(), "REQUEST_ID_REUSED", "another verb");
        let again = operations
            .find(&key_of(request, "a"), Verb::Spawn, Some(instance))
            .await;
        assert_eq!(again.unwrap().unwrap().borrow().record, first);
        let reused = operations
            .find(&key_of(request, "b"), Verb::Spawn, Some(instance))
            .await;
        assert_eq!(reused.unwrap_err().reason(), "REQUEST_ID_REUSED");
    }
}

#[tokio::test]
async fn a_failure_is_the_answer_to_its_request_id_too() {
    let t = TestHost::new().await;
    let (operations, spec, request) = (t.operations(), t.spec(), RequestId::random());
    t.fake.fail("start", Times::Next(1), broken());
    for _ in 0..2 {
        let spawn = t.spawn(spec.clone()).await;
        let end = ended(
            begin(&operations, key_of(request, "a"), spawn)
                .await
                .unwrap(),
        )
        .await;
        let e = end.error.unwrap();
        assert_eq!(
            (e.reason(), e.phase()),
            ("HYPERVISOR_ERROR", Some(Phase::Start))
        );
    }
    let end = ended(
        begin(&operations, key("a"), t.spawn(spec).await)
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        end.state,
        OperationState::Succeeded,
        "without the id it is a new request"
    );
}

#[tokio::test]
async fn a_cancelled_spawn_ends_its_step_and_is_undone() {
    let t = TestHost::new().await;
    let (operations, before) = (t.operations(), t.snapshot().await);
    let mut gate = t.fake.hold("define");
    let progress = begin(&operations, key("a"), t.spawn(t.everything()).await)
        .await
        .unwrap();
    gate.reached().await;
    assert!(!operations.cancelling(id(&progress)));
    for _ in 0..2 {
        operations.cancel(id(&progress)).await.unwrap();
        assert!(operations.cancelling(id(&progress)));
    }
    drop(gate);
    let end = ended(progress).await;
    assert_eq!(end.state, OperationState::Cancelled);
    assert_eq!(end.error.unwrap().reason(), "OPERATION_CANCELLED");
    assert!(
        !t.fake.calls().contains(&"start"),
        "no step is begun after the cancel"
    );
    assert_eq!(t.snapshot().await, before);
    operations.cancel(end.id).await.unwrap();
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_a_long_fetch() {
    let t = TestHost::new().await;
    let (operations, before) = (t.operations(), t.snapshot().await);
    // It takes connections and says nothing: a fetch waits half a minute for it.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut spec = t.spec();
    let mut source = t.image();
    source.file.location = format!("http://{}/image", silent.local_addr().unwrap());
    spec.image = Some(source.clone());
    let spawn = begin(&operations, key("a"), t.spawn(spec).await)
        .await
        .unwrap();
    let pull = begin(&operations, key("a"), PullImage { source })
        .await
        .unwrap();
    for mut progress in [spawn, pull] {
        let fetching = |p: &Progress| p.milestones.iter().any(|e| e.phase == Phase::FetchImage);
        shows(&mut progress, fetching).await;
        operations.cancel(id(&progress)).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(10), ended(progress)).await;
        assert_eq!(end.expect("at once").state, OperationState::Cancelled);
    }
    t.host.images.close().await;
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn what_has_ended_or_only_goes_forward_cannot_be_cancelled() {
    let t = TestHost::new().await;
    let (operations, spec) = (t.operations(), t.spec());
    let instance = spec.id;
    let spawned = ended(
        begin(&operations, key("a"), t.spawn(spec).await)
            .await
            .unwrap(),
    )
    .await;
    let mut gate = t.fake.hold("destroy");
    let destroy = begin(&operations, key("a"), Destroy { instance })
        .await
        .unwrap();
    gate.reached().await;
    for id in [spawned.id, id(&destroy)] {
        let refused = operations.cancel(id).await.unwrap_err();
        assert_eq!(refused.reason(), "OPERATION_NOT_CANCELLABLE");
    }
    let unknown = operations.cancel(OperationId::random()).await.unwrap_err();
    assert_eq!(unknown.reason(), "OPERATION_NOT_FOUND");
    drop(gate);
    assert_eq!(ended(destroy).await.state, OperationState::Succeeded);
}

#[tokio::test]
async fn nothing_begins_before_the_start_is_done_or_once_the_end_is_near() {
    let t = TestHost::new().await;
    let operations = Operations::new(t.host.clone());
    let (spec, instance) = (t.spec(), InstanceId::random());
    let early = begin(&operations, key("a"), t.spawn(spec.clone()).await)
        .await
        .unwrap_err();
    assert_eq!(
        (early.reason(), early.kind()),
        ("STARTING", Kind::Unavailable)
    );
    operations.open();
    let mut gate = t.fake.hold("start");
    let running = begin(&operations, key("a"), t.spawn(spec.clone()).await)
        .await
        .unwrap();
    gate.reached().await;
    let mut drain = Box::pin(operations.drain(LIMIT));
    assert!(
        futures::poll!(&mut drain).is_pending(),
        "it waits for what runs"
    );
    let late = begin(&operations, key("a"), Destroy { instance })
        .await
        .unwrap_err();
    assert_eq!(
        (late.reason(), late.kind()),
        ("DRAINING", Kind::Unavailable)
    );
    let joined = begin(&operations, key("a"), t.spawn(spec).await)
        .await
        .unwrap();
    assert_eq!(id(&joined), id(&running), "what runs may still be joined");
    drop(gate);
    drain.await;
    assert_eq!(running.borrow().record.state, OperationState::Succeeded);
    operations.open();
    assert_eq!(
        operations.gate(),
        Gate::Draining,
        "an end is not taken back"
    );
}

#[tokio::test]
async fn a_drain_leaves_what_takes_too_long_to_the_next_start() {
    let t = TestHost::new().await;
    let operations = t.operations();
    let mut gate = t.fake.hold("start");
    let running = begin(&operations, key("a"), t.spawn(t.spec()).await)
        .await
        .unwrap();
    gate.reached().await;
    operations.drain(Duration::ZERO).await;
    assert_eq!(running.borrow().record.state, OperationState::Running);
    let unsettled = t.host.store.unsettled().await.unwrap();
    assert_eq!(unsettled, [running.borrow().record.clone()]);
}

#[tokio::test]
async fn an_undo_waits_for_an_absent_hypervisor_and_goes_on_when_it_is_back() {
    let t = TestHost::new().await;
    let (operations, before) = (t.operations(), t.snapshot().await);
    let mut gate = t.fake.hold("start");
    let mut progress = begin(&operations, key("a"), t.spawn(t.everything()).await)
        .await
        .unwrap();
    gate.reached().await;
    t.fake.go_down("end of file");
    drop(gate);
    shows(&mut progress, |p| {
        p.record.state == OperationState::Unwinding
    })
    .await;
    let instance = progress.borrow().record.instance.unwrap();
    assert!(
        t.host.paths.instance(instance).is_dir(),
        "a guest that may run keeps its disks"
    );
    assert!(
        t.host.store.instance(instance).is_some(),
        "and stays listed"
    );
    t.fake.come_back();
    let end = ended(progress).await;
    assert_eq!(end.state, OperationState::Failed);
    assert_eq!(end.error.unwrap().reason(), "HYPERVISOR_UNAVAILABLE");
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn what_cannot_be_undone_stays_listed_until_it_is_destroyed() {
    let t = TestHost::new().await;
    let (operations, before, spec) = (t.operations(), t.snapshot().await, t.everything());
    let instance = spec.id;
    t.fake.fail_after("start", Times::Always, broken());
    t.fake.fail("destroy", Times::Always, broken());
    let end = ended(
        begin(&operations, key("a"), t.spawn(spec.clone()).await)
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(end.state, OperationState::Failed);
    let e = end.error.unwrap();
    assert_eq!(
        (e.reason(), e.phase()),
        ("HYPERVISOR_ERROR", Some(Phase::Start))
    );
    assert!(e.fields().contains_key("undo_failed"), "{:?}", e.fields());
    let steps = t.host.store.steps(end.id).await.unwrap();
    assert_eq!(
        steps.len(),
        8,
        "nothing below a guest that may run is touched"
    );
    let left = t.host.store.instance(instance).unwrap();
    assert_eq!(left.state, InstanceState::Building);
    let again = begin(&operations, key("a"), t.spawn(spec).await)
        .await
        .unwrap_err();
    assert_eq!(again.reason(), "INSTANCE_STATE");

    let stuck = ended(
        begin(&operations, key("a"), Destroy { instance })
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(stuck.error.unwrap().phase(), Some(Phase::Stop));
    t.fake.heal();
    let gone = ended(
        begin(&operations, key("a"), Destroy { instance })
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(gone.state, OperationState::Succeeded, "{:?}", gone.error);
    assert_eq!(t.snapshot().await, before);
    assert_eq!(
        t.host.store.unsettled().await.unwrap(),
        [],
        "nothing is owed"
    );
}

/// A recipe with a bug.
#[derive(Debug)]
struct Bug(InstanceId);

#[async_trait::async_trait]
impl Action for Bug {
    const VERB: Verb = Verb::Spawn;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.0)
    }

    fn admit(&self, _host: &Host) -> Result<()> {
        Ok(())
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        task.run(ClaimResources {
            instance: self.0,
            claim: Claim::default(),
            limits: Limits::default(),
            record: None,
        })
        .await?;
        panic!("as a bug would")
    }
}

#[tokio::test]
async fn a_panic_is_undone_as_any_failure_and_holds_nothing() {
    let t = TestHost::new().await;
    let (operations, instance) = (t.operations(), InstanceId::random());
    let end = ended(begin(&operations, key("a"), Bug(instance)).await.unwrap()).await;
    assert_eq!(
        (end.state, end.error.unwrap().kind()),
        (OperationState::Failed, Kind::Internal)
    );
    assert_eq!(t.host.store.steps(end.id).await.unwrap(), []);
    assert_eq!(
        (operations.holder(instance), operations.running()),
        (None, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hears_of_an_end_may_begin_the_next_at_once() {
    let t = TestHost::new().await;
    let (operations, instance) = (t.operations(), InstanceId::random());
    for turn in 0..100 {
        let begun = begin(&operations, key(&turn.to_string()), Destroy { instance }).await;
        ended(begun.unwrap_or_else(|e| panic!("turn {turn}: {e}"))).await;
    }
}

#[tokio::test]
async fn a_watcher_that_looks_late_still_sees_each_begin_and_end_in_order() {
    let t = TestHost::new().await;
    let operations = t.operations();
    let late = begin(&operations, key("a"), t.spawn(t.everything()).await)
        .await
        .unwrap();
    ended(late.clone()).await;
    let progress = late.borrow();
    let all = progress.after(0);
    let told: Vec<_> = all.iter().map(|e| (e.phase, e.edge)).collect();
    let phases = [
        Phase::Claim,
        Phase::FetchImage,
        Phase::CreateDisks,
        Phase::CreateDisks,
        Phase::ConfigDrive,
        Phase::PlugVifs,
        Phase::Define,
        Phase::Start,
        Phase::Running,
    ];
    let expected: Vec<_> = phases
        .iter()
        .flat_map(|p| [(*p, Edge::Begin), (*p, Edge::End)])
        .collect();
    assert_eq!(told, expected);
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    for (nth, event) in all.iter().enumerate() {
        assert_eq!(
            progress.after(event.sequence),
            all[nth + 1..],
            "what comes after the {nth}th"
        );
    }
}

#[tokio::test]
async fn ended_operations_are_listed_with_how_they_ended() {
    let t = TestHost::new().await;
    let operations = t.operations();
    let instance = t.spawned(t.spec()).await;
    ended(
        begin(&operations, key("a"), Destroy { instance })
            .await
            .unwrap(),
    )
    .await;
    let filter = OperationFilter {
        instance: Some(instance),
        limit: 10,
        ..OperationFilter::default()
    };
    let listed = operations.list(filter).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|record| (record.verb, record.state))
        .collect();
    assert_eq!(
        listed,
        [
            (Verb::Destroy, OperationState::Succeeded),
            (Verb::Spawn, OperationState::Succeeded)
        ]
    );
}
