//! HostService: what the host is, has and offers.

use std::net::IpAddr;
use std::time::SystemTime;

use computedriver_client::v1;
use tonic::Code;

use super::bench::Bench;
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(["HostService/GetReadiness"], "it is ready", readiness),
    check!(
        ["HostService/GetHostUptime"],
        "host and server have been up since a time before now",
        uptime
    ),
    check!(
        ["HostService/GetHostStats"],
        "it has processors, memory and a disk, of which some is free",
        stats
    ),
    check!(
        ["HostService/GetHostCpuStats"],
        "its processors' times never go back",
        cpu_stats
    ),
    check!(
        ["HostService/GetInventory"],
        "it offers VCPU, MEMORY_MB and DISK_GB",
        inventory
    ),
    check!(
        ["HostService/GetAvailableResource"],
        "its resources name the host, and what is left",
        resources
    ),
    check!(
        ["HostService/ReportAvailableResource"],
        "its resources are told without being asked again",
        report
    ),
    check!(
        ["HostService/CompareCpu", "HostService/GetHostStats"],
        "it runs what its own processor runs",
        compare
    ),
    check!(
        ["HostService/GetAvailableNodes"],
        "it is one node, and always the same",
        nodes
    ),
    check!(
        ["HostService/GetVolumeConnector"],
        "it is known to storage by a name",
        connector
    ),
    check!(
        ["HostService/GetHostIpAddr"],
        "it has an address that can be asked for",
        address
    ),
    check!(
        [
            "HostService/SetHostEnabled",
            "HostService/GetAvailableResource",
            "InstanceService/Spawn"
        ],
        "a disabled host takes no instance",
        disabled
    ),
    check!(
        [
            "HostService/HostMaintenanceMode",
            "HostService/GetAvailableResource",
            "InstanceService/Spawn"
        ],
        "a host in maintenance takes no instance, said twice",
        maintained
    ),
    check!(
        ["HostService/HostPowerAction"],
        "an action that is not named is none",
        unnamed_action
    ),
];

async fn readiness(bench: &Bench) -> Verdict {
    let request = v1::GetReadinessRequest {};
    let answer = bench
        .client
        .host()
        .get_readiness(request)
        .await?
        .into_inner();
    hold!(
        answer.readiness() == v1::Readiness::Ready,
        "it is {:?}",
        answer.checks
    );
    Ok(())
}

async fn uptime(bench: &Bench) -> Verdict {
    let request = v1::GetHostUptimeRequest {};
    let answer = bench
        .client
        .host()
        .get_host_uptime(request)
        .await?
        .into_inner();
    let time = |wire: Option<prost_types::Timestamp>| {
        wire.and_then(|wire| SystemTime::try_from(wire).ok())
    };
    let (boot, start) = (time(answer.boot_time), time(answer.server_start_time));
    hold!(
        boot.is_some() && boot <= start,
        "booted {boot:?}, server started {start:?}"
    );
    hold!(
        answer.uptime.is_some_and(|uptime| uptime.seconds > 0),
        "up for {:?}",
        answer.uptime
    );
    Ok(())
}

async fn host_stats(bench: &Bench) -> Result<v1::HostStats, Fault> {
    let request = v1::GetHostStatsRequest { refresh: true };
    let answer = bench.client.host().get_host_stats(request).await?;
    let stats = answer.into_inner().stats;
    stats.ok_or_else(|| Fault::Failed("there are none".to_owned()))
}

async fn stats(bench: &Bench) -> Verdict {
    let stats = host_stats(bench).await?;
    let (memory, disk) = (stats.memory_total_mib, stats.disk_total_bytes);
    hold!(stats.cpus > 0 && memory > 0 && disk > 0, "{stats:?}");
    let free = stats.memory_free_mib <= memory && stats.disk_free_bytes <= disk;
    hold!(free, "more is free than there is: {stats:?}");
    Ok(())
}

async fn cpu_stats(bench: &Bench) -> Verdict {
    let mut host = bench.client.host();
    let request = v1::GetHostCpuStatsRequest {};
    let first = host.get_host_cpu_stats(request).await?.into_inner();
    let second = host.get_host_cpu_stats(request).await?.into_inner();
    let all = |stats: &v1::GetHostCpuStatsResponse| (stats.user_ns, stats.kernel_ns, stats.idle_ns);
    let (a, b) = (all(&first), all(&second));
    hold!(a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2, "{a:?}, then {b:?}");
    Ok(())
}

async fn inventory(bench: &Bench) -> Verdict {
    let request = v1::GetInventoryRequest {};
    let answer = bench
        .client
        .host()
        .get_inventory(request)
        .await?
        .into_inner();
    for class in ["VCPU", "MEMORY_MB", "DISK_GB"] {
        let mut all = answer.inventories.iter();
        let found = all.find(|inventory| inventory.resource_class == class);
        let Some(found) = found else {
            return Err(Fault::Failed(format!("there is no {class}")));
        };
        let sound = found.total > 0 && found.step_size > 0 && found.allocation_ratio > 0.0;
        hold!(sound, "{found:?}");
    }
    Ok(())
}

async fn resource(bench: &Bench) -> Result<v1::AvailableResource, Fault> {
    let request = v1::GetAvailableResourceRequest {};
    let answer = bench.client.host().get_available_resource(request).await?;
    let told = answer.into_inner().resource;
    told.ok_or_else(|| Fault::Failed("there are none".to_owned()))
}

async fn resources(bench: &Bench) -> Verdict {
    let told = resource(bench).await?;
    hold!(!told.hypervisor_hostname.is_empty(), "the host has no name");
    let whole = told.vcpus.is_some() && told.memory_mib.is_some() && told.disk_gib.is_some();
    hold!(whole, "{told:?}");
    hold!(
        told.running_instances <= told.instances,
        "more run than there are: {told:?}"
    );
    Ok(())
}

async fn report(bench: &Bench) -> Verdict {
    use v1::report_available_resource_response::Event;
    let request = v1::ReportAvailableResourceRequest {};
    let mut told = bench
        .client
        .host()
        .report_available_resource(request)
        .await?
        .into_inner();
    while let Some(message) = told.message().await? {
        if let Some(Event::Resource(resource)) = message.event {
            hold!(resource.vcpus.is_some(), "{resource:?}");
            return Ok(());
        }
    }
    Err(Fault::Failed("the stream ends without a word".to_owned()))
}

async fn compare(bench: &Bench) -> Verdict {
    let cpu = host_stats(bench).await?.cpu;
    let request = v1::CompareCpuRequest {
        cpu,
        ..Default::default()
    };
    let told = bench.client.host().compare_cpu(request).await?.into_inner();
    let runs = matches!(
        told.comparison(),
        v1::CpuComparison::Identical | v1::CpuComparison::Superset
    );
    hold!(runs, "its own is {:?}", told.comparison());
    Ok(())
}

async fn nodes(bench: &Bench) -> Verdict {
    let request = v1::GetAvailableNodesRequest {};
    let first = bench
        .client
        .host()
        .get_available_nodes(request)
        .await?
        .into_inner();
    let again = bench
        .client
        .host()
        .get_available_nodes(request)
        .await?
        .into_inner();
    let known = first
        .nodes
        .iter()
        .all(|node| uuid::Uuid::parse_str(&node.node_id).is_ok());
    hold!(!first.nodes.is_empty() && known, "{:?}", first.nodes);
    hold!(first == again, "{first:?}, then {again:?}");
    Ok(())
}

async fn connector(bench: &Bench) -> Verdict {
    let request = v1::GetVolumeConnectorRequest::default();
    let told = bench
        .client
        .host()
        .get_volume_connector(request)
        .await?
        .into_inner();
    let connector = told.connector.unwrap_or_default();
    hold!(
        !connector.host.is_empty() && !connector.iscsi_initiator.is_empty(),
        "{connector:?}"
    );
    Ok(())
}

async fn address(bench: &Bench) -> Verdict {
    let request = v1::GetHostIpAddrRequest {};
    let answer = bench.client.host().get_host_ip_addr(request).await?;
    let told = answer.into_inner().ip_address;
    let usable = told
        .parse()
        .is_ok_and(|address: IpAddr| !address.is_unspecified());
    hold!(usable, "{told:?}");
    Ok(())
}

/// Skips what would take the host out of a state that its owner has put it in.
async fn may_be_closed(bench: &Bench) -> Verdict {
    if !bench.host_changes {
        return Err(Fault::Skipped("it needs --host-changes".to_owned()));
    }
    let told = resource(bench).await?;
    match told.enabled && !told.maintenance {
        true => Ok(()),
        false => Err(Fault::Skipped("the host takes none already".to_owned())),
    }
}

async fn disabled(bench: &Bench) -> Verdict {
    may_be_closed(bench).await?;
    let set = async |enabled| {
        let request = v1::SetHostEnabledRequest {
            enabled,
            note: "computectl conformance".to_owned(),
            ..Default::default()
        };
        bench.client.host().set_host_enabled(request).await
    };
    set(false).await?;
    let spawned = bench.client.spawn(bench.request(), |_| ()).await;
    set(true).await?;
    refused(spawned, (Code::FailedPrecondition, "HOST_DISABLED")).map(drop)
}

async fn maintained(bench: &Bench) -> Verdict {
    may_be_closed(bench).await?;
    let set = async |enabled| {
        let request = v1::HostMaintenanceModeRequest {
            enabled,
            note: "computectl conformance".to_owned(),
            ..Default::default()
        };
        bench.client.host().host_maintenance_mode(request).await
    };
    set(true).await?;
    let again = set(true).await;
    let spawned = bench.client.spawn(bench.request(), |_| ()).await;
    set(false).await?;
    again?;
    refused(spawned, (Code::FailedPrecondition, "HOST_DISABLED"))?;
    set(false).await?;
    Ok(bench.client.validate_spawn(bench.request()).await?)
}

async fn unnamed_action(bench: &Bench) -> Verdict {
    if !bench.host_changes {
        return Err(Fault::Skipped("it needs --host-changes".to_owned()));
    }
    let request = v1::HostPowerActionRequest::default();
    let outcome = bench.client.host().host_power_action(request).await;
    refused(outcome, (Code::InvalidArgument, "INVALID_REQUEST")).map(drop)
}
