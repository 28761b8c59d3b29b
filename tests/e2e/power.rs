//! Real guests are stopped, started and paused.

use computedriver::v1::{self, PowerState};
use tonic::{Code, Status};

use crate::support::{Sandbox, command, guest_request, reason, request, until};

/// The tiny guest's last word of its boot.
const READY: &str = "GUEST-MILESTONE-ready";

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// The power state, as GetInfo tells it.
pub async fn state(sandbox: &Sandbox, id: &str) -> PowerState {
    let instance_id = id.to_owned();
    let asked = v1::GetInfoRequest { instance_id };
    let told = sandbox.instances().await.get_info(asked).await.unwrap();
    told.into_inner().info.unwrap().state()
}

pub async fn off(
    sandbox: &Sandbox,
    asked: v1::PowerOffRequest,
) -> Result<(v1::PoweredOff, Vec<v1::Phase>), Status> {
    use v1::power_off_response::Event;
    let answer = sandbox.instances().await.power_off(asked).await?;
    let (mut answers, mut phases) = (answer.into_inner(), Vec::new());
    while let Some(message) = answers.message().await? {
        match message.event {
            Some(Event::PoweredOff(done)) => return Ok((done, phases)),
            Some(Event::Progress(progress)) => phases.push(progress.phase()),
            Some(Event::Heartbeat(_)) | None => {}
        }
    }
    panic!("the stream ended without a result")
}

async fn on(sandbox: &Sandbox, id: &str) -> Result<v1::InstanceInfo, Status> {
    let asked = v1::PowerOnRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let answer = sandbox.instances().await.power_on(asked).await?;
    Ok(answer.into_inner().info.unwrap())
}

pub async fn pause(sandbox: &Sandbox, id: &str) -> Result<v1::InstanceInfo, Status> {
    let asked = v1::PauseRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let answer = sandbox.instances().await.pause(asked).await?;
    Ok(answer.into_inner().info.unwrap())
}

pub async fn unpause(sandbox: &Sandbox, id: &str) -> Result<v1::InstanceInfo, Status> {
    let asked = v1::UnpauseRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let answer = sandbox.instances().await.unpause(asked).await?;
    Ok(answer.into_inner().info.unwrap())
}

/// Sends a signal to an emulator.
pub fn signal(signal: &str, pid: u32) {
    let done = command("kill").args([signal, &pid.to_string()]).status();
    assert!(done.expect("kill runs").success());
}

#[tokio::test]
async fn a_guest_obeys_its_power_button_and_starts_again() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &instance.instance_id;
    let asked = v1::PowerOffRequest {
        instance_id: id.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
        timeout: seconds(170),
        retry_interval: seconds(2),
    };
    let (done, phases) = off(&sandbox, asked.clone()).await.unwrap();
    assert!(!done.forced, "it switched itself off");
    assert!(phases.contains(&v1::Phase::Shutdown), "{phases:?}");
    assert_eq!(done.info.unwrap().state(), PowerState::Shutdown);
    assert_eq!(state(&sandbox, id).await, PowerState::Shutdown);
    assert_eq!(sandbox.emulators(), Vec::<u32>::new());

    // What libvirt knows of the guest is lost: it starts from what the server has stored.
    let defined = std::fs::read_dir(sandbox.path().join("qemu/etc/qemu")).unwrap();
    let xml = defined.flatten().map(|file| file.path());
    let xml: Vec<_> = xml.filter(|file| file.extension().is_some()).collect();
    let [xml] = &xml[..] else {
        panic!("one domain is defined: {xml:?}");
    };
    let before = std::fs::read_to_string(xml).unwrap();
    assert_eq!(on(&sandbox, id).await.unwrap().state(), PowerState::Running);
    assert_eq!(
        std::fs::read_to_string(xml).unwrap(),
        before,
        "the definition made anew is the one that was"
    );
    let booted_twice = || async {
        let asked = v1::GetConsoleOutputRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        let answer = sandbox.console().await.get_console_output(asked).await;
        let output = answer.unwrap().into_inner().output;
        let output = String::from_utf8_lossy(&output).into_owned();
        (output.matches(READY).count() == 2).then_some(())
    };
    until("the guest to boot again", booted_twice).await;
    // The same request is the same answer, though the guest runs again.
    let (again, _) = off(&sandbox, asked).await.unwrap();
    assert!(!again.forced);
    assert_eq!(state(&sandbox, id).await, PowerState::Running);
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_deaf_guest_is_forced_and_a_paused_one_keeps_its_memory() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = &instance.instance_id;
    let emulators = sandbox.emulators();
    for _ in 0..2 {
        let info = pause(&sandbox, id).await.unwrap();
        assert_eq!(info.state(), PowerState::Paused);
    }
    let refused = on(&sandbox, id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "INSTANCE_STATE");
    for _ in 0..2 {
        let info = unpause(&sandbox, id).await.unwrap();
        assert_eq!(info.state(), PowerState::Running);
    }
    assert_eq!(sandbox.emulators(), emulators, "it is the same guest");
    let asked = v1::PowerOffRequest {
        instance_id: id.clone(),
        timeout: seconds(2),
        retry_interval: seconds(1),
        ..Default::default()
    };
    let (done, _) = off(&sandbox, asked.clone()).await.unwrap();
    assert!(done.forced, "a boot sector hears no power button");
    assert_eq!(done.info.unwrap().state(), PowerState::Shutdown);
    let (done, _) = off(&sandbox, asked).await.unwrap();
    assert!(!done.forced, "it was off already");
    let refused = pause(&sandbox, id).await.unwrap_err();
    assert_eq!(reason(&refused), "INSTANCE_STATE");
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn an_emulator_that_hangs_is_powered_off_in_bounds_and_holds_nobody_up() {
    let sandbox = Sandbox::start(&[]).await;
    let (hung, _) = sandbox.spawn(request()).await.unwrap();
    let [pid] = sandbox.emulators()[..] else {
        panic!("one guest runs");
    };
    let (other, _) = sandbox.spawn(request()).await.unwrap();
    signal("-STOP", pid);
    let asked = v1::PowerOffRequest {
        instance_id: hung.instance_id.clone(),
        timeout: seconds(3),
        ..Default::default()
    };
    let mut ending = Box::pin(off(&sandbox, asked));
    let mut turns = 0;
    // The other guest is paused and let go, again and again, for as long as the first one takes.
    let (done, _) = loop {
        let turn = async {
            pause(&sandbox, &other.instance_id).await.unwrap();
            unpause(&sandbox, &other.instance_id).await.unwrap();
            turns += 1;
        };
        let turn = Box::pin(turn);
        match futures::future::select(&mut ending, turn).await {
            futures::future::Either::Left((done, turn)) => {
                turn.await;
                break done.unwrap();
            }
            futures::future::Either::Right(((), _)) => {}
        }
    };
    assert!(done.forced);
    assert_eq!(
        state(&sandbox, &hung.instance_id).await,
        PowerState::Shutdown
    );
    assert!(turns > 3, "the other guest was held up: {turns}");
    for id in [&hung.instance_id, &other.instance_id] {
        sandbox.destroy(id).await.unwrap();
    }
    sandbox.assert_clean().await;
}
