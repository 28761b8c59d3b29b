//! The host itself: what it tells, whether it takes instances, and its power.

use computedriver::v1::{
    self, report_available_resource_response::Event, watch_events_response::Event as Told,
};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::support::{Sandbox, fields, reason, request, until};

async fn resource(sandbox: &Sandbox) -> v1::AvailableResource {
    let asked = v1::GetAvailableResourceRequest {};
    let told = sandbox.host().await.get_available_resource(asked).await;
    told.unwrap().into_inner().resource.unwrap()
}

async fn inventory(sandbox: &Sandbox) -> v1::GetInventoryResponse {
    let asked = v1::GetInventoryRequest {};
    let told = sandbox.host().await.get_inventory(asked).await;
    told.unwrap().into_inner()
}

async fn node(sandbox: &Sandbox) -> v1::Node {
    let asked = v1::GetAvailableNodesRequest {};
    let told = sandbox.host().await.get_available_nodes(asked).await;
    let [node] = &told.unwrap().into_inner().nodes[..] else {
        panic!("one node");
    };
    node.clone()
}

async fn enable(sandbox: &Sandbox, enabled: bool, id: &str) -> Result<(), Status> {
    let asked = v1::SetHostEnabledRequest {
        enabled,
        request_id: id.to_owned(),
        note: "its disk is replaced".to_owned(),
    };
    sandbox.host().await.set_host_enabled(asked).await?;
    Ok(())
}

async fn maintain(sandbox: &Sandbox, enabled: bool) -> u32 {
    let asked = v1::HostMaintenanceModeRequest {
        enabled,
        ..Default::default()
    };
    let told = sandbox.host().await.host_maintenance_mode(asked).await;
    told.unwrap().into_inner().running_instances
}

async fn refused(sandbox: &Sandbox) -> Status {
    let refused = sandbox.spawn(request()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "HOST_DISABLED")
    );
    refused
}

fn id() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test]
async fn a_disabled_host_takes_no_instances_also_after_a_restart() {
    let mut sandbox = Sandbox::start(&[]).await;
    let (runs, _) = sandbox.spawn(request()).await.unwrap();
    let node_id = node(&sandbox).await.node_id;
    let before = inventory(&sandbox).await.generation;
    let disable = id();
    enable(&sandbox, false, &disable).await.unwrap();
    let told = refused(&sandbox).await;
    assert!(told.message().contains("its disk is replaced"), "{told:?}");
    let check = v1::SpawnRequest {
        validate_only: true,
        ..request()
    };
    let checked = sandbox.instances().await.spawn(check).await.unwrap_err();
    assert_eq!(reason(&checked), "HOST_DISABLED");

    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    refused(&sandbox).await;
    let told = resource(&sandbox).await;
    assert!(!told.enabled && !told.maintenance);
    assert_eq!(told.disabled_note, "its disk is replaced");
    assert_eq!(told.running_instances, 1, "what runs goes on");
    assert_eq!(node(&sandbox).await.node_id, node_id);
    let closed = inventory(&sandbox).await;
    assert_eq!(closed.generation, before + 1);
    assert!(
        closed
            .traits
            .contains(&"COMPUTE_STATUS_DISABLED".to_owned())
    );

    // The same request again has the same answer, and another body under its name is another request.
    enable(&sandbox, false, &disable).await.unwrap();
    let e = enable(&sandbox, true, &disable).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::InvalidArgument, "REQUEST_ID_REUSED")
    );
    let spawn = v1::SpawnRequest {
        request_id: disable.clone(),
        ..request()
    };
    let e = sandbox.spawn(spawn).await.unwrap_err();
    assert_eq!(reason(&e), "REQUEST_ID_REUSED");
    enable(&sandbox, true, &id()).await.unwrap();
    enable(&sandbox, false, &disable).await.unwrap();
    assert!(resource(&sandbox).await.enabled, "a repeat changes nothing");
    assert_eq!(inventory(&sandbox).await.generation, before + 2);
    let (second, _) = sandbox.spawn(request()).await.unwrap();
    for instance in [runs, second] {
        sandbox.destroy(&instance.instance_id).await.unwrap();
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn opening_and_closing_are_told_and_maintenance_outlasts_enabling() {
    let sandbox = Sandbox::start(&[]).await;
    let kinds = [v1::EventKind::HostEnabled, v1::EventKind::HostDisabled];
    let watch = v1::WatchEventsRequest {
        after: Some(0),
        kinds: kinds.map(i32::from).to_vec(),
        ..Default::default()
    };
    let stream = sandbox.instances().await.watch_events(watch).await;
    let mut stream = stream.unwrap().into_inner();
    let (runs, _) = sandbox.spawn(request()).await.unwrap();
    assert_eq!(maintain(&sandbox, true).await, 1);
    enable(&sandbox, false, "").await.unwrap();
    enable(&sandbox, true, "").await.unwrap();
    assert!(resource(&sandbox).await.maintenance);
    refused(&sandbox).await;
    assert_eq!(maintain(&sandbox, false).await, 1);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = stream.message().await.unwrap().expect("it goes on");
        if let Some(Told::Happened(event)) = message.event {
            seen.push((event.kind(), event.reason, event.operation_id));
        }
    }
    assert_eq!((seen[0].0, seen[0].1.as_str()), (kinds[1], "MAINTENANCE"));
    assert_eq!(seen[1].0, kinds[0]);
    let by = v1::GetOperationRequest {
        operation_id: seen[0].2.clone(),
    };
    let by = sandbox.operations().await.get_operation(by).await.unwrap();
    let by = by.into_inner().operation.unwrap();
    assert_eq!(by.verb, "HostMaintenanceMode");
    assert_eq!(by.state(), v1::OperationState::Succeeded);
    sandbox.destroy(&runs.instance_id).await.unwrap();
}

#[tokio::test]
async fn a_note_that_is_too_long_is_refused_with_the_rest() {
    let sandbox = Sandbox::start(&[]).await;
    let asked = v1::SetHostEnabledRequest {
        enabled: false,
        request_id: "x".to_owned(),
        note: "x".repeat(256),
    };
    let refused = sandbox.host().await.set_host_enabled(asked).await;
    assert_eq!(fields(&refused.unwrap_err()), ["request_id", "note"]);
    assert!(resource(&sandbox).await.enabled);
}

/// The next message that tells what the host has left.
async fn next(
    stream: &mut Streaming<v1::ReportAvailableResourceResponse>,
) -> Result<(u64, v1::AvailableResource), Status> {
    loop {
        let message = stream.message().await?.expect("it ends with a status");
        if let Some(Event::Resource(resource)) = message.event {
            return Ok((message.sequence, resource));
        }
    }
}

#[tokio::test]
async fn what_the_host_has_left_is_told_again_on_each_change_until_the_server_ends() {
    let mut sandbox = Sandbox::start(&[]).await;
    let asked = v1::ReportAvailableResourceRequest {};
    let stream = sandbox.host().await.report_available_resource(asked).await;
    let mut stream = stream.unwrap().into_inner();
    let (sequence, first) = next(&mut stream).await.unwrap();
    assert_eq!((sequence, first.instances), (1, 0));
    assert!(first.enabled && first.hypervisor.unwrap().reachable);
    let (runs, _) = sandbox.spawn(request()).await.unwrap();
    let mut last = sequence;
    loop {
        let (sequence, told) = next(&mut stream).await.unwrap();
        assert!(sequence > last);
        last = sequence;
        let memory = told.memory_mib.unwrap();
        if told.running_instances == 1 {
            assert_eq!((told.instances, memory.claimed), (1, 16));
            break;
        }
    }
    enable(&sandbox, false, "").await.unwrap();
    while next(&mut stream).await.unwrap().1.enabled {}
    sandbox.destroy(&runs.instance_id).await.unwrap();
    let (ended, exit) = tokio::join!(
        async {
            loop {
                if let Err(e) = next(&mut stream).await {
                    return e;
                }
            }
        },
        sandbox.stop()
    );
    assert_eq!(
        (ended.code(), reason(&ended).as_str()),
        (Code::Unavailable, "DRAINING")
    );
    assert!(exit.success());
}

async fn power(sandbox: &Sandbox, action: v1::HostPowerVerb, force: bool) -> Result<(), Status> {
    let asked = v1::HostPowerActionRequest {
        action: action.into(),
        request_id: id(),
        force,
    };
    sandbox.host().await.host_power_action(asked).await?;
    Ok(())
}

/// Whether GetCapabilities says that the power of the host is served.
async fn is_served(sandbox: &Sandbox) -> bool {
    let asked = v1::GetCapabilitiesRequest {};
    let told = sandbox.host().await.get_capabilities(asked).await.unwrap();
    let rpcs = told.into_inner().rpcs;
    let power = rpcs.into_iter().find(|rpc| rpc.method == "HostPowerAction");
    power.unwrap().supported
}

#[tokio::test]
async fn the_hosts_power_is_its_owners_command() {
    use v1::HostPowerVerb::{Reboot, Shutdown};
    let mut sandbox = Sandbox::start(&[]).await;
    assert!(!is_served(&sandbox).await);
    let e = power(&sandbox, Reboot, true).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::Unimplemented, "NOT_SUPPORTED")
    );

    let mark = sandbox.path().join("rebooted");
    let set = format!("host.reboot_command=mkdir,{}", mark.display());
    sandbox.relisten(&["--set", &set]).await;
    assert!(is_served(&sandbox).await);
    let e = power(&sandbox, Shutdown, false).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::FailedPrecondition, "NOT_SUPPORTED")
    );
    assert_eq!(fields(&e), ["action"]);
    let unspecified = v1::HostPowerVerb::Unspecified;
    let e = power(&sandbox, unspecified, false).await.unwrap_err();
    assert_eq!(fields(&e), ["action"]);

    let (runs, _) = sandbox.spawn(request()).await.unwrap();
    let e = power(&sandbox, Reboot, false).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::FailedPrecondition, "INSTANCE_STATE")
    );
    assert!(!mark.is_dir());
    power(&sandbox, Reboot, true).await.unwrap();
    assert!(mark.is_dir());
    sandbox.destroy(&runs.instance_id).await.unwrap();
    // The folder is there now, so the command fails.
    let e = power(&sandbox, Reboot, false).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::Internal, "HOST_COMMAND_FAILED")
    );
    assert!(
        !e.message().contains(sandbox.path().to_str().unwrap()),
        "{e:?}"
    );
}

async fn compare(sandbox: &Sandbox, asked: v1::CompareCpuRequest) -> Result<i32, Status> {
    let told = sandbox.host().await.compare_cpu(asked).await?;
    Ok(told.into_inner().comparison)
}

#[tokio::test]
async fn the_host_gives_the_processor_that_it_says_it_gives() {
    let sandbox = Sandbox::start(&[]).await;
    let asked = v1::GetHostStatsRequest { refresh: true };
    let stats = sandbox.host().await.get_host_stats(asked).await.unwrap();
    let stats = stats.into_inner().stats.unwrap();
    assert!(stats.cpus > 0 && stats.memory_free_mib < stats.memory_total_mib);
    assert!(stats.disk_free_bytes < stats.disk_total_bytes);
    let cpu = stats.cpu.unwrap();
    let own = v1::CompareCpuRequest {
        cpu: Some(cpu.clone()),
        ..Default::default()
    };
    let identical = i32::from(v1::CpuComparison::Identical);
    assert_eq!(compare(&sandbox, own).await.unwrap(), identical);
    let nova = |feature: &str| v1::CompareCpuRequest {
        nova_cpu_info: format!(
            r#"{{"arch": "x86_64", "model": "qemu64", "vendor": "{}", "features": ["{feature}"],
                 "topology": {{"cells": 1, "sockets": 1, "cores": 1, "threads": 1}}}}"#,
            cpu.vendor
        ),
        ..Default::default()
    };
    let superset = i32::from(v1::CpuComparison::Superset);
    assert_eq!(compare(&sandbox, nova("sse2")).await.unwrap(), superset);
    let e = compare(&sandbox, nova("no-such-feature"))
        .await
        .unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::FailedPrecondition, "INVALID_CPU_INFO")
    );
    assert!(e.message().contains("no-such-feature"), "{e:?}");

    let asked = v1::GetHostCpuStatsRequest {};
    let times = sandbox.host().await.get_host_cpu_stats(asked).await;
    let times = times.unwrap().into_inner();
    assert!(times.user_ns > 0 && times.kernel_ns > 0 && times.idle_ns > 0);
}

#[tokio::test]
async fn the_inventory_counts_what_instances_hold_in_standard_words() {
    let mut sandbox = Sandbox::start(&["--set", "resources.reserved_host_memory_mib=100"]).await;
    let before = inventory(&sandbox).await;
    let standard = include_str!("../golden/os-traits.txt");
    for name in &before.traits {
        assert!(standard.lines().any(|line| line == name), "{name}");
    }
    assert!(before.traits.contains(&"HW_CPU_X86_SSE2".to_owned()));
    let (runs, _) = sandbox.spawn(request()).await.unwrap();
    let after = inventory(&sandbox).await;
    assert_eq!(after.generation, before.generation, "use is no change");
    let classes: Vec<_> = after
        .inventories
        .iter()
        .map(|one| (one.resource_class.as_str(), one.used))
        .collect();
    assert_eq!(classes, [("VCPU", 1), ("MEMORY_MB", 16), ("DISK_GB", 1)]);
    let left = resource(&sandbox).await;
    let memory = left.memory_mib.unwrap();
    let told = &after.inventories[1];
    assert_eq!((told.reserved, told.total), (100, memory.total));
    assert_eq!(memory.left, told.total - told.reserved - told.used);
    sandbox.destroy(&runs.instance_id).await.unwrap();
    // Another setting is another inventory.
    sandbox
        .relisten(&["--set", "resources.cpu_allocation_ratio=2.0"])
        .await;
    assert_eq!(inventory(&sandbox).await.generation, before.generation + 1);
}

#[tokio::test]
async fn storage_is_told_who_this_host_is() {
    let mut sandbox = Sandbox::start(&["--set", "my_ip=192.0.2.7"]).await;
    let connector = async |sandbox: &Sandbox, instance_id: &str| {
        let asked = v1::GetVolumeConnectorRequest {
            instance_id: instance_id.to_owned(),
        };
        sandbox.host().await.get_volume_connector(asked).await
    };
    let told = connector(&sandbox, &id()).await.unwrap().into_inner();
    let told = told.connector.unwrap();
    assert_eq!(told.ip_address, "192.0.2.7");
    assert!(told.iscsi_initiator.starts_with("iqn."), "{told:?}");
    assert_eq!(
        (told.os_type.as_str(), told.architecture.as_str()),
        ("linux", "x86_64")
    );
    assert_eq!(told.host, node(&sandbox).await.name);
    let wrong = connector(&sandbox, "x").await.unwrap_err();
    assert_eq!(fields(&wrong), ["instance_id"]);
    sandbox.relisten(&["--set", "my_ip=127.0.0.1"]).await;
    let again = connector(&sandbox, "").await.unwrap().into_inner();
    let again = again.connector.unwrap();
    assert_eq!(again.ip_address, "", "nobody reaches it there");
    assert_eq!(again.iscsi_initiator, told.iscsi_initiator);
}

#[tokio::test]
async fn stats_are_fresh_when_asked_for_and_else_young() {
    let sandbox = Sandbox::start(&[]).await;
    let stats = async |refresh| {
        let asked = v1::GetHostStatsRequest { refresh };
        let told = sandbox.host().await.get_host_stats(asked).await;
        told.unwrap().into_inner().stats.unwrap()
    };
    let first = stats(false).await;
    let (runs, _) = sandbox.spawn(request()).await.unwrap();
    let fresh = stats(true).await;
    assert_eq!((fresh.instances, fresh.running_instances), (1, 1));
    assert!(fresh.image_cache_bytes > first.image_cache_bytes);
    sandbox.destroy(&runs.instance_id).await.unwrap();
    // Once it is old enough, it is measured anew without being asked to.
    let renewed = || async {
        let told = stats(false).await;
        (told.instances == 0).then_some(told)
    };
    let renewed = until("the answer to be renewed", renewed).await;
    assert!(renewed.time.unwrap().seconds >= fresh.time.unwrap().seconds);
}
