//! Guests' file systems, frozen for a while.

use super::*;

/// Writes and tells so, again and again: a guest that is frozen tells no more.
pub(super) const BEAT: &str = r#"
(n=0; while :; do n=$((n + 1)); echo $n > /beat && sync && echo "GUEST-BEAT $n" > /dev/console; usleep 200000; done) &"#;

fn for_seconds(id: &str, seconds: i64) -> v1::QuiesceRequest {
    v1::QuiesceRequest {
        instance_id: id.to_owned(),
        deadline: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

/// The last beat that the console shows.
pub(super) async fn beat(sandbox: &Sandbox, id: &str) -> u64 {
    let console = console(sandbox, id).await;
    let last = console
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("GUEST-BEAT "));
    last.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_guest_is_frozen_and_thawed_and_both_may_be_said_twice() {
    let sandbox = Sandbox::start(&[]).await;
    let request = scripted(BEAT, "GUEST-BEATS");
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut instances = sandbox.instances().await;
    let frozen = instances.quiesce(for_seconds(&id, 600)).await.unwrap();
    let frozen = frozen.into_inner();
    assert_eq!(frozen.frozen_filesystems, 1);
    let again = instances.quiesce(for_seconds(&id, 500)).await.unwrap();
    let again = again.into_inner();
    assert_eq!(again.frozen_filesystems, 1);
    let time = |time: Option<prost_types::Timestamp>| time.expect("a time").seconds;
    assert!(time(again.thaw_time) < time(frozen.thaw_time));

    let before = beat(&sandbox, &id).await;
    let thaw = v1::UnquiesceRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let thawed = instances.unquiesce(thaw.clone()).await.unwrap();
    assert!(thawed.into_inner().thawed_filesystems >= 1);
    crate::support::until("a beat", async || {
        (beat(&sandbox, &id).await > before + 1).then_some(())
    })
    .await;
    let thawed = instances.unquiesce(thaw).await.unwrap();
    assert_eq!(thawed.into_inner().thawed_filesystems, 0);
}

#[tokio::test]
async fn a_freeze_ends_in_time_though_its_server_was_killed() {
    let mut sandbox = Sandbox::start(&[]).await;
    let request = scripted(BEAT, "GUEST-BEATS");
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut instances = sandbox.instances().await;
    instances.quiesce(for_seconds(&id, 5)).await.unwrap();
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    let before = beat(&sandbox, &id).await;
    crate::support::until("a beat after the freeze", async || {
        (beat(&sandbox, &id).await > before + 2).then_some(())
    })
    .await;
    assert!(
        sandbox.logged().contains("the time of a freeze is over"),
        "somebody else thawed it"
    );
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_guest_without_an_agent_is_not_frozen_and_thaws_when_it_is_off() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(crate::support::request()).await.unwrap();
    let id = instance.instance_id;
    let mut instances = sandbox.instances().await;
    let status = instances.quiesce(for_seconds(&id, 60)).await.unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_UNAVAILABLE", "{status:?}");
    let status = instances.quiesce(for_seconds(&id, 601)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
    let off = v1::PowerOffRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let mut ends = instances.power_off(off).await.unwrap().into_inner();
    while ends.message().await.unwrap().is_some() {}
    let status = instances.quiesce(for_seconds(&id, 60)).await.unwrap_err();
    assert_eq!(reason(&status), "INSTANCE_STATE", "{status:?}");
    let thaw = v1::UnquiesceRequest {
        instance_id: id,
        ..Default::default()
    };
    let thawed = instances.unquiesce(thaw).await.unwrap();
    assert_eq!(thawed.into_inner().thawed_filesystems, 0);
}
