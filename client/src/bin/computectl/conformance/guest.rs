//! GuestService, and the freezes of InstanceService: inside the guest, where it has an agent.

use computedriver_client::{Error, v1};
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["GuestService/GetGuestInfo"],
        "it tells of itself, or that nobody is there to be asked",
        told
    ),
    check!(
        ["GuestService/InjectFile"],
        "a file is written, and one that cannot be is told as such",
        file
    ),
    check!(
        ["GuestService/SetAdminPassword"],
        "its administrator gets a password, nobody else does",
        password
    ),
    check!(
        ["GuestService/InjectNetworkInfo"],
        "its interfaces get their addresses, and an absent one is not known",
        network
    ),
    check!(
        ["GuestService/ResetNetwork"],
        "its interfaces go down and up",
        reset
    ),
    check!(
        ["GuestService/UpdateAgent"],
        "all faults of a request are told at once",
        updater
    ),
    check!(
        ["InstanceService/Quiesce", "InstanceService/Unquiesce"],
        "it is frozen and thawed, each said twice",
        frozen
    ),
];

/// Skips what needs an agent where there is none.
fn agent<T, E: Into<Error>>(outcome: Result<T, E>) -> Result<T, Fault> {
    outcome.map_err(|e| {
        let error = e.into();
        let none =
            error.code() == Code::FailedPrecondition && error.reason() == "GUEST_AGENT_UNAVAILABLE";
        match none {
            true => Fault::Skipped("the guest has no agent that can".to_owned()),
            false => error.into(),
        }
    })
}

async fn info(bench: &Bench) -> Result<v1::GetGuestInfoResponse, Fault> {
    let request = v1::GetGuestInfoRequest {
        instance_id: bench.id()?,
    };
    Ok(agent(bench.client.guests().get_guest_info(request).await)?.into_inner())
}

async fn told(bench: &Bench) -> Verdict {
    let told = info(bench).await?;
    hold!(
        !told.agent_version.is_empty() && !told.agent_commands.is_empty(),
        "it has no agent: {told:?}"
    );
    let vifs = bench.instance().await?.interfaces;
    for vif in vifs {
        let found = told
            .interfaces
            .iter()
            .any(|inside| inside.interface_id == vif.interface_id);
        hold!(
            found,
            "{} is not among {:?}",
            vif.interface_id,
            told.interfaces
        );
    }
    Ok(())
}

async fn file(bench: &Bench) -> Verdict {
    let request = v1::InjectFileRequest {
        instance_id: bench.id()?,
        path: "/tmp/conformance".to_owned(),
        contents: vec![7; 100_000],
        mode: 0o600,
        ..Default::default()
    };
    let mut guests = bench.client.guests();
    let written = agent(guests.inject_file(request.clone()).await)?.into_inner();
    hold!(
        written.written_bytes == 100_000,
        "{} bytes are told",
        written.written_bytes
    );
    let wrong = v1::InjectFileRequest {
        path: "/no/such/folder/file".to_owned(),
        ..request.clone()
    };
    refused(
        guests.inject_file(wrong).await,
        (Code::Aborted, "GUEST_AGENT_ERROR"),
    )?;
    let wrong = v1::InjectFileRequest {
        path: "relative".to_owned(),
        mode: 0o7777,
        ..request
    };
    let error = refused(
        guests.inject_file(wrong).await,
        (Code::InvalidArgument, "INVALID_REQUEST"),
    )?;
    hold!(error.violations().len() == 2, "{:?}", error.violations());
    Ok(())
}

async fn password(bench: &Bench) -> Verdict {
    let request = v1::SetAdminPasswordRequest {
        instance_id: bench.id()?,
        admin_password: nobody(),
        ..Default::default()
    };
    let mut guests = bench.client.guests();
    agent(guests.set_admin_password(request.clone()).await)?;
    let request = v1::SetAdminPasswordRequest {
        username: "nobody-of-this-name".to_owned(),
        ..request
    };
    let password = request.admin_password.clone();
    let error = refused(
        guests.set_admin_password(request).await,
        (Code::Aborted, "GUEST_AGENT_ERROR"),
    )?;
    hold!(
        !format!("{error:?}").contains(&password),
        "the error has the password in it"
    );
    Ok(())
}

async fn network(bench: &Bench) -> Verdict {
    let request = v1::InjectNetworkInfoRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    let mut guests = bench.client.guests();
    agent(guests.inject_network_info(request.clone()).await)?;
    let request = v1::InjectNetworkInfoRequest {
        interface_ids: vec![nobody()],
        ..request
    };
    let outcome = guests.inject_network_info(request).await;
    refused(outcome, (Code::NotFound, "INTERFACE_NOT_FOUND")).map(drop)
}

async fn reset(bench: &Bench) -> Verdict {
    let request = v1::ResetNetworkRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    agent(bench.client.guests().reset_network(request).await).map(drop)
}

async fn updater(bench: &Bench) -> Verdict {
    let request = v1::UpdateAgentRequest {
        instance_id: bench.id()?,
        ..Default::default()
    };
    let outcome = bench.client.guests().update_agent(request).await;
    let error = refused(outcome, (Code::InvalidArgument, "INVALID_REQUEST"))?;
    let mut told: Vec<_> = error
        .violations()
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    told.sort_unstable();
    hold!(told == ["sha256", "url"], "{told:?}");
    Ok(())
}

async fn frozen(bench: &Bench) -> Verdict {
    let mut instances = bench.client.instances();
    for _ in 0..2 {
        let request = v1::QuiesceRequest {
            instance_id: bench.id()?,
            ..Default::default()
        };
        let told = agent(instances.quiesce(request).await)?.into_inner();
        hold!(
            told.frozen_filesystems > 0 && told.thaw_time.is_some(),
            "{told:?}"
        );
    }
    for least in [1, 0] {
        let request = v1::UnquiesceRequest {
            instance_id: bench.id()?,
            ..Default::default()
        };
        let count = instances
            .unquiesce(request)
            .await?
            .into_inner()
            .thawed_filesystems;
        hold!(count >= least, "{count} file systems are thawed");
    }
    Ok(())
}
