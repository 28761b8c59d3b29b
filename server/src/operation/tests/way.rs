//! A destroy of what is being made, or brought back.

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{BringBack, Pause},
    model::PowerState,
};

/// Begins a destroy beside `holder`, which stands at a gate, and opens that once it has been asked to stop.
async fn destroyed(
    operations: &Operations,
    holder: &Watched,
    gate: crate::hypervisor::fake::Gate,
) -> OperationRecord {
    let instance = holder.borrow().record.instance.unwrap();
    let beside = operations.clone();
    let destroy = tokio::spawn(async move {
        let begun = begin(&beside, key("d"), Destroy { instance }).await;
        ended(begun.unwrap()).await
    });
    let asked = async {
        while !operations.cancelling(id(holder)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap();
    drop(gate);
    destroy.await.unwrap()
}

#[tokio::test]
async fn a_destroy_ends_a_spawn_that_still_runs() {
    let t = TestHost::new().await;
    let (operations, before) = (t.operations(), t.snapshot().await);
    let mut gate = t.fake.hold("define");
    let spawn = t.spawn(t.everything()).await;
    let spawn = begin(&operations, key("a"), spawn).await.unwrap();
    gate.reached().await;
    let end = destroyed(&operations, &spawn, gate).await;
    assert_eq!(end.state, OperationState::Succeeded, "{:?}", end.error);
    assert_eq!(ended(spawn).await.state, OperationState::Cancelled);
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_destroy_ends_a_guests_return_and_nobody_else_does() {
    let t = TestHost::new().await;
    let (operations, before) = (t.operations(), t.snapshot().await);
    let instance = t.spawned(t.spec()).await;
    t.fake.set_unheard(instance, PowerState::Shutdown);
    let mut gate = t.fake.hold("start");
    let back = begin(&operations, key("a"), BringBack { instance }).await;
    let back = back.unwrap();
    gate.reached().await;
    let pause = begin(&operations, key("b"), Pause { instance }).await;
    assert_eq!(pause.unwrap_err().reason(), "OPERATION_PENDING");
    assert!(!operations.cancelling(id(&back)));
    let end = destroyed(&operations, &back, gate).await;
    assert_eq!(end.state, OperationState::Succeeded, "{:?}", end.error);
    assert!(ended(back).await.state.is_final());
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_destroy_that_may_not_begin_stops_nobody() {
    let t = TestHost::new().await;
    let (operations, request) = (t.operations(), RequestId::random());
    let pull = PullImage { source: t.image() };
    let pull = begin(&operations, key_of(request, "a"), pull).await;
    ended(pull.unwrap()).await;
    let gate = t.fake.hold("start");
    let spec = t.spec();
    let instance = spec.id;
    let spawn = t.spawn(spec).await;
    let spawn = begin(&operations, key("a"), spawn).await.unwrap();
    let destroy = begin(&operations, key_of(request, "d"), Destroy { instance }).await;
    assert_eq!(destroy.unwrap_err().reason(), "REQUEST_ID_REUSED");
    assert!(!operations.cancelling(id(&spawn)));
    drop(gate);
    assert_eq!(ended(spawn).await.state, OperationState::Succeeded);
}
