//! Every action fails at every step, and leaves the host as it was.

mod again;
mod change;
mod devices;
mod inside;
mod layers;
mod merges;
mod rebuild;
mod rescue;
mod resize;
mod secret;
mod snapshot;
mod stale;
mod still;
mod volume_root;

use std::time::Duration;

use pretty_assertions::assert_eq;

use super::{
    Action, Destroy, PruneImages, PullImage, RemoveImage, RemovedImages, Spawn, WantedImage,
};
use crate::{
    error::Error,
    hypervisor::{
        HypervisorError,
        fake::{Fake, Times},
    },
    model::{Bytes, DiskFormat, InstanceId, InstanceSpec, Phase, WaitFor, WaitTarget},
    step,
    task::Task,
    testing::TestHost,
    vif::VifError,
};

const ALL_STEPS: usize = 8;

fn broken(call: &'static str) -> HypervisorError {
    HypervisorError::Failed {
        call,
        message: "out of luck".to_owned(),
        code: 1,
        domain: 10,
    }
}

/// Lets the action fail at each step in turn. Answers with how many there are.
async fn assert_unwinds<A: Action>(t: &TestHost, make: impl AsyncFn(&TestHost) -> A) -> usize {
    let before = t.snapshot().await;
    for nth in 0.. {
        let action = make(t).await;
        let mut task = t.task(&action).await.failing_at(nth);
        let Err(e) = action.run(&mut task).await else {
            return task.steps();
        };
        assert_eq!(task.steps(), nth + 1, "{e}");
        assert!(e.phase().is_some(), "{e} names no phase");
        assert_taken_back(t, task).await;
        assert_eq!(
            t.snapshot().await,
            before,
            "step {nth} left something behind"
        );
    }
    unreachable!()
}

async fn assert_taken_back(t: &TestHost, mut task: Task) {
    task.unwind().await.unwrap();
    let operation = task.report().record().id;
    assert_eq!(t.host.store.steps(operation).await.unwrap(), []);
}

/// A host with a guest that nothing may happen to, and a domain that is not ours.
async fn inhabited() -> TestHost {
    let t = TestHost::new().await;
    t.spawned(t.everything()).await;
    t.fake.add_foreign(InstanceId::random());
    t
}

#[tokio::test]
async fn a_spawn_with_everything_unwinds_from_every_step() {
    let t = inhabited().await;
    let steps = assert_unwinds(&t, async |t| t.spawn(t.everything()).await).await;
    assert_eq!(steps, ALL_STEPS);
}

#[tokio::test]
async fn a_small_spawn_unwinds_from_every_step() {
    let t = inhabited().await;
    let steps = assert_unwinds(&t, async |t| {
        let mut spec = t.spec();
        spec.flavor.root = Some(Bytes(2 << 20));
        t.spawn(spec).await
    });
    assert_eq!(
        steps.await,
        ALL_STEPS - 2,
        "no config drive, and the root disk is claimed at once"
    );
}

#[tokio::test]
async fn a_pull_takes_no_step_and_leaves_nothing_when_it_fails() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    let mut source = t.image();
    source.file.sha256 = Some([7; 32]);
    let pull = PullImage { source };
    let mut task = t.task(&pull).await;
    let e = pull.run(&mut task).await.unwrap_err();
    assert_eq!(
        (e.reason(), e.phase()),
        ("IMAGE_CHECKSUM_MISMATCH", Some(Phase::FetchImage))
    );
    assert_eq!(t.snapshot().await, before);
    let steps = assert_unwinds(&t, async |t| PullImage { source: t.image() }).await;
    assert_eq!(steps, 0);
}

#[tokio::test]
async fn an_image_that_a_guest_rests_on_outlives_every_removal() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    let used = t.host.images.list().await.unwrap().remove(0);
    let sha256 = WantedImage::Sha256(used.record.sha256);
    for image in [sha256, WantedImage::Id(used.record.id)] {
        let remove = RemoveImage { image };
        let mut task = t.task(&remove).await;
        let e = remove.run(&mut task).await.unwrap_err();
        assert_eq!(e.reason(), "IMAGE_IN_USE");
    }
    let unused_for = Some(Duration::ZERO);
    let prune = PruneImages { unused_for };
    let mut task = t.task(&prune).await;
    prune.run(&mut task).await.unwrap();
    let told: RemovedImages = task.report().record().answer().unwrap();
    assert_eq!((told.images.len(), told.freed), (0, Bytes(0)));
    assert_eq!(t.snapshot().await, before);
}

/// Runs a spawn that must fail by itself, and takes it back.
async fn failed(t: &TestHost, spec: InstanceSpec) -> Error {
    let action = t.spawn(spec).await;
    let mut task = t.task(&action).await;
    let e = action.run(&mut task).await.unwrap_err();
    assert_taken_back(t, task).await;
    e
}

#[tokio::test]
async fn a_failing_call_of_the_hypervisor_leaves_nothing_before_or_after_its_effect() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    for (call, phase) in [("define", Phase::Define), ("start", Phase::Start)] {
        for fail in [Fake::fail, Fake::fail_after] {
            fail(&t.fake, call, Times::Next(1), broken(call));
            let e = failed(&t, t.everything()).await;
            assert_eq!((e.reason(), e.phase()), ("HYPERVISOR_ERROR", Some(phase)));
            assert_eq!(t.snapshot().await, before, "{call} left something behind");
        }
    }
}

#[tokio::test]
async fn a_call_of_the_way_back_is_tried_again_when_it_fails() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    for call in ["destroy", "undefine"] {
        for fail in [Fake::fail, Fake::fail_after] {
            fail(&t.fake, call, Times::Next(1), broken(call));
            t.fake.fail_after("start", Times::Next(1), broken("start"));
            failed(&t, t.everything()).await;
            assert_eq!(t.snapshot().await, before, "{call} left something behind");
        }
    }
}

#[tokio::test]
async fn an_overloaded_hypervisor_is_waited_for_however_long_it_takes() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    t.fake.fail_after("start", Times::Next(1), broken("start"));
    t.fake
        .fail("destroy", Times::Next(4), HypervisorError::Busy);
    failed(&t, t.spec()).await;
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_failure_of_the_spec_s_own_leaves_nothing_and_names_its_phase() {
    type Break = fn(&TestHost, &mut InstanceSpec);
    let t = inhabited().await;
    let before = t.snapshot().await;
    let all: [(Break, &str, Phase); 8] = [
        (
            |_, s| s.flavor.memory = Bytes(1 << 40),
            "HOST_RESOURCES",
            Phase::Claim,
        ),
        (
            |_, s| s.image.as_mut().unwrap().file.location.push('x'),
            "IMAGE_NOT_FOUND",
            Phase::FetchImage,
        ),
        (
            |_, s| s.image.as_mut().unwrap().file.sha256 = Some([7; 32]),
            "IMAGE_CHECKSUM_MISMATCH",
            Phase::FetchImage,
        ),
        (
            |_, s| s.image.as_mut().unwrap().format = DiskFormat::Qcow2,
            "IMAGE_UNACCEPTABLE",
            Phase::FetchImage,
        ),
        (
            |_, s| s.kernel.as_mut().unwrap().kernel.location.push('x'),
            "IMAGE_NOT_FOUND",
            Phase::FetchImage,
        ),
        (
            |_, s| s.flavor.root = Some(Bytes(512)),
            "FLAVOR_DISK_TOO_SMALL",
            Phase::FetchImage,
        ),
        (
            |_, s| s.limits.disk = Some(Bytes(7 << 30)),
            "HOST_RESOURCES",
            Phase::CreateDisks,
        ),
        (
            |_, s| {
                s.wait_for = Some(WaitFor {
                    target: WaitTarget::Phase(Phase::Kernel),
                    timeout: Duration::ZERO,
                });
            },
            "WAIT_TIMEOUT",
            Phase::Kernel,
        ),
    ];
    for (wrong, reason, phase) in all {
        let mut spec = t.everything();
        wrong(&t, &mut spec);
        let e = failed(&t, spec).await;
        assert_eq!((e.reason(), e.phase()), (reason, Some(phase)), "{e}");
        assert_eq!(t.snapshot().await, before, "{e} left something behind");
    }
}

#[tokio::test]
async fn a_file_where_the_folder_must_go_fails_the_spawn_and_stays() {
    let t = TestHost::new().await;
    let spec = t.spec();
    std::fs::write(t.host.paths.instance(spec.id), b"not ours").unwrap();
    let before = t.snapshot().await;
    let e = failed(&t, spec).await;
    assert_eq!(e.phase(), Some(Phase::CreateDisks), "{e}");
    assert_eq!(t.snapshot().await, before);
}

#[tokio::test]
async fn a_disk_or_a_drive_that_cannot_be_written_leaves_nothing() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let spec = t.everything();
    let plan = crate::plan::build(
        &spec,
        &t.host.hypervisor.capabilities().await.unwrap(),
        &t.host.plan,
    )
    .unwrap();
    for disk in &plan.disks {
        // A folder in the disk's place: those before it are made, it is not.
        let place = t.host.paths.instance(spec.id).join(&disk.file_name);
        std::fs::create_dir_all(place.join("in the way")).unwrap();
        let e = failed(&t, spec.clone()).await;
        assert!(
            matches!(e.phase(), Some(Phase::CreateDisks | Phase::ConfigDrive)),
            "{e}"
        );
        assert_eq!(
            t.snapshot().await,
            before,
            "{} left something behind",
            disk.file_name
        );
    }
}

#[tokio::test]
async fn an_interface_that_is_not_plugged_takes_all_before_it_along() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let no = || VifError::NoBridge {
        interface: "eth0".parse().unwrap(),
        bridge: "br0".to_owned(),
    };
    t.vifs.fail_plug(no());
    let e = failed(&t, t.everything()).await;
    assert_eq!(
        (e.reason(), e.phase()),
        ("NETWORK_NOT_FOUND", Some(Phase::PlugVifs))
    );
    assert_eq!(t.snapshot().await, before);
}

/// The rows of a spawn that failed at its last step, which is applied.
async fn whole_spawn(t: &TestHost, nth: usize) -> (Spawn, Task, Vec<crate::store::BegunStep>) {
    let action = t.spawn(t.everything()).await;
    let mut task = t.task(&action).await.failing_at(nth);
    action.run(&mut task).await.unwrap_err();
    let rows = t.host.store.steps(task.report().record().id).await.unwrap();
    assert_eq!(rows.len(), nth + 1);
    (action, task, rows)
}

#[tokio::test]
async fn every_step_is_taken_back_from_what_was_written_down_and_twice() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    for nth in 0..ALL_STEPS {
        let (_, task, rows) = whole_spawn(&t, nth).await;
        for time in ["the first", "the second"] {
            let begun = rows
                .iter()
                .map(step::read)
                .collect::<Result<_, _>>()
                .unwrap();
            let record = task.report().record();
            let mut back = Task::resumed(t.host.clone(), record.id, task.report().clone(), begun);
            back.unwind().await.unwrap();
            assert_eq!(
                t.snapshot().await,
                before,
                "{time} way back from step {nth}"
            );
        }
    }
}

#[tokio::test]
async fn a_destroy_that_fails_is_repeated_until_nothing_is_left() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let id = t.spawned(t.everything()).await;
    let destroy = Destroy { instance: id };
    for (call, phase) in [("destroy", Phase::Stop), ("undefine", Phase::Undefine)] {
        for fail in [Fake::fail, Fake::fail_after] {
            fail(&t.fake, call, Times::Next(1), broken(call));
            let e = destroy.run(&mut t.task(&destroy).await).await.unwrap_err();
            assert_eq!(e.phase(), Some(phase));
            assert!(t.host.store.instance(id).is_some(), "it stays listed");
        }
    }
    let no = VifError::NotBridge {
        interface: "eth0".parse().unwrap(),
        bridge: "br0".to_owned(),
    };
    t.vifs.fail_unplug(no);
    let e = destroy.run(&mut t.task(&destroy).await).await.unwrap_err();
    assert_eq!(e.phase(), Some(Phase::UnplugVifs));
    assert!(
        t.host.paths.instance(id).is_dir(),
        "disks go after all that may use them"
    );
    t.vifs.fail_unplug(None);
    for _ in 0..2 {
        destroy.run(&mut t.task(&destroy).await).await.unwrap();
        assert_eq!(t.snapshot().await, before);
    }
}
