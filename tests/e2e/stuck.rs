//! An emulator that is stopped holds nobody up: whatever can be asked of its guest ends by the caller's deadline, and other
//! guests are asked and changed meanwhile as before.

use std::{fs, time::Duration};

use computedriver::v1::{self, PowerState};
use futures::future::join_all;
use tonic::Code;

mod asks;
mod beside;

use asks::{Ask, End, Ended, Guest};
use beside::Beside;

use crate::{
    lifecycle::{resume, unrescue},
    power::{pause, signal, state, unpause},
    support::{Sandbox, guest_request, reason, request, until},
};

/// How long a caller waits. Shorter than the server itself waits for a monitor or an agent.
const DEADLINE: Duration = Duration::from_secs(3);

/// The process that runs a guest.
fn emulator(sandbox: &Sandbox, id: &str) -> u32 {
    let named = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("guest=computelet-{id}"))
    };
    let mut found = sandbox.emulators().into_iter().filter(named);
    found.next().unwrap_or_else(|| panic!("{id} runs"))
}

/// What came of a call, when it is not what was due.
async fn asked(sandbox: &Sandbox, guest: &Guest, ask: &Ask) -> Option<String> {
    let ended = (ask.call)(sandbox, guest).await;
    let told = match &ended {
        Ok(Ended::Answered) => End::Answers,
        Ok(Ended::Open) => End::Waits,
        // The server's word for it, or the client's own when its clock is a moment earlier.
        Err(e) if e.message() == "Timeout expired" => End::Waits,
        Err(e) if e.code() == Code::DeadlineExceeded && reason(e) == "DEADLINE" => End::Waits,
        Err(e) => End::Fails(e.code(), reason(e)),
    };
    println!("{}: {told:?}", ask.name);
    (told != ask.end).then(|| format!("{}: {ended:?}, not {:?}", ask.name, ask.end))
}

/// Asks one after another, the emulator stopped before each and let go after it.
async fn one_by_one(sandbox: &Sandbox, guest: &Guest, asks: Vec<Ask>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ask in asks {
        let pid = emulator(sandbox, &guest.id);
        signal("-STOP", pid);
        wrong.extend(asked(sandbox, guest, &ask).await);
        signal("-CONT", pid);
        quiet(sandbox, &guest.id).await;
        if ask.name == "destroy" {
            break;
        }
        mended(sandbox, guest).await;
    }
    wrong
}

/// Asks all at once of one emulator that is stopped.
async fn at_once(sandbox: &Sandbox, guest: &Guest, asks: Vec<Ask>) -> Vec<String> {
    let pid = emulator(sandbox, &guest.id);
    signal("-STOP", pid);
    let all = asks.iter().map(|ask| asked(sandbox, guest, ask));
    let wrong = join_all(all).await;
    signal("-CONT", pid);
    mended(sandbox, guest).await;
    wrong.into_iter().flatten().collect()
}

/// Has whatever works on the guest stop, and waits for its end.
async fn quiet(sandbox: &Sandbox, id: &str) {
    let asked = v1::ListOperationsRequest {
        instance_id: id.to_owned(),
        states: vec![
            v1::OperationState::Running.into(),
            v1::OperationState::Unwinding.into(),
        ],
        ..Default::default()
    };
    until("the end of what was asked of the guest", async || {
        let mut operations = sandbox.operations().await;
        let answer = operations.list_operations(asked.clone()).await;
        let running = answer.unwrap().into_inner().operations;
        for operation in &running {
            let operation_id = operation.operation_id.clone();
            let cancel = v1::CancelOperationRequest { operation_id };
            // It may have ended meanwhile, or only goes forward.
            drop(operations.cancel_operation(cancel).await);
        }
        running.is_empty().then_some(())
    })
    .await;
}

/// Whatever came of it, the guest is as usable as before.
async fn mended(sandbox: &Sandbox, guest: &Guest) {
    let id = &guest.id;
    let asked = v1::GetInstanceRequest {
        instance_id: id.clone(),
    };
    let instance = sandbox.instances().await.get_instance(asked).await;
    let instance = instance.unwrap().into_inner().instance.unwrap();
    if instance.rescued {
        let back = v1::UnrescueRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        unrescue(sandbox, back).await.unwrap();
    }
    match state(sandbox, id).await {
        PowerState::Running => {}
        PowerState::Paused => drop(unpause(sandbox, id).await.unwrap()),
        PowerState::Suspended => {
            let back = v1::ResumeRequest {
                instance_id: id.clone(),
                ..Default::default()
            };
            resume(sandbox, back).await.unwrap();
        }
        off => {
            let on = v1::PowerOnRequest {
                instance_id: id.clone(),
                ..Default::default()
            };
            let started = sandbox.instances().await.power_on(on).await;
            started.unwrap_or_else(|e| panic!("it was {off:?}: {e}"));
        }
    }
    pause(sandbox, id).await.unwrap();
    unpause(sandbox, id).await.unwrap();
    if guest.agent {
        let asked = v1::GetGuestInfoRequest {
            instance_id: id.clone(),
        };
        until("the agent to answer again", async || {
            let mut guests = sandbox.guests().await;
            guests.get_guest_info(asked.clone()).await.ok()
        })
        .await;
    }
}

/// A guest with an agent that answers.
async fn with_agent(sandbox: &Sandbox) -> Guest {
    let ready = v1::wait_for::Condition::Phase(v1::BootPhase::Agent.into());
    let mut request = guest_request("");
    if let Some(wait_for) = &mut request.wait_for {
        wait_for.condition = Some(ready);
    }
    Guest::spawn(sandbox, request, true).await
}

#[tokio::test]
async fn what_is_asked_of_a_stopped_emulator_ends_by_its_deadline_and_others_go_on() {
    let rules = [
        "guests.shutdown_timeout=0s",
        "console.listen=tcp:127.0.0.1:0",
        "volumes.dirs={state_dir}/volumes",
    ];
    let args = rules.map(|rule| ["--set", rule]).concat();
    let sandbox = Sandbox::start(&args).await;
    let inside = with_agent(&sandbox).await;
    let one = Guest::spawn(&sandbox, request(), false).await;
    let two = Guest::spawn(&sandbox, request(), false).await;
    let (other, _) = sandbox.spawn(request()).await.unwrap();
    let beside = Beside::begin(&sandbox, &other.instance_id).await;

    let asking = async {
        let mut wrong = at_once(&sandbox, &one, asks::looks()).await;
        wrong.extend(at_once(&sandbox, &two, asks::looks_beside_a_screen()).await);
        wrong.extend(at_once(&sandbox, &inside, asks::looks_inside()).await);
        let lanes = [
            one_by_one(&sandbox, &inside, asks::changes_inside()),
            one_by_one(&sandbox, &one, asks::changes()),
            one_by_one(&sandbox, &two, asks::changes_of_devices()),
        ];
        wrong.extend(join_all(lanes).await.concat());
        wrong
    };
    let (wrong, beside) = beside.during(asking).await;
    assert_eq!(wrong, Vec::<String>::new());
    beside.assert_as_before();
    for id in [&inside.id, &two.id, &other.instance_id] {
        sandbox.destroy(id).await.unwrap();
    }
    sandbox.assert_clean().await;
}
