use crate::hypervisor::power::Power as _;
use std::time::Duration;

use super::*;
use crate::hypervisor::Agent;

fn domain(id: InstanceId) -> Domain {
    Domain::example(id, VirtType::Test)
}

fn failure() -> HypervisorError {
    HypervisorError::Failed {
        call: "start",
        message: "out of luck".to_owned(),
        code: 1,
        domain: 10,
    }
}

async fn running(fake: &Fake) -> InstanceId {
    let id = InstanceId::random();
    fake.define(&domain(id)).await.unwrap();
    fake.start(id, StartMode::Running).await.unwrap();
    id
}

#[tokio::test]
async fn a_guest_lives_and_goes_without_a_trace() {
    let fake = Fake::new();
    let before = fake.snapshot();
    let id = running(&fake).await;
    assert_eq!(fake.info(id).await.unwrap().state, PowerState::Running);
    assert!(fake.undefine(id).await.is_err(), "it still runs");
    fake.destroy(id).await.unwrap();
    fake.destroy(id).await.unwrap();
    fake.undefine(id).await.unwrap();
    fake.undefine(id).await.unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[tokio::test]
async fn signals_tell_each_turn_of_a_life() {
    let fake = Fake::new();
    let id = InstanceId::random();
    fake.define(&domain(id)).await.unwrap();
    let signals = fake.signals(id);
    fake.start(id, StartMode::Paused).await.unwrap();
    assert_eq!(signals.borrow().state, Some(PowerState::Paused));
    fake.resume(id).await.unwrap();
    assert_eq!(signals.borrow().reason, Some("unpaused"));
    assert!(fake.ping_agent(id).await.is_err());
    fake.emit(id, Happening::AgentUp);
    fake.ping_agent(id).await.unwrap();
    fake.emit(id, Happening::Crash);
    assert_eq!(signals.borrow().reason, Some("failed"));
    assert!(!signals.borrow().agent);
}

#[tokio::test]
async fn faults_strike_as_often_as_told_and_before_or_after_the_effect() {
    let fake = Fake::new();
    let id = InstanceId::random();
    fake.define(&domain(id)).await.unwrap();
    fake.fail("start", Times::Next(1), failure());
    assert!(fake.start(id, StartMode::Running).await.is_err());
    assert_eq!(fake.info(id).await.unwrap().state, PowerState::Shutdown);
    fake.fail_after("start", Times::Always, failure());
    assert!(fake.start(id, StartMode::Running).await.is_err());
    assert_eq!(fake.info(id).await.unwrap().state, PowerState::Running);
    fake.heal();
    fake.start(id, StartMode::Running).await.unwrap();
}

#[tokio::test]
async fn foreign_guests_count_as_absent_and_are_never_written_over() {
    let fake = Fake::new();
    let id = InstanceId::random();
    fake.add_foreign(id);
    let before = fake.snapshot();
    assert!(fake.list().await.unwrap().is_empty());
    assert!(matches!(
        fake.info(id).await,
        Err(HypervisorError::NotFound(_))
    ));
    assert!(matches!(
        fake.define(&domain(id)).await,
        Err(HypervisorError::Foreign(_))
    ));
    fake.destroy(id).await.unwrap();
    fake.undefine(id).await.unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[tokio::test]
async fn nothing_is_known_while_the_link_is_down() {
    let fake = Fake::new();
    let id = running(&fake).await;
    fake.go_down("end of file");
    assert!(matches!(
        fake.info(id).await,
        Err(HypervisorError::Unavailable { .. })
    ));
    fake.come_back();
    assert_eq!(fake.info(id).await.unwrap().state, PowerState::Running);
}

#[tokio::test]
async fn a_held_call_waits_for_its_gate() {
    let fake = Fake::new();
    let id = InstanceId::random();
    fake.define(&domain(id)).await.unwrap();
    let mut gate = fake.hold("start");
    let start = tokio::spawn({
        let fake = fake.clone();
        async move { fake.start(id, StartMode::Running).await }
    });
    gate.reached().await;
    assert_eq!(fake.info(id).await.unwrap().state, PowerState::Shutdown);
    drop(gate);
    tokio::time::timeout(Duration::from_secs(60), start)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(fake.info(id).await.unwrap().state, PowerState::Running);
}
