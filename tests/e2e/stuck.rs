//! An emulator that is stopped holds nobody up: whatever is asked of its guest ends by the caller's deadline, and other
//! guests are changed meanwhile.

use std::{pin::pin, time::Duration};

use computedriver::v1;
use futures::future::{Either, LocalBoxFuture, select};
use tonic::{Code, Request, Status};

use crate::{
    power::{pause, seconds, signal, unpause},
    support::{Sandbox, request, until},
};

/// Enough for the other guest to be changed a few times, also on a host that is busy.
const DEADLINE: Duration = Duration::from_secs(6);

/// One call about the hung guest.
type Ask = for<'a> fn(&'a Sandbox, &'a str) -> LocalBoxFuture<'a, Result<(), Status>>;

/// A call with the deadline; a stream is read to its end.
macro_rules! ask {
    ($client:ident.$call:ident($request:ident { $($field:ident: $value:expr),* }) $($streams:ident)?) => {
        (stringify!($call), |sandbox, id| {
            Box::pin(async move {
                let mut request = Request::new(v1::$request {
                    instance_id: id.to_owned(),
                    $($field: $value,)*
                    ..Default::default()
                });
                request.set_timeout(DEADLINE);
                let answer = sandbox.$client().await.$call(request).await?;
                $(ask!($streams answer);)?
                drop(answer);
                Ok(())
            })
        })
    };
    (stream $answer:ident) => {
        let mut $answer = $answer.into_inner();
        let read = async {
            while $answer.message().await?.is_some() {}
            Ok::<_, Status>(())
        };
        // Of a stream, the caller keeps the time: it hangs up.
        let late = |_| Err(Status::deadline_exceeded("hung up"));
        tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(late)?;
    };
}

/// Whatever has the guest's emulator, or its guest, do something.
#[allow(
    clippy::needless_update,
    reason = "some requests name an instance and nothing else"
)]
fn calls() -> Vec<(&'static str, Ask)> {
    vec![
        ask!(instances.get_info(GetInfoRequest {})),
        ask!(instances.get_instance(GetInstanceRequest {})),
        ask!(instances.get_diagnostics(GetDiagnosticsRequest {})),
        ask!(instances.pause(PauseRequest {})),
        ask!(instances.suspend(SuspendRequest {}) stream),
        ask!(instances.reboot(RebootRequest { kind: v1::RebootKind::Soft.into(), timeout: seconds(1) }) stream),
        ask!(instances.quiesce(QuiesceRequest {})),
        ask!(devices.list_disks(ListDisksRequest {})),
        ask!(devices.list_interfaces(ListInterfacesRequest {})),
        ask!(devices.attach_interface(AttachInterfaceRequest { vif: Some(user()) })),
        ask!(guests.get_guest_info(GetGuestInfoRequest {})),
        ask!(guests.reset_network(ResetNetworkRequest {})),
        ask!(console.get_console_output(GetConsoleOutputRequest {})),
        ask!(stats.get_block_stats(GetBlockStatsRequest {
            disk_id: "root".to_owned()
        })),
        // The last: its guest may not outlive it.
        ask!(instances.trigger_crash_dump(TriggerCrashDumpRequest {})),
    ]
}

fn user() -> v1::Vif {
    v1::Vif {
        interface_id: "late".to_owned(),
        mac_address: "52:54:00:00:00:77".to_owned(),
        r#type: Some(v1::vif::Type::User(v1::UserVif {})),
        ..Default::default()
    }
}

/// Has the other guest paused and let go for as long as the call takes; how often it was.
async fn turns_beside(
    sandbox: &Sandbox,
    other: &str,
    call: LocalBoxFuture<'_, Result<(), Status>>,
) -> (Result<(), Status>, usize) {
    let mut call = pin!(call);
    let mut turns = 0;
    loop {
        let turn = pin!(async {
            pause(sandbox, other).await.unwrap();
            unpause(sandbox, other).await.unwrap();
        });
        match select(&mut call, turn).await {
            Either::Left((ended, turn)) => {
                turn.await;
                return (ended, turns);
            }
            Either::Right(((), _)) => turns += 1,
        }
    }
}

/// Waits until nothing works on the guest any more.
async fn quiet(sandbox: &Sandbox, id: &str) {
    let running = || async {
        let asked = v1::ListOperationsRequest {
            instance_id: id.to_owned(),
            states: vec![
                v1::OperationState::Running.into(),
                v1::OperationState::Unwinding.into(),
            ],
            ..Default::default()
        };
        let answer = sandbox.operations().await.list_operations(asked).await;
        answer
            .unwrap()
            .into_inner()
            .operations
            .is_empty()
            .then_some(())
    };
    until("the end of what was asked of the guest", running).await;
}

#[tokio::test]
async fn what_is_asked_of_a_stopped_emulator_ends_by_its_deadline_and_others_go_on() {
    let sandbox = Sandbox::start(&[]).await;
    let (hung, _) = sandbox.spawn(request()).await.unwrap();
    let first = sandbox.emulators();
    let (other, _) = sandbox.spawn(request()).await.unwrap();
    let (hung, other) = (&hung.instance_id, &other.instance_id);
    let mut beside = sandbox.emulators();
    beside.retain(|pid| !first.contains(pid));
    let mut late = 0;
    for (name, ask) in calls() {
        // It is another one after a restart of its guest.
        let mut emulators = sandbox.emulators().into_iter();
        let pid = emulators.find(|pid| !beside.contains(pid));
        let pid = pid.unwrap_or_else(|| panic!("the guest runs before {name}"));
        signal("-STOP", pid);
        let (ended, turns) = turns_beside(&sandbox, other, ask(&sandbox, hung)).await;
        signal("-CONT", pid);
        println!("{name}: {ended:?}, {turns} turns of the other guest");
        if let Err(status) = ended
            && status.code() == Code::DeadlineExceeded
        {
            late += 1;
            assert!(turns >= 2, "{name} held the other guest up: {turns}");
        }
        quiet(&sandbox, hung).await;
        // Whatever came of it, the guest goes on.
        if name == "suspend" {
            let request = v1::ResumeRequest {
                instance_id: hung.clone(),
                ..Default::default()
            };
            let answers = sandbox.instances().await.resume(request).await;
            let mut answers = answers.unwrap().into_inner();
            while answers.message().await.unwrap().is_some() {}
        }
        drop(unpause(&sandbox, hung).await);
    }
    assert!(late > 2, "some of them wait for the emulator: {late}");
    for id in [hung, other] {
        sandbox.destroy(id).await.unwrap();
    }
    sandbox.assert_clean().await;
}
