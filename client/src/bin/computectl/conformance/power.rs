//! InstanceService: power. What is already so succeeds, and what cannot be names the state that is in the way.

use computedriver_client::{Error, v1};
use tonic::{Code, Status};

use super::bench::{Bench, nobody};
use super::suite::{Check, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["InstanceService/Pause", "InstanceService/Unpause"],
        "it is paused and goes on, each said twice",
        paused
    ),
    check!(
        ["InstanceService/PowerOff", "InstanceService/PowerOn"],
        "it is off and on again, each said twice",
        cycled
    ),
    check!(
        [
            "InstanceService/Pause",
            "InstanceService/PowerOff",
            "InstanceService/PowerOn"
        ],
        "what cannot be in a state is refused with that state",
        in_the_way
    ),
    check!(
        [
            "InstanceService/TriggerCrashDump",
            "InstanceService/PowerOff",
            "InstanceService/PowerOn"
        ],
        "one that is off is not interrupted, and one that is not there neither",
        interrupted
    ),
    check!(
        ["InstanceService/Reboot"],
        "it is restarted, and runs",
        rebooted
    ),
    check!(
        ["InstanceService/Suspend", "InstanceService/Resume"],
        "it is saved and goes on, each said twice",
        suspended
    ),
    check!(
        ["InstanceService/Rescue", "InstanceService/Unrescue"],
        "it is rescued from its own image, and back",
        rescued
    ),
];

async fn off(bench: &Bench, id: &str) -> Result<v1::PoweredOff, Error> {
    let request = v1::PowerOffRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    bench.client.follow(request).finish(|_| ()).await
}

async fn on(bench: &Bench, id: &str) -> Result<(), Status> {
    let request = v1::PowerOnRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    bench.client.instances().power_on(request).await.map(drop)
}

async fn pause(bench: &Bench, id: &str) -> Result<(), Status> {
    let request = v1::PauseRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    bench.client.instances().pause(request).await.map(drop)
}

async fn unpause(bench: &Bench, id: &str) -> Result<(), Status> {
    let request = v1::UnpauseRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    bench.client.instances().unpause(request).await.map(drop)
}

async fn paused(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    for _ in 0..2 {
        pause(bench, &id).await?;
        bench.is_in(&id, v1::PowerState::Paused).await?;
    }
    for _ in 0..2 {
        unpause(bench, &id).await?;
        bench.is_in(&id, v1::PowerState::Running).await?;
    }
    Ok(())
}

async fn cycled(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    for _ in 0..2 {
        let told = off(bench, &id).await?;
        let state = told.info.unwrap_or_default().state();
        hold!(
            state == v1::PowerState::Shutdown,
            "PowerOff answers with {state:?}"
        );
        bench.is_in(&id, v1::PowerState::Shutdown).await?;
    }
    for _ in 0..2 {
        on(bench, &id).await?;
        bench.is_in(&id, v1::PowerState::Running).await?;
    }
    Ok(())
}

async fn in_the_way(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    off(bench, &id).await?;
    let outcome = pause(bench, &id).await;
    on(bench, &id).await?;
    let error = refused(outcome, (Code::FailedPrecondition, "INSTANCE_STATE"))?;
    let state = error.fields().get("power_state");
    hold!(
        state.is_some_and(|state| state == "SHUTDOWN"),
        "power_state is {state:?}"
    );
    let outcome = pause(bench, &nobody()).await;
    refused(outcome, (Code::NotFound, "INSTANCE_NOT_FOUND")).map(drop)
}

async fn interrupted(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let interrupt = async |instance_id: String| {
        let request = v1::TriggerCrashDumpRequest {
            instance_id,
            ..Default::default()
        };
        let mut instances = bench.client.instances();
        instances.trigger_crash_dump(request).await
    };
    off(bench, &id).await?;
    let outcome = interrupt(id.clone()).await;
    on(bench, &id).await?;
    refused(outcome, (Code::FailedPrecondition, "INSTANCE_STATE"))?;
    let outcome = interrupt(nobody()).await;
    refused(outcome, (Code::NotFound, "INSTANCE_NOT_FOUND")).map(drop)
}

async fn rebooted(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let request = v1::RebootRequest {
        instance_id: id.clone(),
        kind: v1::RebootKind::Hard.into(),
        ..Default::default()
    };
    let told = bench.client.follow(request).finish(|_| ()).await?;
    let state = told.power_state();
    hold!(
        state == v1::PowerState::Running,
        "Reboot answers with {state:?}"
    );
    bench.is_in(&id, v1::PowerState::Running).await
}

async fn suspended(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    for _ in 0..2 {
        let request = v1::SuspendRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        bench.client.follow(request).finish(|_| ()).await?;
        bench.is_in(&id, v1::PowerState::Suspended).await?;
    }
    for _ in 0..2 {
        let request = v1::ResumeRequest {
            instance_id: id.clone(),
            ..Default::default()
        };
        bench.client.follow(request).finish(|_| ()).await?;
        bench.is_in(&id, v1::PowerState::Running).await?;
    }
    Ok(())
}

async fn rescued(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let request = v1::RescueRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    bench.client.follow(request).finish(|_| ()).await?;
    let rescued = bench.instance().await?.rescued;
    let request = v1::UnrescueRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    bench.client.follow(request).finish(|_| ()).await?;
    hold!(rescued, "GetInstance does not say that it is rescued");
    hold!(!bench.instance().await?.rescued, "it is rescued for good");
    bench.is_in(&id, v1::PowerState::Running).await
}
