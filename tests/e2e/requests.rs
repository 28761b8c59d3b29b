//! Bad requests, and the truth of the capability table.

use computedriver::v1;
use tonic::Code;

use crate::support::{Sandbox, fields, reason, request};

#[tokio::test]
async fn every_fault_of_a_request_is_told_at_once() {
    let sandbox = Sandbox::start(&[]).await;
    let wrong = v1::SpawnRequest {
        instance_id: "../../etc/passwd".to_owned(),
        request_id: "x".to_owned(),
        hostname: "a\0b".to_owned(),
        display_name: "a\nb".to_owned(),
        metadata: (0..10_000)
            .map(|i| (i.to_string(), String::new()))
            .collect(),
        flavor: Some(v1::Flavor {
            vcpus: 0,
            memory_mib: u64::MAX,
            root_gib: u64::MAX,
            ..Default::default()
        }),
        image: Some(v1::Image {
            location: "ftp://x".to_owned(),
            sha256: "zz".to_owned(),
            ..Default::default()
        }),
        injected_files: vec![v1::InjectedFile {
            path: "../x".to_owned(),
            contents: Vec::new(),
        }],
        user_data: vec![0; 70_000],
        vifs: vec![v1::Vif {
            interface_id: "a/b".to_owned(),
            mac_address: "ff:ff:ff:ff:ff:ff".to_owned(),
            ..Default::default()
        }],
        root_device_name: "../x".to_owned(),
        block_devices: vec![v1::BlockDevice {
            disk_id: String::new(),
            ..Default::default()
        }],
        wait_for: Some(v1::WaitFor {
            condition: Some(v1::wait_for::Condition::ConsolePattern("(".to_owned())),
            timeout: None,
        }),
        ..Default::default()
    };
    let refused = sandbox.instances().await.spawn(wrong).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "INVALID_REQUEST")
    );
    let told = fields(&refused);
    for field in [
        "instance_id",
        "request_id",
        "hostname",
        "display_name",
        "metadata",
        "flavor.vcpus",
        "flavor.memory_mib",
        "flavor.root_gib",
        "image.image_id",
        "image.location",
        "image.sha256",
        "image.format",
        "injected_files[0].path",
        "user_data",
        "vifs[0].interface_id",
        "vifs[0].mac_address",
        "vifs[0].type",
        "root_device_name",
        "block_devices[0].disk_id",
        "block_devices[0].source",
        "wait_for.console_pattern",
    ] {
        assert!(
            told.iter().any(|told| told == field),
            "{field} is not told among {told:?}"
        );
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let sandbox = Sandbox::start(&[]).await;
    let mut asked = request();
    asked.vifs = vec![v1::Vif {
        interface_id: "port-1".to_owned(),
        mac_address: "52:54:00:00:00:01".to_owned(),
        r#type: Some(v1::vif::Type::Ovs(v1::OvsVif::default())),
        ..Default::default()
    }];
    asked.image.as_mut().unwrap().properties = Some(v1::ImageProperties {
        hw_tpm_version: Some(v1::TpmVersion::TpmVersion20.into()),
        ..Default::default()
    });
    let refused = sandbox.instances().await.spawn(asked).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "NOT_SUPPORTED")
    );
    for word in ["vifs[0].ovs", "hw_tpm_version"] {
        assert!(
            refused.message().contains(word),
            "{word} is not in {:?}",
            refused.message()
        );
    }
}

#[tokio::test]
async fn a_huge_message_is_refused_and_the_server_goes_on() {
    let sandbox = Sandbox::start(&[]).await;
    let huge = v1::SpawnRequest {
        user_data: vec![0; 100 << 20],
        ..request()
    };
    let refused = sandbox.instances().await.spawn(huge).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "INVALID_REQUEST")
    );
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn an_instance_that_is_not_here_is_not_found() {
    let sandbox = Sandbox::start(&[]).await;
    let id = uuid::Uuid::new_v4().to_string();
    let info = sandbox
        .instances()
        .await
        .get_info(v1::GetInfoRequest {
            instance_id: id.clone(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        (info.code(), reason(&info).as_str()),
        (Code::NotFound, "INSTANCE_NOT_FOUND")
    );
    assert!(sandbox.destroy(&id).await.unwrap());
    let operation = v1::GetOperationRequest { operation_id: id };
    let operation = sandbox
        .operations()
        .await
        .get_operation(operation)
        .await
        .unwrap_err();
    assert_eq!(reason(&operation), "OPERATION_NOT_FOUND");
    let page = v1::ListInstancesRequest {
        page_token: "zz".to_owned(),
        ..Default::default()
    };
    let page = sandbox
        .instances()
        .await
        .list_instances(page)
        .await
        .unwrap_err();
    assert_eq!(reason(&page), "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn the_capability_table_tells_the_truth_rpc_by_rpc() {
    let sandbox = Sandbox::start(&[]).await;
    let told = sandbox
        .host()
        .await
        .get_capabilities(v1::GetCapabilitiesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(told.rpcs.len() > 80, "{} RPCs are told", told.rpcs.len());
    for rpc in &told.rpcs {
        let status = ask(&sandbox, &format!("/{}/{}", rpc.service, rpc.method)).await;
        let unserved = status
            .as_ref()
            .is_some_and(|status| status.code() == Code::Unimplemented);
        assert_eq!(
            unserved, !rpc.supported,
            "{}.{}: {status:?}",
            rpc.service, rpc.method
        );
        if let Some(status) = status.filter(|_| unserved) {
            assert_eq!(
                reason(&status),
                "NOT_SUPPORTED",
                "{}.{}",
                rpc.service,
                rpc.method
            );
        }
    }
    let hypervisor = told.hypervisor.unwrap();
    assert_eq!(hypervisor.mode(), v1::HypervisorMode::Embedded);
    assert!(
        hypervisor.reachable
            && !hypervisor.library_version.is_empty()
            && !hypervisor.version.is_empty()
    );
    let names: std::collections::BTreeSet<_> = told.features.iter().map(|one| &one.name).collect();
    assert!(
        names.len() >= 43 && names.len() == told.features.len(),
        "each is told once: {names:?}"
    );
    for feature in &told.features {
        let why = !feature.unsupported_reason.is_empty();
        assert_eq!(feature.supported, !why, "{}", feature.name);
    }
}

/// Calls an RPC with an empty message; how it fails, if it does.
async fn ask(sandbox: &Sandbox, path: &str) -> Option<tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(sandbox.channel().await);
    grpc.ready().await.expect("a connection");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = path.parse().expect("a path");
    match grpc
        .server_streaming(tonic::Request::new(()), path, codec)
        .await
    {
        Ok(answer) => answer.into_inner().message().await.err(),
        Err(status) => Some(status),
    }
}
