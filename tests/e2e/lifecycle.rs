//! Real guests are restarted, suspended, interrupted and measured, and come back after the host was away.

use computedriver::v1::{
    self, EventKind, Phase, PowerState, RebootKind, instance_service_client::InstanceServiceClient,
};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    power::{seconds, signal, state},
    support::{Sandbox, guest_request, reason, request, until},
};

const READY: &str = "GUEST-MILESTONE-ready";

/// Reads a long call of ours to its end. Answers with the instance and the phases that it went through.
macro_rules! long_calls {
    ($($name:ident($request:ident) -> $event:ident;)*) => {$(
        pub async fn $name(
            sandbox: &Sandbox,
            asked: v1::$request,
        ) -> Result<(v1::Instance, Vec<v1::OperationProgress>), Status> {
            use v1::$event::Event;
            let answer = sandbox.instances().await.$name(asked).await?;
            let (mut answers, mut seen) = (answer.into_inner(), Vec::new());
            while let Some(message) = answers.message().await? {
                match message.event {
                    Some(Event::Instance(instance)) => return Ok((instance, seen)),
                    Some(Event::Progress(progress)) => seen.push(progress),
                    Some(Event::Heartbeat(_)) | None => {}
                }
            }
            panic!("the stream ended without a result")
        }
    )*};
}

long_calls! {
    reboot(RebootRequest) -> reboot_response;
    suspend(SuspendRequest) -> suspend_response;
    resume(ResumeRequest) -> resume_response;
    rescue(RescueRequest) -> rescue_response;
    unrescue(UnrescueRequest) -> unrescue_response;
}

fn restart(id: &str, kind: RebootKind, timeout: Option<i64>) -> v1::RebootRequest {
    v1::RebootRequest {
        instance_id: id.to_owned(),
        kind: kind.into(),
        timeout: timeout.and_then(seconds),
        ..Default::default()
    }
}

/// How often the guest has booted, by its console.
async fn boots(sandbox: &Sandbox, id: &str) -> usize {
    let asked = v1::GetConsoleOutputRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let answer = sandbox.console().await.get_console_output(asked).await;
    let output = answer.unwrap().into_inner().output;
    String::from_utf8_lossy(&output).matches(READY).count()
}

async fn booted(sandbox: &Sandbox, id: &str, times: usize) {
    let enough = || async { (boots(sandbox, id).await >= times).then_some(()) };
    until("the guest to boot", enough).await;
}

pub async fn watch(sandbox: &Sandbox) -> Streaming<v1::WatchEventsResponse> {
    let mut events = sandbox
        .instances()
        .await
        .watch_events(v1::WatchEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    loop {
        let message = events.message().await.unwrap().unwrap();
        if let Some(v1::watch_events_response::Event::Synced(_)) = message.event {
            return events;
        }
    }
}

/// The kinds of what happened to instances until so many operations have ended.
pub async fn kinds(events: &mut Streaming<v1::WatchEventsResponse>, ends: usize) -> Vec<EventKind> {
    let (mut kinds, mut ended) = (Vec::new(), 0);
    while ended < ends {
        let message = events.message().await.unwrap().unwrap();
        if let Some(v1::watch_events_response::Event::Happened(event)) = message.event {
            ended += usize::from(event.kind() == EventKind::OperationEnded);
            kinds.push(event.kind());
        }
    }
    kinds
}

async fn turned(sandbox: &Sandbox, id: &str, stands: PowerState) {
    let stands = || async { (state(sandbox, id).await == stands).then_some(()) };
    until("the guest to stand so", stands).await;
}

#[tokio::test]
async fn a_guest_is_restarted_and_never_told_to_have_stopped() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &instance.instance_id;
    let mut events = watch(&sandbox).await;
    let looked = async {
        let mut client = sandbox.instances().await;
        loop {
            look(&mut client, id).await;
        }
    };
    let soft = restart(id, RebootKind::Soft, Some(170));
    let hard = restart(id, RebootKind::Hard, None);
    let restarts = async {
        let before = sandbox.emulators();
        let (again, seen) = reboot(&sandbox, soft).await.unwrap();
        assert_eq!(again.power_state(), PowerState::Running);
        let cut = seen.iter().any(|told| told.step == "stop guest");
        assert!(!cut, "it went by itself: {seen:?}");
        assert_ne!(sandbox.emulators(), before, "it is a new run");
        booted(&sandbox, id, 2).await;
        let (again, _) = reboot(&sandbox, hard).await.unwrap();
        assert!(again.started_time.is_some());
        booted(&sandbox, id, 3).await;
    };
    tokio::select! {
        () = looked => unreachable!(),
        () = restarts => {}
    }
    let told = kinds(&mut events, 2).await;
    for stop in [
        EventKind::Stopped,
        EventKind::Started,
        EventKind::ShuttingDown,
    ] {
        assert!(!told.contains(&stop), "{told:?}");
    }
    let rebooted = told.iter().filter(|kind| **kind == EventKind::Rebooted);
    assert_eq!(rebooted.count(), 2, "{told:?}");
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Nobody who looks sees it stopped.
async fn look(client: &mut InstanceServiceClient<Channel>, id: &str) {
    let asked = v1::GetInfoRequest {
        instance_id: id.to_owned(),
    };
    let info = client.get_info(asked).await.unwrap().into_inner().info;
    assert_eq!(info.unwrap().state(), PowerState::Running);
}

#[tokio::test]
async fn a_deaf_guest_is_restarted_by_force_and_a_paused_one_too() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = &instance.instance_id;
    let (_, seen) = reboot(&sandbox, restart(id, RebootKind::Soft, Some(1)))
        .await
        .unwrap();
    assert!(
        seen.iter().any(|told| told.step == "stop guest"),
        "{seen:?}"
    );
    let asked = v1::PauseRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    sandbox.instances().await.pause(asked).await.unwrap();
    let before = sandbox.emulators();
    let named = v1::RebootRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..restart(id, RebootKind::Hard, None)
    };
    let (again, _) = reboot(&sandbox, named.clone()).await.unwrap();
    assert_eq!(again.power_state(), PowerState::Running);
    let after = sandbox.emulators();
    assert_ne!(after, before);
    reboot(&sandbox, named).await.unwrap();
    assert_eq!(
        sandbox.emulators(),
        after,
        "the same request is one restart"
    );
    let wrong = restart(id, RebootKind::Hard, Some(1));
    let refused = reboot(&sandbox, wrong).await.unwrap_err();
    assert_eq!(crate::support::fields(&refused), ["timeout"]);
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_suspended_guest_goes_on_where_it_was() {
    let mut sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &instance.instance_id;
    let asked = || v1::SuspendRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let (saved, _) = suspend(&sandbox, asked()).await.unwrap();
    assert_eq!(saved.power_state(), PowerState::Suspended);
    assert!(!saved.should_run);
    assert_eq!(sandbox.emulators(), Vec::<u32>::new());
    suspend(&sandbox, asked()).await.unwrap();
    let hard = restart(id, RebootKind::Hard, None);
    let refused = reboot(&sandbox, hard).await.unwrap_err();
    assert_eq!(reason(&refused), "INSTANCE_STATE");
    // It stays so over a restart of the server, which brings back what should run.
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    assert_eq!(state(&sandbox, id).await, PowerState::Suspended);
    let again = || v1::ResumeRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    for _ in 0..2 {
        let (back, _) = resume(&sandbox, again()).await.unwrap();
        assert_eq!(back.power_state(), PowerState::Running);
    }
    assert_eq!(boots(&sandbox, id).await, 1, "it did not boot anew");
    // It lives: its power button works.
    let asked_off = v1::PowerOffRequest {
        instance_id: id.clone(),
        timeout: seconds(170),
        ..Default::default()
    };
    let (done, _) = crate::power::off(&sandbox, asked_off).await.unwrap();
    assert!(!done.forced);
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn saved_memory_goes_with_a_power_off_and_with_a_destroy() {
    let sandbox = Sandbox::start(&[]).await;
    let saved = || {
        let folder = sandbox.path().join("qemu/lib/qemu/save");
        let files = std::fs::read_dir(folder).into_iter().flatten();
        files.flatten().count()
    };
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = &instance.instance_id;
    let asked = || v1::SuspendRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    suspend(&sandbox, asked()).await.unwrap();
    assert_eq!(saved(), 1, "the folder is the one that libvirt uses");
    let off = v1::PowerOffRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    crate::power::off(&sandbox, off).await.unwrap();
    assert_eq!(state(&sandbox, id).await, PowerState::Shutdown);
    assert_eq!(saved(), 0);
    let on = v1::PowerOnRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    sandbox.instances().await.power_on(on).await.unwrap();
    suspend(&sandbox, asked()).await.unwrap();
    sandbox.destroy(id).await.unwrap();
    assert_eq!(saved(), 0);
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_suspend_that_a_crash_cut_is_done_or_undone() {
    let mut sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &instance.instance_id;
    for edge in [v1::PhaseEdge::Start, v1::PhaseEdge::Unspecified] {
        let asked = v1::SuspendRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        let answer = sandbox.instances().await.suspend(asked).await.unwrap();
        let mut answers = answer.into_inner();
        while let Ok(Some(message)) = answers.message().await {
            let Some(v1::suspend_response::Event::Progress(told)) = message.event else {
                break;
            };
            let far = edge == v1::PhaseEdge::Unspecified && told.edge() != v1::PhaseEdge::Start;
            if told.phase() == Phase::Save && (told.edge() == edge || far) {
                break;
            }
        }
        sandbox.kill();
        sandbox.launch();
        sandbox.ready().await;
        let operations = sandbox
            .operations()
            .await
            .list_operations(v1::ListOperationsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .operations;
        let last = operations
            .iter()
            .find(|operation| operation.verb == "Suspend");
        let last = last.expect("the suspend is known");
        let stands = state(&sandbox, id).await;
        println!("killed at {edge:?}: {stands:?}, {:?}", last.state());
        match last.state() {
            v1::OperationState::Succeeded => assert_eq!(stands, PowerState::Suspended),
            v1::OperationState::Failed => assert_eq!(stands, PowerState::Running),
            other => panic!("{other:?}"),
        }
        let again = v1::ResumeRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        resume(&sandbox, again).await.unwrap();
        assert_eq!(state(&sandbox, id).await, PowerState::Running);
    }
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn guests_come_back_after_the_host_was_away_and_one_without_its_disk_holds_up_nobody() {
    let mut sandbox = Sandbox::start(&[]).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let (instance, _) = sandbox.spawn(request()).await.unwrap();
        ids.push(instance.instance_id);
    }
    let [runs, paused, off, lost] = &ids[..] else {
        unreachable!()
    };
    let asked = v1::PauseRequest {
        instance_id: paused.clone(),
        ..Default::default()
    };
    sandbox.instances().await.pause(asked).await.unwrap();
    let asked = v1::PowerOffRequest {
        instance_id: off.clone(),
        ..Default::default()
    };
    crate::power::off(&sandbox, asked).await.unwrap();
    sandbox.stop().await;
    for pid in sandbox.emulators() {
        signal("-KILL", pid);
    }
    let gone = || async { sandbox.emulators().is_empty().then_some(()) };
    until("every emulator's end", gone).await;
    let folder = sandbox.path().join("instances").join(lost);
    std::fs::remove_file(folder.join("disk")).unwrap();
    sandbox.launch();
    sandbox.ready().await;
    turned(&sandbox, runs, PowerState::Running).await;
    turned(&sandbox, paused, PowerState::Paused).await;
    assert_eq!(state(&sandbox, off).await, PowerState::Shutdown);
    let failed = || async {
        let asked = v1::ListOperationsRequest::default();
        let answer = sandbox.operations().await.list_operations(asked).await;
        let operations = answer.unwrap().into_inner().operations;
        let mut of_lost = operations.iter().filter(|one| one.instance_id == *lost);
        let failed = of_lost.any(|one| one.state() == v1::OperationState::Failed);
        failed.then_some(())
    };
    until("the one without a disk to fail", failed).await;
    assert_eq!(state(&sandbox, lost).await, PowerState::Shutdown);
    for id in &ids {
        // It stands as it should a moment before its start has ended.
        sandbox.destroy(id).await.unwrap();
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_guest_is_measured_and_interrupted() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &instance.instance_id;
    let diagnosed = || async {
        let asked = v1::GetDiagnosticsRequest {
            instance_id: id.clone(),
        };
        sandbox.instances().await.get_diagnostics(asked).await
    };
    let told = diagnosed().await.unwrap().into_inner();
    assert_eq!(told.state(), PowerState::Running);
    let told = told.diagnostics.unwrap();
    assert!(told.uptime.is_some() && told.driver == "QEMU", "{told:?}");
    assert!(told.cpus[0].time_ns > Some(0), "{told:?}");
    assert!(told.memory.unwrap().rss_kib > Some(0));
    assert_eq!(told.disks[0].disk_id, instance.disks[0].disk_id);
    assert!(told.disks[0].rd_bytes > Some(0));
    let asked = v1::TriggerCrashDumpRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let interrupted = sandbox.instances().await.trigger_crash_dump(asked).await;
    interrupted.unwrap();
    // Linux says on its console what it makes of one that it does not expect.
    let heard = || async {
        let asked = v1::GetConsoleOutputRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        let answer = sandbox.console().await.get_console_output(asked).await;
        let output = answer.unwrap().into_inner().output;
        String::from_utf8_lossy(&output)
            .contains("NMI")
            .then_some(())
    };
    until("the guest's word on the interrupt", heard).await;
    let off = v1::PowerOffRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    crate::power::off(&sandbox, off).await.unwrap();
    let refused = diagnosed().await.unwrap_err();
    assert_eq!(reason(&refused), "INSTANCE_STATE");
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}
