//! A guest from request to removal.

use std::collections::BTreeSet;

use computedriver::v1::{self, Phase, PhaseEdge};
use tonic::Code;

use crate::support::{
    Sandbox, fields, finish, guest, guest_request, image, reason, request, until,
};

suite! {
    a_guest_boots_phase_by_phase_and_a_second_watcher_sees_the_same,
    a_repeated_request_answers_the_same_and_another_with_its_id_is_refused,
    hanging_up_changes_nothing_and_a_destroy_undoes,
    a_wait_in_vain_undoes_the_spawn,
    too_much_is_refused_with_what_is_left,
    disks_come_as_the_flavor_says_and_the_agent_is_waited_for,
    a_kernel_is_booted_without_a_boot_loader,
    validating_only_changes_nothing,
}

fn edges(seen: &[v1::OperationProgress], edge: PhaseEdge) -> Vec<Phase> {
    seen.iter()
        .filter(|event| event.edge() == edge)
        .map(v1::OperationProgress::phase)
        .collect()
}

async fn a_guest_boots_phase_by_phase_and_a_second_watcher_sees_the_same(sandbox: &mut Sandbox) {
    let asked = v1::SpawnRequest {
        hostname: "tiny".to_owned(),
        metadata: [("role".to_owned(), "test".to_owned())].into(),
        user_data: b"#!/bin/sh\necho USER-DATA-RAN\n".to_vec(),
        injected_files: vec![v1::InjectedFile {
            path: "/etc/motd".to_owned(),
            contents: b"hello".to_vec(),
        }],
        vifs: vec![v1::Vif {
            interface_id: "port-1".to_owned(),
            mac_address: "52:54:00:00:00:01".to_owned(),
            r#type: Some(v1::vif::Type::User(v1::UserVif {})),
            ..Default::default()
        }],
        ..guest_request("USER-DATA-RAN")
    };
    let id = asked.instance_id.clone();
    let first = tokio::spawn({
        let stream = sandbox
            .instances()
            .await
            .spawn(asked)
            .await
            .unwrap()
            .into_inner();
        finish(stream)
    });
    let watch = || async {
        let request = v1::WatchBootRequest {
            instance_id: id.clone(),
        };
        sandbox.instances().await.watch_boot(request).await.ok()
    };
    let mut second = until("the boot to be seen", watch).await.into_inner();
    let mut late = Vec::new();
    let mut told = None;
    while let Some(message) = second.message().await.unwrap() {
        match message.event.unwrap() {
            v1::watch_boot_response::Event::Progress(event) => late.push(event),
            v1::watch_boot_response::Event::Instance(instance) => told = Some(instance),
            _ => {}
        }
    }
    let (instance, seen) = first.await.unwrap().unwrap();
    for event in &seen {
        println!(
            "{:>4} {:<18} {:<9} {:>8} ms {} {}",
            event.sequence,
            format!("{:?}", event.phase()),
            format!("{:?}", event.edge()),
            event
                .elapsed
                .map_or(0, |e| e.seconds * 1000 + i64::from(e.nanos) / 1_000_000),
            event.step,
            event.evidence
        );
    }
    let order = [
        Phase::Claim,
        Phase::FetchImage,
        Phase::CreateDisks,
        Phase::ConfigDrive,
        Phase::PlugVifs,
        Phase::Define,
        Phase::Start,
        Phase::Running,
        Phase::Firmware,
        Phase::Bootloader,
        Phase::Kernel,
        Phase::Userspace,
        Phase::ConsolePattern,
    ];
    let ended: Vec<_> = edges(&seen, PhaseEdge::End)
        .into_iter()
        .filter(|phase| order.contains(phase))
        .collect();
    let mut once = ended.clone();
    once.dedup();
    assert_eq!(once, order);
    assert!(seen.is_sorted_by_key(|event| event.sequence));
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (
        edges(&seen, PhaseEdge::End).into_iter().collect(),
        edges(&late, PhaseEdge::End).into_iter().collect(),
    );
    assert_eq!(a, b, "the second watcher missed a phase");
    assert_eq!(instance.power_state(), v1::PowerState::Running);
    assert_eq!(told.unwrap().instance_id, instance.instance_id);

    let asked = v1::GetConsoleOutputRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let console = sandbox
        .console()
        .await
        .get_console_output(asked)
        .await
        .unwrap()
        .into_inner()
        .output;
    let console = String::from_utf8_lossy(&console);
    for word in [
        "Linux version",
        "GUEST-CONFIGDRIVE",
        "\"hostname\":\"tiny\"",
        "\"role\":\"test\"",
        "content/0000",
        "USER-DATA-RAN",
    ] {
        assert!(
            console.contains(word),
            "{word} is not on the console:\n{console}"
        );
    }
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
        (info.state(), info.num_cpu, info.max_mem_kib),
        (v1::PowerState::Running, 1, 128 << 10)
    );
    assert!(info.cpu_time_ns > 0);
    assert!(!sandbox.destroy(&id).await.unwrap());
    assert!(
        sandbox.destroy(&id).await.unwrap(),
        "a second destroy succeeds, and says that nothing was there"
    );
    sandbox.assert_clean().await;
}

async fn a_repeated_request_answers_the_same_and_another_with_its_id_is_refused(
    sandbox: &mut Sandbox,
) {
    let asked = v1::SpawnRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..request()
    };
    let (one, two) = tokio::join!(sandbox.spawn(asked.clone()), sandbox.spawn(asked.clone()));
    assert_eq!(one.unwrap().0.instance_id, two.unwrap().0.instance_id);
    let (again, _) = sandbox.spawn(asked.clone()).await.unwrap();
    assert_eq!(again.instance_id, asked.instance_id);
    assert_eq!(
        sandbox.emulators().len(),
        1,
        "a repeat started a second guest"
    );

    let mut other = v1::SpawnRequest {
        request_id: String::new(),
        ..asked.clone()
    };
    other.flavor.as_mut().unwrap().memory_mib = 32;
    let refused = sandbox.spawn(other.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "INSTANCE_EXISTS")
    );
    let refused = sandbox
        .spawn(v1::SpawnRequest {
            request_id: asked.request_id.clone(),
            ..other
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "REQUEST_ID_REUSED")
    );
    sandbox.destroy(&asked.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn hanging_up_changes_nothing_and_a_destroy_undoes(sandbox: &mut Sandbox) {
    let asked = guest_request("never shown by any guest");
    let id = asked.instance_id.clone();
    let mut stream = sandbox
        .instances()
        .await
        .spawn(asked.clone())
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    drop(stream);
    let Some(v1::spawn_response::Event::Progress(progress)) = first.event else {
        panic!("{first:?}")
    };
    let runs = || async {
        let request = v1::GetOperationRequest {
            operation_id: progress.operation_id.clone(),
        };
        let operation = sandbox
            .operations()
            .await
            .get_operation(request)
            .await
            .unwrap()
            .into_inner()
            .operation
            .unwrap();
        operation
            .phases
            .iter()
            .any(|phase| phase.phase() == Phase::Running)
            .then_some(())
    };
    until("the guest to run though its caller has gone", runs).await;

    let joined = sandbox
        .instances()
        .await
        .spawn(asked)
        .await
        .unwrap()
        .into_inner();
    sandbox.destroy(&id).await.unwrap();
    let ended = finish(joined).await.unwrap_err();
    assert_eq!(
        (ended.code(), reason(&ended).as_str()),
        (Code::Cancelled, "OPERATION_CANCELLED")
    );
    sandbox.assert_clean().await;
}

async fn a_wait_in_vain_undoes_the_spawn(sandbox: &mut Sandbox) {
    let mut asked = request();
    asked.wait_for = Some(v1::WaitFor {
        timeout: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        condition: Some(v1::wait_for::Condition::Phase(
            v1::BootPhase::Userspace.into(),
        )),
    });
    let late = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(
        (late.code(), reason(&late).as_str()),
        (Code::DeadlineExceeded, "WAIT_TIMEOUT")
    );
    sandbox.assert_clean().await;
}

async fn too_much_is_refused_with_what_is_left(sandbox: &mut Sandbox) {
    use tonic_types::StatusExt;
    let mut asked = request();
    asked.flavor = Some(v1::Flavor {
        vcpus: 100,
        memory_mib: 8_000_000,
        ..Default::default()
    });
    let refused = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "HOST_RESOURCES"),
        "{refused:?}"
    );
    let details = refused.get_error_details();
    let told = &details.quota_failure().expect("a QuotaFailure").violations;
    assert_eq!(told.len(), 2, "{told:?}");
    sandbox.assert_clean().await;
}

async fn disks_come_as_the_flavor_says_and_the_agent_is_waited_for(sandbox: &mut Sandbox) {
    let mut asked = guest_request("unused");
    asked.flavor = Some(v1::Flavor {
        vcpus: 1,
        memory_mib: 128,
        root_gib: 1,
        ephemeral_gib: 1,
        swap_mib: 64,
        ..Default::default()
    });
    asked.block_devices = vec![v1::BlockDevice {
        disk_id: "data".to_owned(),
        source: Some(v1::block_device::Source::Blank(v1::BlankDisk {
            size_gib: 1,
            ..Default::default()
        })),
        ..Default::default()
    }];
    asked.wait_for.as_mut().unwrap().condition =
        Some(v1::wait_for::Condition::Phase(v1::BootPhase::Agent.into()));
    let (instance, seen) = sandbox.spawn(asked).await.unwrap();
    assert!(edges(&seen, PhaseEdge::End).contains(&Phase::Agent));
    let kinds: Vec<_> = instance.disks.iter().map(v1::Disk::kind).collect();
    use v1::DiskKind::{Blank, ConfigDrive, Ephemeral, Root, Swap};
    assert_eq!(kinds, [Root, Ephemeral, Swap, Blank, ConfigDrive]);
    assert_eq!(instance.disks[0].size_bytes, 1 << 30);
    for disk in fs_disks(sandbox, &instance.instance_id) {
        let check = crate::support::command("qemu-img")
            .args(["check", "-q", "-U"])
            .arg(&disk)
            .status()
            .unwrap();
        assert!(
            // 63: a raw disk has nothing to check; 3: clusters that the guest, which writes, has just taken.
            check.success() || matches!(check.code(), Some(3 | 63)),
            "{}: {check}",
            disk.display()
        );
    }
    sandbox.destroy(&instance.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

fn fs_disks(sandbox: &Sandbox, id: &str) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(sandbox.path().join("instances").join(id)).unwrap();
    let files = folder.flatten().map(|entry| entry.path());
    files
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("disk"))
        })
        .collect()
}

async fn a_kernel_is_booted_without_a_boot_loader(sandbox: &mut Sandbox) {
    let mut asked = guest_request("GUEST-MILESTONE-init");
    let kernel = |name: &str| {
        let path = guest().join(name);
        Some(v1::KernelImage {
            image_id: name.to_owned(),
            location: format!("file://{}", path.display()),
            sha256: crate::support::sha256(&path),
        })
    };
    let mut image = image(&guest().join("guest.qcow2"), v1::DiskFormat::Qcow2);
    image.kernel = kernel("vmlinuz");
    image.ramdisk = kernel("initrd.gz");
    image.kernel_command_line =
        "root=/dev/vda2 console=ttyS0 tsc=unstable mitigations=off".to_owned();
    asked.image = Some(image);
    let (instance, seen) = sandbox.spawn(asked).await.unwrap();
    assert!(!edges(&seen, PhaseEdge::End).contains(&Phase::Bootloader));
    sandbox.destroy(&instance.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn validating_only_changes_nothing(sandbox: &mut Sandbox) {
    let fine = v1::SpawnRequest {
        validate_only: true,
        ..request()
    };
    let mut stream = sandbox
        .instances()
        .await
        .spawn(fine)
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_none());
    let mut wrong = v1::SpawnRequest {
        validate_only: true,
        ..request()
    };
    wrong
        .flavor
        .as_mut()
        .unwrap()
        .extra_specs
        .insert("hw:nonsense".to_owned(), "1".to_owned());
    let refused = sandbox.instances().await.spawn(wrong).await.unwrap_err();
    assert!(
        reason(&refused) == "NOT_SUPPORTED" || !fields(&refused).is_empty(),
        "{refused:?}"
    );
    sandbox.assert_clean().await;
}
