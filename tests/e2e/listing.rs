//! What is there, as lists, as a stream, and as a console: each tells the same.

use computedriver::v1;
use tonic::Code;

use crate::support::{Sandbox, guest_request, reason, request};

suite! {
    every_listing_tells_of_the_same_instances,
    a_console_is_followed_to_its_end_and_read_again_from_anywhere,
    what_is_not_there_is_not_found_and_is_destroyed_well,
}

async fn pages(sandbox: &Sandbox, page_size: u32) -> Vec<v1::InstanceInfo> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let asked = v1::ListInstancesDetailRequest {
            page_size,
            page_token,
        };
        let mut instances = sandbox.instances().await;
        let page = instances.list_instances_detail(asked).await.unwrap();
        let page = page.into_inner();
        assert!(page.instances.len() <= page_size as usize);
        assert_eq!(page.total_size, 3);
        all.extend(page.instances);
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}

async fn every_listing_tells_of_the_same_instances(sandbox: &Sandbox) {
    let asked = [request(), request(), request()];
    let mut ids: Vec<_> = asked.iter().map(|one| one.instance_id.clone()).collect();
    ids.sort();
    let [one, two, three] = asked.map(|one| sandbox.spawn(one));
    for spawned in <[_; 3]>::from(tokio::join!(one, two, three)) {
        spawned.unwrap();
    }
    assert_eq!(sandbox.listed().await, ids);
    for page_size in [1, 2, 3, 1000] {
        let detail = pages(sandbox, page_size).await;
        let told: Vec<_> = detail.iter().map(|info| &info.instance_id).collect();
        assert_eq!(told, ids.iter().collect::<Vec<_>>());
        for info in &detail {
            assert_eq!(info.state(), v1::PowerState::Running, "{info:?}");
            assert_eq!(info.max_mem_kib, 16 << 10);
        }
    }
    let asked = v1::StreamInstancesRequest { batch_size: 2 };
    let mut instances = sandbox.instances().await;
    let mut stream = instances
        .stream_instances(asked)
        .await
        .unwrap()
        .into_inner();
    let mut streamed = Vec::new();
    while let Some(batch) = stream.message().await.unwrap() {
        assert_eq!(batch.total_size, 3);
        assert!(batch.instances.len() <= 2);
        streamed.extend(batch.instances.into_iter().map(|info| info.instance_id));
    }
    assert_eq!(streamed, ids);
    assert_resources(sandbox, 3).await;
    for id in &ids {
        sandbox.destroy(id).await.unwrap();
    }
    sandbox.assert_clean().await;
    assert_resources(sandbox, 0).await;

    let asked = v1::ListOperationsRequest {
        page_size: 4,
        ..Default::default()
    };
    let answer = sandbox.operations().await.list_operations(asked).await;
    let page = answer.unwrap().into_inner();
    assert_eq!(page.operations.len(), 4, "three spawns, and as many ends");
    assert!(!page.next_page_token.is_empty());
}

/// Asks what the host has left: `guests` of one vCPU and 16 MiB each run on it.
async fn assert_resources(sandbox: &Sandbox, guests: u32) {
    let asked = v1::GetAvailableResourceRequest {};
    let answer = sandbox.host().await.get_available_resource(asked).await;
    let told = answer.unwrap().into_inner().resource.unwrap();
    assert_eq!((told.instances, told.running_instances), (guests, guests));
    assert!(told.enabled && !told.hypervisor_hostname.is_empty());
    assert!(told.hypervisor.unwrap().reachable);
    let (vcpus, memory) = (told.vcpus.unwrap(), told.memory_mib.unwrap());
    let guests = u64::from(guests);
    assert_eq!((vcpus.claimed, vcpus.used), (guests, guests));
    assert_eq!(memory.claimed, 16 * guests);
    assert_eq!(memory.left, memory.total - memory.reserved - memory.claimed);
    assert!(0 < memory.used && memory.used < memory.total);
    let disk = told.disk_gib.unwrap();
    assert!(disk.used <= disk.total);
    assert!(told.disk_available_least_gib <= i64::try_from(disk.total).unwrap());
}

/// Reads a console's log from `offset` until `mark` has come, or to its end.
async fn read(sandbox: &Sandbox, id: &str, (offset, mark): (u64, Option<&str>)) -> String {
    let asked = v1::StreamConsoleOutputRequest {
        instance_id: id.to_owned(),
        follow: mark.is_some(),
        start: Some(v1::stream_console_output_request::Start::Offset(offset)),
    };
    let mut console = sandbox.console().await;
    let stream = console.stream_console_output(asked).await.unwrap();
    let mut stream = stream.into_inner();
    let mut log = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let Some(v1::stream_console_output_response::Event::Chunk(chunk)) = message.event else {
            continue;
        };
        assert_eq!(chunk.offset, offset + log.len() as u64, "bytes are missing");
        log.extend(chunk.data);
        if mark.is_some_and(|mark| String::from_utf8_lossy(&log).contains(mark)) {
            break;
        }
    }
    String::from_utf8_lossy(&log).into_owned()
}

async fn a_console_is_followed_to_its_end_and_read_again_from_anywhere(sandbox: &Sandbox) {
    let asked = guest_request("Linux version");
    let (instance, _) = sandbox.spawn(asked).await.unwrap();
    let id = instance.instance_id;
    let live = read(sandbox, &id, (0, Some("GUEST-MILESTONE-ready"))).await;
    assert!(live.contains("Linux version"), "{live}");
    let whole = read(sandbox, &id, (0, None)).await;
    assert!(whole.starts_with(&live), "the log was written anew");
    let later = read(sandbox, &id, (100, None)).await;
    assert!(later.len() + 100 >= whole.len());
    let asked = v1::GetConsoleOutputRequest {
        instance_id: id.clone(),
        tail_bytes: 64,
        ..Default::default()
    };
    let tail = sandbox.console().await.get_console_output(asked).await;
    let tail = tail.unwrap().into_inner();
    assert_eq!((tail.output.len(), tail.truncated), (64, true));
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn what_is_not_there_is_not_found_and_is_destroyed_well(sandbox: &Sandbox) {
    let id = request().instance_id;
    let mut instances = sandbox.instances().await;
    let info = v1::GetInfoRequest {
        instance_id: id.clone(),
    };
    let whole = v1::GetInstanceRequest {
        instance_id: id.clone(),
    };
    let boot = v1::WatchBootRequest {
        instance_id: id.clone(),
    };
    let console = v1::GetConsoleOutputRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let refused = [
        instances.get_info(info).await.unwrap_err(),
        instances.get_instance(whole).await.unwrap_err(),
        instances.watch_boot(boot).await.unwrap_err(),
        sandbox
            .console()
            .await
            .get_console_output(console)
            .await
            .unwrap_err(),
    ];
    for status in refused {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::NotFound, "INSTANCE_NOT_FOUND"),
            "{status:?}"
        );
    }
    for _ in 0..3 {
        assert!(sandbox.destroy(&id).await.unwrap(), "absent is a success");
    }
    sandbox.assert_clean().await;
}
