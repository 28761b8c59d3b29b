//! InstanceService: instances are made, shown and removed; requests are known again, and their faults told at once.

use computedriver_client::v1;
use tonic::Code;

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const FIRST: &[Check] = &[
    check!(
        ["InstanceService/Spawn"],
        "all faults of a request are told at once, by their fields",
        faults
    ),
    check!(
        ["InstanceService/Spawn", "InstanceService/GetInfo"],
        "a request that is only checked changes nothing",
        checked
    ),
    check!(
        ["InstanceService/Spawn"],
        "an instance is made and runs, its progress in order",
        spawn
    ),
    check!(
        ["InstanceService/Spawn"],
        "a repeated request answers with the same instance",
        repeated
    ),
    check!(
        ["InstanceService/Spawn"],
        "another request for the same id is refused",
        other
    ),
    check!(
        ["InstanceService/Spawn"],
        "another request under the same request_id is refused",
        reused
    ),
    check!(
        ["InstanceService/WatchBoot"],
        "its boot can be watched after the fact",
        watched
    ),
    check!(
        ["InstanceService/GetInstance"],
        "its full view is what was asked for",
        viewed
    ),
    check!(
        [
            "InstanceService/ListInstances",
            "InstanceService/ListInstancesDetail",
            "InstanceService/StreamInstances"
        ],
        "every listing has it",
        listed
    ),
    check!(
        ["InstanceService/ListInstances"],
        "pages follow one another, and a made-up token is refused",
        paged
    ),
    check!(
        ["InstanceService/GetDiagnostics"],
        "it tells what it uses",
        diagnosed
    ),
];

pub(super) const LAST: &[Check] = &[
    check!(
        ["InstanceService/Spawn", "InstanceService/Destroy"],
        "two equal requests at once are one operation",
        joined
    ),
    check!(
        ["InstanceService/Snapshot"],
        "an image is made of it, and it goes on",
        snapshot
    ),
    check!(
        ["InstanceService/Destroy", "InstanceService/GetInfo"],
        "a removed instance is gone, and may be removed again",
        destroyed
    ),
];

async fn faults(bench: &Bench) -> Verdict {
    let request = v1::SpawnRequest {
        instance_id: "no-uuid".to_owned(),
        flavor: Some(v1::Flavor::default()),
        ..Default::default()
    };
    let outcome = bench.client.spawn(request, |_| ()).await;
    let error = refused(outcome, (Code::InvalidArgument, "INVALID_REQUEST"))?;
    let told: Vec<_> = error
        .violations()
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    for field in ["instance_id", "flavor.vcpus", "flavor.memory_mib"] {
        hold!(told.contains(&field), "{field} is not among {told:?}");
    }
    let image = told
        .iter()
        .any(|field| field.starts_with("image") || *field == "block_devices");
    hold!(
        image,
        "that there is nothing to boot from is not among {told:?}"
    );
    Ok(())
}

async fn checked(bench: &Bench) -> Verdict {
    let request = bench.request();
    let id = request.instance_id.clone();
    bench.client.validate_spawn(request).await?;
    let asked = v1::GetInfoRequest { instance_id: id };
    let outcome = bench.client.instances().get_info(asked).await;
    refused(outcome, (Code::NotFound, "INSTANCE_NOT_FOUND")).map(drop)
}

async fn spawn(bench: &Bench) -> Verdict {
    let request = bench.request();
    let mut seen = Vec::new();
    let note = |progress: &v1::OperationProgress| seen.push(progress.sequence);
    let instance = bench.client.spawn(request.clone(), note).await?;
    hold!(
        instance.instance_id == request.instance_id,
        "it is {}",
        instance.instance_id
    );
    let power = instance.power_state();
    hold!(power == v1::PowerState::Running, "it is {power:?}");
    hold!(!seen.is_empty(), "no progress is told");
    hold!(
        seen.is_sorted_by(|a, b| a < b),
        "progress comes as {seen:?}"
    );
    bench.main.replace(Some(request));
    Ok(())
}

fn main(bench: &Bench) -> Result<v1::SpawnRequest, Fault> {
    bench.id()?;
    Ok(bench.main.borrow().clone().unwrap_or_default())
}

async fn repeated(bench: &Bench) -> Verdict {
    let before = bench.instance().await?;
    for request_id in [main(bench)?.request_id, String::new()] {
        let request = v1::SpawnRequest {
            request_id,
            ..main(bench)?
        };
        let again = bench.spawn(request).await?;
        let same =
            again.created_time == before.created_time && again.started_time == before.started_time;
        hold!(same, "it was made anew, or started");
    }
    Ok(())
}

async fn other(bench: &Bench) -> Verdict {
    let mut request = main(bench)?;
    request.request_id = nobody();
    request.display_name.push_str(" of another kind");
    let outcome = bench.client.spawn(request, |_| ()).await;
    refused(outcome, (Code::AlreadyExists, "INSTANCE_EXISTS")).map(drop)
}

async fn reused(bench: &Bench) -> Verdict {
    let request = v1::SpawnRequest {
        request_id: main(bench)?.request_id,
        ..bench.request()
    };
    let outcome = bench.client.spawn(request, |_| ()).await;
    refused(outcome, (Code::InvalidArgument, "REQUEST_ID_REUSED")).map(drop)
}

async fn watched(bench: &Bench) -> Verdict {
    let instance_id = bench.id()?;
    let watch = bench.client.follow(v1::WatchBootRequest { instance_id });
    let instance = watch.finish(|_| ()).await?;
    hold!(
        instance.instance_id == bench.id()?,
        "it is {}",
        instance.instance_id
    );
    Ok(())
}

async fn viewed(bench: &Bench) -> Verdict {
    let (asked, view) = (main(bench)?, bench.instance().await?);
    hold!(
        view.flavor == asked.flavor,
        "{:?}, not {:?}",
        view.flavor,
        asked.flavor
    );
    hold!(!view.disks.is_empty(), "it has no disk");
    let vifs: Vec<_> = asked.vifs.iter().map(|vif| &vif.interface_id).collect();
    let found: Vec<_> = view
        .interfaces
        .iter()
        .map(|told| &told.interface_id)
        .collect();
    hold!(vifs == found, "its interfaces are {found:?}, not {vifs:?}");
    hold!(view.should_run, "nobody wants it to run");
    Ok(())
}

async fn listed(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let mut instances = bench.client.instances();
    let most = 1000;
    let request = v1::ListInstancesRequest {
        page_size: most,
        ..Default::default()
    };
    let ids = instances
        .list_instances(request)
        .await?
        .into_inner()
        .instance_ids;
    hold!(
        ids.is_sorted() && ids.contains(&id),
        "ListInstances has {ids:?}"
    );
    let request = v1::ListInstancesDetailRequest {
        page_size: most,
        ..Default::default()
    };
    let views = instances
        .list_instances_detail(request)
        .await?
        .into_inner()
        .instances;
    let one = views.iter().find(|view| view.instance_id == id);
    let runs = one.is_some_and(|view| view.state() == v1::PowerState::Running);
    hold!(runs, "ListInstancesDetail has {one:?}");
    let request = v1::StreamInstancesRequest { batch_size: 1 };
    let mut stream = instances.stream_instances(request).await?.into_inner();
    while let Some(batch) = stream.message().await? {
        hold!(
            batch.instances.len() <= 1,
            "a batch of one has {}",
            batch.instances.len()
        );
        if batch.instances.iter().any(|view| view.instance_id == id) {
            return Ok(());
        }
    }
    Err(Fault::Failed("StreamInstances does not have it".to_owned()))
}

async fn paged(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let mut instances = bench.client.instances();
    let (mut last, mut page_token, mut found) = (String::new(), String::new(), false);
    loop {
        let request = v1::ListInstancesRequest {
            page_size: 1,
            page_token,
        };
        let page = instances.list_instances(request).await?.into_inner();
        for told in page.instance_ids {
            hold!(told > last, "{told} comes after {last}");
            found |= told == id;
            last = told;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    hold!(found, "it is on no page");
    let request = v1::ListInstancesRequest {
        page_token: "made up".to_owned(),
        ..Default::default()
    };
    let outcome = instances.list_instances(request).await;
    refused(outcome, (Code::InvalidArgument, "PAGE_TOKEN_INVALID")).map(drop)
}

async fn diagnosed(bench: &Bench) -> Verdict {
    let request = v1::GetDiagnosticsRequest {
        instance_id: bench.id()?,
    };
    let answer = bench
        .client
        .instances()
        .get_diagnostics(request)
        .await?
        .into_inner();
    hold!(
        answer.state() == v1::PowerState::Running,
        "it is {:?}",
        answer.state()
    );
    hold!(
        answer.diagnostics.is_some_and(|told| !told.cpus.is_empty()),
        "it has no processor"
    );
    Ok(())
}

async fn joined(bench: &Bench) -> Verdict {
    let request = bench.request();
    let operation = async |request: v1::SpawnRequest| {
        let mut operation = String::new();
        let note = |progress: &v1::OperationProgress| operation.clone_from(&progress.operation_id);
        bench.client.spawn(request, note).await?;
        Ok::<_, Fault>(operation)
    };
    let (a, b) = tokio::join!(operation(request.clone()), operation(request.clone()));
    let (a, b) = (a?, b?);
    hold!(a == b && !a.is_empty(), "operations {a} and {b}");
    bench.destroy(&request.instance_id).await.map(drop)
}

async fn snapshot(bench: &Bench) -> Verdict {
    let Some(folder) = &bench.export else {
        return Err(Fault::Skipped("it needs --export-dir".to_owned()));
    };
    let id = bench.id()?;
    let place = folder.join(format!("conformance-{id}.qcow2"));
    let request = v1::SnapshotRequest {
        instance_id: id.clone(),
        image_id: "conformance".to_owned(),
        format: v1::DiskFormat::Qcow2.into(),
        kind: v1::SnapshotKind::Live.into(),
        destination: Some(v1::snapshot_request::Destination::Path(
            place.display().to_string(),
        )),
        ..Default::default()
    };
    let outcome = bench.client.follow(request.clone()).finish(|_| ()).await;
    let again = v1::SnapshotRequest {
        request_id: nobody(),
        ..request
    };
    let again = bench.client.follow(again).finish(|_| ()).await;
    // Where the host is this machine, it is ours to remove; elsewhere nobody but the host can.
    let _ = std::fs::remove_file(&place);
    let made = outcome?;
    hold!(made.size_bytes > 0 && made.sha256.len() == 64, "{made:?}");
    refused(again, (Code::AlreadyExists, "DISK_EXISTS"))?;
    bench.is_in(&id, v1::PowerState::Running).await
}

async fn destroyed(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let gone = bench.destroy(&id).await?;
    hold!(!gone.absent, "it was absent before");
    bench.main.replace(None);
    let request = v1::GetInfoRequest {
        instance_id: id.clone(),
    };
    let outcome = bench.client.instances().get_info(request).await;
    refused(outcome, (Code::NotFound, "INSTANCE_NOT_FOUND"))?;
    let again = bench.destroy(&id).await?;
    hold!(again.absent, "it is told to have been there");
    Ok(())
}
