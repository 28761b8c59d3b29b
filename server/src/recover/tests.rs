//! What a server finds that starts after one that crashed, and what it makes of it.

mod owed;

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{AttachVolume, Pause, PullImage, Spawn, SwapVolume},
    hypervisor::fake::Times,
    model::{BlockDevice, BlockSource, DiskId, InstanceId, OperationId, Phase, VolumeTarget},
    store::BegunStep,
    testing::{LIMIT, Snapshot, TestHost, ended, key, volume},
    vif::VifError,
};

/// Runs a spawn of everything until it has applied its `nth` step, or to its end, and crashes there. Answers with the
/// instance, the operation and the rows it left.
async fn crashed(t: &TestHost, nth: usize) -> (InstanceId, OperationId, Vec<BegunStep>) {
    let action: Spawn = t.spawn(t.everything()).await;
    let mut task = t.task(&action).await.failing_at(nth);
    let _ = action.run(&mut task).await;
    let operation = task.report().record().id;
    let rows = t.host.store.steps(operation).await.unwrap();
    (action.instance().unwrap(), operation, rows)
}

const NEVER: usize = usize::MAX;
const ALL_STEPS: usize = 8;

async fn recovered(t: &TestHost) -> TestHost {
    let next = t.next_life().await;
    Box::pin(run(&next.host)).await.unwrap();
    next
}

async fn record(t: &TestHost, id: OperationId) -> OperationRecord {
    t.host.store.operation(id).await.unwrap().unwrap()
}

async fn assert_undone(t: &TestHost, before: &Snapshot, operation: OperationId) {
    assert_eq!(t.snapshot().await, *before);
    let end = record(t, operation).await;
    assert_eq!(end.state, OperationState::Failed);
    assert_eq!(end.error.unwrap().reason(), "OPERATION_INTERRUPTED");
    assert_eq!(t.host.store.unsettled().await.unwrap(), []);
}

#[tokio::test]
async fn a_spawn_is_undone_from_whichever_step_it_had_applied() {
    let t = TestHost::new().await;
    t.spawned(t.everything()).await;
    t.fake.add_foreign(InstanceId::random());
    // What is never stored does not outlive a server: the next one is compared with one like itself.
    let before = t.next_life().await.snapshot().await;
    // All but the last: once it is started, the guest runs.
    for nth in 0..ALL_STEPS - 1 {
        let (_, operation, _) = crashed(&t, nth).await;
        let next = recovered(&t).await;
        assert_undone(&next, &before, operation).await;
    }
}

#[tokio::test]
async fn a_step_that_was_written_down_and_not_applied_is_taken_back_too() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    for nth in 0..ALL_STEPS {
        // The call that the step makes first never comes: the crash is between the row and the effect.
        let (instance, operation, rows) = crashed(&t, nth).await;
        let begun = rows.iter().map(step::read).collect::<Result<_>>().unwrap();
        let (report, _) = Reporter::new(record(&t, operation).await);
        let mut task = Task::resumed(t.host.clone(), operation, report, begun);
        task.unwind().await.unwrap();
        for row in rows {
            t.host.store.begin_step(operation, row).await.unwrap();
        }
        assert!(t.host.store.instance(instance).is_none());
        let next = recovered(&t).await;
        assert_undone(&next, &before, operation).await;
    }
}

#[tokio::test]
async fn a_guest_that_runs_is_adopted_with_all_that_it_holds() {
    let t = TestHost::new().await;
    let (id, operation, _) = crashed(&t, NEVER).await;
    let before = t.snapshot().await;
    let calls = t.fake.calls().len();
    let next = recovered(&t).await;
    let adopted = next.host.store.instance(id).unwrap();
    assert_eq!(adopted.state, InstanceState::Active);
    assert!(adopted.launched.is_some());
    let end = record(&next, operation).await;
    assert_eq!((end.state, end.error), (OperationState::Succeeded, None));
    assert_eq!(next.host.store.unsettled().await.unwrap(), []);
    let calls = t.fake.calls().split_off(calls);
    let touches = ["define", "start", "destroy", "undefine"];
    assert!(
        !calls.iter().any(|call| touches.contains(call)),
        "{calls:?}"
    );
    // But for its state and its launch, nothing has changed: claims and pins are as before the crash.
    next.host
        .store
        .put_instance((*t.host.store.instance(id).unwrap()).clone())
        .await
        .unwrap();
    assert_eq!(next.snapshot().await, before);
    for image in next.host.images.list().await.unwrap() {
        assert!(
            next.host.images.remove(&image.key).await.is_err(),
            "{image:?} is in use"
        );
    }
}

#[tokio::test]
async fn a_guest_that_runs_though_its_spawn_was_being_undone_is_not_adopted() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let (_, operation, _) = crashed(&t, NEVER).await;
    let mut unwinding = record(&t, operation).await;
    unwinding.state = OperationState::Unwinding;
    t.host.store.put_operation(unwinding).await.unwrap();
    let next = recovered(&t).await;
    assert_undone(&next, &before, operation).await;
}

#[tokio::test]
async fn nothing_is_judged_until_the_hypervisor_answers() {
    let t = TestHost::new().await;
    let (id, operation, rows) = crashed(&t, NEVER).await;
    t.fake.go_down("not there yet");
    let next = t.next_life().await;
    let calls = t.fake.calls().len();
    let mut recovery = Box::pin(run(&next.host));
    assert!(futures::poll!(&mut recovery).is_pending());
    assert_eq!(t.fake.calls().len(), calls, "nobody is asked");
    assert!(next.host.store.instance(id).is_some());
    assert_eq!(next.host.store.steps(operation).await.unwrap(), rows);
    t.fake.come_back();
    tokio::time::timeout(LIMIT, recovery)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        next.host.store.instance(id).unwrap().state,
        InstanceState::Active
    );
}

#[tokio::test]
async fn a_hypervisor_that_goes_away_meanwhile_is_no_answer_and_is_asked_again() {
    let t = TestHost::new().await;
    let (id, _, rows) = crashed(&t, NEVER).await;
    let away = HypervisorError::Unavailable {
        reason: "end of file".to_owned(),
    };
    t.fake.fail("info", Times::Next(1), away);
    let next = t.next_life().await;
    let e = Box::pin(run(&next.host)).await.unwrap_err();
    assert!(e.passes(), "{e}");
    let owed = next.host.store.unsettled().await.unwrap();
    assert_eq!(next.host.store.steps(owed[0].id).await.unwrap(), rows);
    Box::pin(run(&next.host)).await.unwrap();
    assert_eq!(
        next.host.store.instance(id).unwrap().state,
        InstanceState::Active
    );
}

#[tokio::test]
async fn a_destroy_is_finished_from_wherever_it_was() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let no = || HypervisorError::Failed {
        call: "any",
        message: "as a crash here".to_owned(),
        code: 1,
        domain: 10,
    };
    for call in ["destroy", "undefine", "none"] {
        let instance = t.spawned(t.everything()).await;
        let destroy = Destroy { instance };
        let mut task = t.task(&destroy).await;
        t.fake.fail_after(call, Times::Next(1), no());
        let _ = destroy.run(&mut task).await;
        let next = recovered(&t).await;
        assert_eq!(next.snapshot().await, before, "crashed in {call}");
        let end = record(&next, task.report().record().id).await;
        assert_eq!(end.state, OperationState::Succeeded);
    }
}

#[tokio::test]
async fn a_pull_is_marked_interrupted() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let pull = PullImage { source: t.image() };
    let operation = t.task(&pull).await.report().record().id;
    assert_undone(&recovered(&t).await, &before, operation).await;
}

fn unplugs_nothing() -> VifError {
    VifError::NotBridge {
        interface: "eth0".parse().unwrap(),
        bridge: "br0".to_owned(),
    }
}

#[tokio::test]
async fn what_cannot_be_undone_waits_for_the_next_start_and_keeps_nobody_waiting() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let (id, operation, _) = crashed(&t, ALL_STEPS - 2).await;
    t.vifs.fail_unplug(unplugs_nothing());
    let next = recovered(&t).await;
    let end = record(&next, operation).await;
    assert_eq!(end.state, OperationState::Failed);
    assert!(end.ended.is_some(), "who asks for it hears of an end");
    assert!(end.error.unwrap().fields().contains_key("undo_failed"));
    assert!(next.host.store.instance(id).is_some(), "it stays listed");
    assert_ne!(next.host.store.steps(operation).await.unwrap(), []);
    t.vifs.fail_unplug(None);
    assert_eq!(recovered(&next).await.snapshot().await, before);
}

#[tokio::test]
async fn a_destroy_that_cannot_be_finished_keeps_nobody_waiting() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let instance = t.spawned(t.everything()).await;
    let operation = t.task(&Destroy { instance }).await.report().record().id;
    t.vifs.fail_unplug(unplugs_nothing());
    let next = recovered(&t).await;
    let end = record(&next, operation).await;
    assert_eq!(end.state, OperationState::Failed);
    assert_eq!(end.error.unwrap().phase(), Some(Phase::UnplugVifs));
    t.vifs.fail_unplug(None);
    let again = Box::pin(next.operations().begin(key("a"), Destroy { instance })).await;
    assert_eq!(ended(again.unwrap()).await.state, OperationState::Succeeded);
    assert_eq!(next.snapshot().await, before);
}

#[tokio::test]
async fn a_step_of_a_newer_version_stops_only_its_own_undo() {
    let t = TestHost::new().await;
    let (id, operation, rows) = crashed(&t, 1).await;
    let strange = BegunStep {
        number: u32::try_from(rows.len()).unwrap(),
        name: "a step of tomorrow".to_owned(),
        body: "{}".to_owned(),
    };
    t.host.store.begin_step(operation, strange).await.unwrap();
    let (_, other, _) = crashed(&t, 3).await;
    let next = recovered(&t).await;
    assert_eq!(record(&next, operation).await.state, OperationState::Failed);
    assert!(next.host.store.instance(id).is_some());
    assert_eq!(next.host.store.steps(operation).await.unwrap().len(), 3);
    assert_eq!(
        next.host.store.steps(other).await.unwrap(),
        [],
        "the others are undone"
    );
}

#[tokio::test]
async fn a_guest_of_ours_that_the_store_does_not_know_is_left_alone() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    t.host.store.remove_instance(id).await.unwrap();
    let next = recovered(&t).await;
    assert!(next.fake.snapshot().contains_key(&id));
}

#[tokio::test]
async fn a_change_that_a_crash_cut_is_undone_and_says_how_the_guest_stands() {
    let t = TestHost::new().await;
    let instance = t.spawned(t.everything()).await;
    let before = t.next_life().await.snapshot().await;
    let pause = Pause { instance };
    let mut task = t.task(&pause).await.failing_at(0);
    pause.run(&mut task).await.unwrap_err();
    assert_ne!(t.fake.snapshot()[&instance].state, PowerState::Running);
    let operation = task.report().record().id;
    let next = recovered(&t).await;
    assert_undone(&next, &before, operation).await;
    let e = record(&next, operation).await.error.unwrap();
    assert_eq!(e.fields()["power_state"], "RUNNING");
}

#[tokio::test]
async fn a_power_action_that_the_host_came_back_from_has_succeeded() {
    use crate::action::{HostPower, PowerVerb};
    let power = HostPower {
        verb: PowerVerb::Reboot,
        command: vec!["true".to_owned()],
        force: false,
    };
    let t = TestHost::new().await;
    let begun = async |when: SystemTime| {
        let mut unfinished = t.task(&power).await.report().record();
        unfinished.begun = when;
        let id = unfinished.id;
        t.host.store.put_operation(unfinished).await.unwrap();
        id
    };
    let before_the_boot = begun(SystemTime::UNIX_EPOCH).await;
    let now = begun(SystemTime::now()).await;
    let next = recovered(&t).await;
    let state = OperationState::Succeeded;
    assert_eq!(record(&next, before_the_boot).await.state, state);
    let interrupted = record(&next, now).await.error.unwrap();
    assert_eq!(interrupted.reason(), "OPERATION_INTERRUPTED");
}

#[tokio::test]
async fn a_swap_is_finished_once_its_pivot_was_begun_and_undone_before() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let location = |name: &str| t.file(name, &[0; 1 << 20]).location;
    let volume = |name: &str| {
        let path = location(name).strip_prefix("file://").unwrap().into();
        volume(VolumeTarget::Local { path })
    };
    let (old, new) = (volume("old"), volume("new"));
    let disk: DiskId = "vol".parse().unwrap();
    let attach = AttachVolume {
        instance: id,
        device: BlockDevice {
            id: disk.clone(),
            device_name: None,
            bus: None,
            boot_index: None,
            source: BlockSource::Volume(Box::new(old.clone())),
        },
    };
    let progress = Box::pin(t.operations().begin(key("attach"), attach)).await;
    ended(progress.unwrap()).await;
    t.fake.set_disk_size(id, "vdb", Bytes(1 << 20));
    for (nth, expected, state) in [
        (0, old.id, OperationState::Failed),
        (1, new.id, OperationState::Succeeded),
    ] {
        let action = SwapVolume {
            instance: id,
            disk: disk.clone(),
            volume: new.clone(),
            bandwidth: None,
        };
        let mut task = t.task(&action).await.failing_at(nth);
        action.run(&mut task).await.unwrap_err();
        let operation = task.report().record().id;
        let next = recovered(&t).await;
        assert_eq!(record(&next, operation).await.state, state);
        let instance = next.host.store.instance(id).unwrap();
        let volume = instance.spec.block_devices[0].volume().unwrap().id;
        assert_eq!(volume, expected, "cut after step {nth}");
    }
}

fn attach(t: &TestHost, instance: InstanceId) -> AttachVolume {
    let location = t.file("vol", &[0; 1 << 20]).location;
    let path = location.strip_prefix("file://").unwrap().into();
    AttachVolume {
        instance,
        device: BlockDevice {
            id: "vol".parse().unwrap(),
            device_name: None,
            bus: None,
            boot_index: None,
            source: BlockSource::Volume(Box::new(volume(VolumeTarget::Local { path }))),
        },
    }
}

#[tokio::test]
async fn an_attach_is_finished_once_the_guest_has_the_device_and_undone_before() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    for (nth, disks, state) in [
        (0, 0, OperationState::Failed),
        (1, 1, OperationState::Succeeded),
    ] {
        let action = attach(&t, id);
        let mut task = t.task(&action).await.failing_at(nth);
        action.run(&mut task).await.unwrap_err();
        let operation = task.report().record().id;
        let next = recovered(&t).await;
        assert_eq!(record(&next, operation).await.state, state);
        let instance = next.host.store.instance(id).unwrap();
        let devices = &instance.spec.block_devices;
        assert_eq!(devices.len(), disks, "cut after step {nth}");
    }
}

#[tokio::test]
async fn a_guest_that_somebody_is_at_work_on_for_good_keeps_no_server_from_starting() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let action = attach(&t, id);
    let mut task = t.task(&action).await.failing_at(1);
    action.run(&mut task).await.unwrap_err();
    let operation = task.report().record().id;
    t.fake.fail("has", Times::Always, HypervisorError::Busy);
    let next = recovered(&t).await;
    let left = record(&next, operation).await;
    assert_eq!(left.state, OperationState::Failed);
    assert!(left.error.unwrap().fields().contains_key("undo_failed"));
    t.fake.heal();
    let later = recovered(&next).await;
    let instance = later.host.store.instance(id).unwrap();
    assert_eq!(instance.spec.block_devices.len(), 0, "it is taken back");
}
