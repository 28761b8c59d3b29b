//! A size is had whole, or the old one is kept.

use pretty_assertions::assert_eq;

use super::{assert_unwinds, inhabited};
use crate::{
    action::{Action, Resize},
    model::{Bytes, Flavor, InstanceId, Limits, MEMORY_MODULE, PowerState},
    testing::TestHost,
};

pub(super) async fn resize(
    t: &TestHost,
    instance: InstanceId,
    change: impl FnOnce(&mut Flavor),
) -> Resize {
    let record = t.host.store.instance(instance).unwrap();
    let mut flavor = record.spec.flavor.clone();
    change(&mut flavor);
    Resize {
        instance,
        flavor,
        may_restart: true,
        limits: Limits::default(),
    }
}

#[tokio::test]
async fn a_resize_with_a_restart_unwinds_from_every_step() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let steps = assert_unwinds(&t, async |t| resize(t, id, |flavor| flavor.vcpus = 2).await);
    assert_eq!(steps.await, 5, "no disk grows");
}

#[tokio::test]
async fn more_processors_come_with_a_restart_and_are_claimed() {
    let t = inhabited().await;
    let id = t.spawned(t.spec()).await;
    let held = t.host.claims.held();
    let action = resize(&t, id, |flavor| flavor.vcpus = 3).await;
    let mut task = t.task(&action).await;
    action.run(&mut task).await.unwrap();
    let kept = task.kept().unwrap();
    assert_eq!(kept.spec.flavor.vcpus, 3);
    assert_eq!(t.host.claims.held().vcpus, held.vcpus + 2);
    let guest = t.host.hypervisor.info(id).await.unwrap();
    assert_eq!((guest.num_cpu, guest.state), (3, PowerState::Running));
}

/// A guest that may be given more while it runs.
async fn roomy(t: &TestHost) -> InstanceId {
    let mut spec = t.spec();
    spec.flavor.max_vcpus = Some(4);
    spec.flavor.max_memory = Some(Bytes(spec.flavor.memory.0 + 8 * MEMORY_MODULE.0));
    t.spawned(spec).await
}

fn more(flavor: &mut Flavor) {
    flavor.vcpus = 3;
    flavor.memory = Bytes(flavor.memory.0 + 2 * MEMORY_MODULE.0);
}

#[tokio::test]
async fn a_live_resize_unwinds_from_every_step() {
    let t = inhabited().await;
    let id = roomy(&t).await;
    let steps = assert_unwinds(&t, async |t| Resize {
        may_restart: false,
        ..resize(t, id, more).await
    });
    assert_eq!(steps.await, 4, "claim, definition, processors, memory");
}

#[tokio::test]
async fn processors_and_memory_come_live_up_to_the_most_that_the_flavor_says() {
    let t = inhabited().await;
    let id = roomy(&t).await;
    let live = async |change: fn(&mut Flavor)| {
        let action = Resize {
            may_restart: false,
            ..resize(&t, id, change).await
        };
        let mut task = t.task(&action).await;
        let done = action.run(&mut task).await;
        if let Some(kept) = task.kept() {
            t.host.store.put_instance(kept.clone()).await.unwrap();
        }
        done.map_err(|e| (e.reason().to_owned(), e.to_string()))
    };
    live(more).await.unwrap();
    let guest = t.host.hypervisor.info(id).await.unwrap();
    assert_eq!((guest.num_cpu, guest.state), (3, PowerState::Running));
    live(more).await.unwrap();
    type Ask = fn(&mut Flavor);
    let refusals: [(Ask, &str); 5] = [
        (|f| f.vcpus = 2, "taking away"),
        (|f| f.vcpus = 5, "present max_vcpus"),
        (|f| f.max_vcpus = Some(8), "another max_vcpus"),
        (|f| f.memory.0 += 1 << 20, "128 MiB"),
        (
            |f| f.extra_specs = [("hw:boot_menu".to_owned(), "true".to_owned())].into(),
            "extra specs",
        ),
    ];
    for (change, words) in refusals {
        let (reason, message) = live(change).await.unwrap_err();
        assert_eq!(reason, "NOT_SUPPORTED");
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_touched() {
    let t = inhabited().await;
    let mut spec = t.spec();
    spec.flavor.root = Some(Bytes(2 << 20));
    let id = t.spawned(spec).await;
    let before = t.snapshot().await;
    type Break = fn(&mut Resize);
    let all: [(Break, &str); 4] = [
        (
            |r| r.flavor.root = Some(Bytes(1 << 20)),
            "FLAVOR_DISK_TOO_SMALL",
        ),
        (|r| r.flavor.swap = Some(Bytes(1 << 20)), "NOT_SUPPORTED"),
        (
            |r| {
                r.flavor.vcpus = 2;
                r.may_restart = false;
            },
            "NOT_SUPPORTED",
        ),
        (|r| r.flavor.memory = Bytes(1 << 40), "HOST_RESOURCES"),
    ];
    for (spoil, reason) in all {
        let mut action = resize(&t, id, |_| ()).await;
        spoil(&mut action);
        assert_eq!(action.check(&t.host).await.unwrap_err().reason(), reason);
        let mut task = t.task(&action).await;
        assert_eq!(action.run(&mut task).await.unwrap_err().reason(), reason);
        assert_eq!(t.snapshot().await, before);
    }
}

#[tokio::test]
async fn a_root_disk_grows_while_the_guest_runs_and_is_never_cut() {
    let t = inhabited().await;
    let mut spec = t.spec();
    spec.flavor.root = Some(Bytes(2 << 20));
    let id = t.spawned(spec).await;
    // An earlier one that failed later left it larger.
    let left = Bytes(8 << 20);
    for (is, asked, will_be) in [(2 << 20, 4 << 20, 4 << 20), (left.0, 4 << 20, left.0)] {
        t.fake.set_disk_size(id, "vda", Bytes(is));
        let action = resize(&t, id, |flavor| flavor.root = Some(Bytes(asked))).await;
        let action = Resize {
            may_restart: false,
            ..action
        };
        let mut task = t.task(&action).await;
        action.run(&mut task).await.unwrap();
        let now = t.host.hypervisor.disk_size(id, "vda").await.unwrap();
        assert_eq!(now, Bytes(will_be));
    }
}
