//! `kill -9` of the server in each phase of a real spawn, then a restart: nothing is left, or the guest is adopted.

use computedriver::v1::{self, Phase, PhaseEdge};

use crate::support::{Sandbox, guest_request, request, until};

suite! {
    a_crash_in_any_phase_leaves_nothing_or_an_adopted_guest,
    a_guest_outlives_the_server_and_is_adopted_when_it_waited_for_its_boot,
    a_destroy_that_a_crash_cut_is_finished,
    an_answer_is_the_same_after_a_restart,
    a_guest_that_the_store_has_lost_is_neither_built_over_nor_out_of_reach,
}

/// Kills the server when `phase` is at `edge`; answers whether the spawn had got that far.
async fn killed_at(
    sandbox: &mut Sandbox,
    asked: v1::SpawnRequest,
    (phase, edge): (Phase, PhaseEdge),
) -> bool {
    let mut stream = sandbox
        .instances()
        .await
        .spawn(asked)
        .await
        .expect("the spawn begins")
        .into_inner();
    while let Ok(Some(message)) = stream.message().await {
        let Some(v1::spawn_response::Event::Progress(event)) = message.event else {
            continue;
        };
        if event.phase() == phase && event.edge() == edge {
            sandbox.kill();
            return true;
        }
    }
    false
}

async fn a_crash_in_any_phase_leaves_nothing_or_an_adopted_guest(sandbox: &mut Sandbox) {
    for phase in [
        Phase::Claim,
        Phase::FetchImage,
        Phase::CreateDisks,
        Phase::ConfigDrive,
        Phase::PlugVifs,
        Phase::Define,
        Phase::Start,
        Phase::Running,
    ] {
        for edge in [PhaseEdge::Start, PhaseEdge::End] {
            let asked = v1::SpawnRequest {
                config_drive: Some(true),
                ..request()
            };
            let id = asked.instance_id.clone();
            assert!(
                killed_at(sandbox, asked, (phase, edge)).await,
                "never saw {phase:?} {edge:?}"
            );
            sandbox.launch();
            sandbox.ready().await;
            let listed = sandbox.listed().await;
            println!(
                "killed at {phase:?} {edge:?}: {}",
                if listed.is_empty() {
                    "undone"
                } else {
                    "adopted"
                }
            );
            if listed.is_empty() {
                sandbox.assert_clean().await;
                continue;
            }
            assert_eq!(listed, std::slice::from_ref(&id));
            let info = v1::GetInfoRequest {
                instance_id: id.clone(),
            };
            let info = sandbox
                .instances()
                .await
                .get_info(info)
                .await
                .unwrap()
                .into_inner()
                .info
                .unwrap();
            assert_eq!(
                info.state(),
                v1::PowerState::Running,
                "a listed instance runs"
            );
            assert_eq!(
                sandbox.emulators().len(),
                1,
                "never both, never a lost guest"
            );
            sandbox.destroy(&id).await.unwrap();
            sandbox.assert_clean().await;
        }
    }
}

async fn a_guest_outlives_the_server_and_is_adopted_when_it_waited_for_its_boot(
    sandbox: &mut Sandbox,
) {
    let asked = guest_request("never shown by any guest");
    let id = asked.instance_id.clone();
    assert!(killed_at(sandbox, asked, (Phase::Kernel, PhaseEdge::End)).await);
    let before = sandbox.emulators();
    sandbox.launch();
    sandbox.ready().await;
    assert_eq!(sandbox.emulators(), before, "the guest is the same one");
    let ready = || async {
        let asked = v1::GetConsoleOutputRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        let output = sandbox
            .console()
            .await
            .get_console_output(asked)
            .await
            .unwrap()
            .into_inner()
            .output;
        String::from_utf8_lossy(&output)
            .contains("GUEST-MILESTONE-ready")
            .then_some(())
    };
    until("the adopted guest to finish its boot", ready).await;
    let ended = sandbox.stop().await;
    assert!(ended.success(), "{ended}");
    assert_eq!(
        sandbox.emulators(),
        before,
        "the guest outlives an orderly stop too"
    );
    sandbox.launch();
    sandbox.ready().await;
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_destroy_that_a_crash_cut_is_finished(sandbox: &mut Sandbox) {
    for phase in [Phase::Stop, Phase::Undefine, Phase::RemoveDisks] {
        let (instance, _) = sandbox.spawn(request()).await.unwrap();
        let asked = v1::DestroyRequest {
            instance_id: instance.instance_id,
            ..Default::default()
        };
        let mut stream = sandbox
            .instances()
            .await
            .destroy(asked)
            .await
            .unwrap()
            .into_inner();
        while let Ok(Some(message)) = stream.message().await {
            let Some(v1::destroy_response::Event::Progress(event)) = message.event else {
                continue;
            };
            if event.phase() == phase && event.edge() == PhaseEdge::Start {
                sandbox.kill();
                break;
            }
        }
        sandbox.launch();
        sandbox.ready().await;
        sandbox.assert_clean().await;
    }
}

async fn an_answer_is_the_same_after_a_restart(sandbox: &mut Sandbox) {
    let mut asked = v1::SpawnRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..request()
    };
    asked.image.as_mut().unwrap().location = "file:///nowhere/at/all.raw".to_owned();
    let first = sandbox.spawn(asked.clone()).await.unwrap_err();
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    let second = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(
        (first.code(), first.message()),
        (second.code(), second.message())
    );
}

async fn a_guest_that_the_store_has_lost_is_neither_built_over_nor_out_of_reach(
    sandbox: &mut Sandbox,
) {
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = instance.instance_id;
    let before = sandbox.emulators();
    sandbox.stop().await;
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(sandbox.path().join(file));
    }
    sandbox.launch();
    sandbox.ready().await;
    assert_eq!(sandbox.listed().await, Vec::<String>::new());
    let asked = v1::SpawnRequest {
        instance_id: id.clone(),
        ..request()
    };
    let refused = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(crate::support::reason(&refused), "INSTANCE_EXISTS");
    assert_eq!(sandbox.emulators(), before, "the guest was touched");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
