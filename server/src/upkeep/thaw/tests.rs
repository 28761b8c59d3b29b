use crate::{
    hypervisor::fake::{Happening, Times},
    store::Quiesced,
    testing::TestHost,
};

use super::*;

/// More than any wait here takes.
const LIMIT: Duration = Duration::from_secs(60);

async fn frozen(t: &TestHost, until: SystemTime) -> InstanceId {
    let id = t.spawned(t.spec()).await;
    t.fake.emit(id, Happening::AgentUp);
    t.host.hypervisor.freeze(id).await.unwrap();
    let filesystems = 1;
    let known = Quiesced { until, filesystems };
    t.host.store.put_quiesced(id, known).await.unwrap();
    id
}

async fn forgotten(t: &TestHost, id: InstanceId) {
    let mut all = t.host.store.quiesced();
    let gone = all.wait_for(|all| !all.contains_key(&id));
    tokio::time::timeout(LIMIT, gone).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_freeze_that_outlived_its_server_ends_in_the_next_life() {
    let t = TestHost::new().await;
    let past = SystemTime::now() - Duration::from_secs(1);
    let late = SystemTime::now() + Duration::from_secs(600);
    let (over, fresh) = (frozen(&t, past).await, frozen(&t, late).await);
    let next = t.next_life().await;
    let (stop, host) = (CancellationToken::new(), next.host.clone());
    let looking = tokio::spawn(run(host, stop.clone()));
    forgotten(&next, over).await;
    assert!(!t.fake.inside(over, |inside| inside.frozen));
    assert!(t.fake.inside(fresh, |inside| inside.frozen));
    let all = next.host.store.quiesced().borrow().clone();
    assert_eq!(all.keys().collect::<Vec<_>>(), [&fresh]);
    stop.cancel();
    looking.await.unwrap();
}

#[tokio::test]
async fn a_thaw_is_tried_until_the_guest_has_heard_it_and_keeps_nobody_waiting() {
    let t = TestHost::new().await;
    let now = SystemTime::now();
    let (silent, other) = (frozen(&t, now).await, frozen(&t, now).await);
    t.fake.emit(silent, Happening::AgentDown);
    let looking = tokio::spawn(run(t.host.clone(), CancellationToken::new()));
    forgotten(&t, other).await;
    assert!(t.fake.inside(silent, |inside| inside.frozen));
    t.fake.emit(silent, Happening::AgentUp);
    forgotten(&t, silent).await;
    assert!(!t.fake.inside(silent, |inside| inside.frozen));
    looking.abort();
}

#[tokio::test]
async fn a_guest_that_is_off_is_frozen_no_more_and_a_paused_or_saved_one_still_is() {
    let t = TestHost::new().await;
    let now = SystemTime::now();
    let (off, paused) = (frozen(&t, now).await, frozen(&t, now).await);
    let saved = frozen(&t, now).await;
    t.fake.emit(off, Happening::PowerOff);
    t.host.hypervisor.pause(paused).await.unwrap();
    t.host.hypervisor.save(saved).await.unwrap();
    let looking = tokio::spawn(run(t.host.clone(), CancellationToken::new()));
    forgotten(&t, off).await;
    let all = t.host.store.quiesced().borrow().clone();
    assert!(all.contains_key(&paused) && all.contains_key(&saved));
    t.host.hypervisor.resume(paused).await.unwrap();
    t.host.hypervisor.restore(saved).await.unwrap();
    t.fake.emit(saved, Happening::AgentUp);
    forgotten(&t, paused).await;
    forgotten(&t, saved).await;
    assert!(!t.fake.inside(saved, |inside| inside.frozen));
    looking.abort();
}

#[tokio::test]
async fn a_thaw_that_fails_is_tried_again() {
    let t = TestHost::new().await;
    let id = frozen(&t, SystemTime::now()).await;
    let failure = HypervisorError::AgentTimeout(id);
    t.fake.fail("thaw", Times::Next(1), failure);
    let looking = tokio::spawn(run(t.host.clone(), CancellationToken::new()));
    forgotten(&t, id).await;
    assert!(!t.fake.inside(id, |inside| inside.frozen));
    looking.abort();
}
