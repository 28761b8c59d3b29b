//! Real guests are rescued: from their own image or another, until they are unrescued, by somebody or by the time.

use computedriver::v1::{self, EventKind, OperationState, Phase, PowerState};

use crate::{
    lifecycle::{kinds, rescue, unrescue, watch},
    power::{off, seconds, state},
    support::{Sandbox, guest, guest_request, image, reason, request, until},
};

/// Run by the guest at each boot. It tells on which disk it is by what it finds there.
const SCRIPT: &str = r#"#!/bin/sh
mkdir -p /mnt
if [ -e /marker ]; then echo "GUEST-ITSELF $(cat /marker)"
elif [ -b /dev/vdb2 ] && mount -t ext4 /dev/vdb2 /mnt; then
    echo "GUEST-RESCUES $(cat /mnt/marker)"
    echo mended >> /mnt/marker
    umount /mnt
    echo GUEST-DONE
else
    echo first > /marker
    sync
    echo GUEST-NEW
fi
"#;

fn asked(id: &str) -> v1::RescueRequest {
    v1::RescueRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    }
}

fn ending(id: &str) -> v1::UnrescueRequest {
    v1::UnrescueRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    }
}

async fn instance(sandbox: &Sandbox, id: &str) -> v1::Instance {
    let asked = v1::GetInstanceRequest {
        instance_id: id.to_owned(),
    };
    let answer = sandbox.instances().await.get_instance(asked).await;
    answer.unwrap().into_inner().instance.unwrap()
}

/// What the guest sees, in order.
fn disks(instance: &v1::Instance) -> Vec<(&str, &str)> {
    let disks = instance.disks.iter();
    disks
        .map(|disk| (disk.disk_id.as_str(), disk.device_name.as_str()))
        .collect()
}

/// Waits until the guest has said so.
async fn says(sandbox: &Sandbox, id: &str, text: &str) {
    let heard = || async {
        let asked = v1::GetConsoleOutputRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let answer = sandbox.console().await.get_console_output(asked).await;
        let output = answer.unwrap().into_inner().output;
        let said = String::from_utf8_lossy(&output).replace("\r\n", "\n");
        said.contains(text).then_some(())
    };
    until(text, heard).await;
}

#[tokio::test]
async fn a_guest_is_mended_from_its_own_image_with_its_disk_beside_and_its_config_drive_kept() {
    let sandbox = Sandbox::start(&[]).await;
    let spawn = v1::SpawnRequest {
        user_data: SCRIPT.as_bytes().to_vec(),
        config_drive: Some(true),
        ..guest_request("GUEST-NEW")
    };
    let (before, _) = sandbox.spawn(spawn).await.unwrap();
    let id = &before.instance_id;
    let mut events = watch(&sandbox).await;
    let (rescued, seen) = rescue(&sandbox, asked(id)).await.unwrap();
    assert!(rescued.rescued && rescued.rescue_end_time.is_none());
    assert_eq!(rescued.power_state(), PowerState::Running);
    let cut = seen.iter().any(|told| told.step == "stop guest");
    assert!(!cut, "it went by itself: {seen:?}");
    let first = [("rescue", "vda"), ("root", "vdb")];
    assert_eq!(disks(&rescued)[..2], first);
    assert!(
        disks(&rescued).contains(&("config", "sda")),
        "{:?}",
        rescued.disks
    );
    says(&sandbox, id, "GUEST-RESCUES first").await;
    says(&sandbox, id, "GUEST-DONE").await;
    // The same again is a success that starts nothing; another one is refused.
    let emulators = sandbox.emulators();
    rescue(&sandbox, asked(id)).await.unwrap();
    assert_eq!(sandbox.emulators(), emulators);
    let other = v1::RescueRequest {
        image: Some(image(&guest().join("boot-sector.raw"), v1::DiskFormat::Raw)),
        ..asked(id)
    };
    let refused = rescue(&sandbox, other).await.unwrap_err();
    assert_eq!(reason(&refused), "INSTANCE_STATE");
    let (after, _) = unrescue(&sandbox, ending(id)).await.unwrap();
    assert!(!after.rescued);
    assert_eq!(disks(&after), disks(&before));
    says(&sandbox, id, "GUEST-ITSELF first\nmended").await;
    // Two that changed something, one that found it so, one refused.
    let told = kinds(&mut events, 4).await;
    for kind in [EventKind::Rescued, EventKind::Unrescued] {
        assert_eq!(told.iter().filter(|told| **told == kind).count(), 1);
    }
    assert!(!told.contains(&EventKind::Stopped), "{told:?}");
    unrescue(&sandbox, ending(id)).await.unwrap();
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_deaf_guest_is_rescued_from_another_image_that_goes_when_it_is_over() {
    let sandbox = Sandbox::start(&["--set", "guests.shutdown_timeout=1s"]).await;
    let (spawned, _) = sandbox.spawn(request()).await.unwrap();
    let id = &spawned.instance_id;
    let from = guest().join("guest.qcow2");
    let other = v1::RescueRequest {
        image: Some(image(&from, v1::DiskFormat::Qcow2)),
        ..asked(id)
    };
    let (rescued, seen) = rescue(&sandbox, other.clone()).await.unwrap();
    assert!(seen.iter().any(|told| told.step == "stop guest"));
    let used = || async {
        let asked = v1::ListImagesRequest::default();
        let answer = sandbox.images().await.list_images(asked).await;
        let images = answer.unwrap().into_inner().images;
        let uses = images.into_iter().filter(|i| i.instance_ids.contains(id));
        uses.count()
    };
    assert_eq!(used().await, 2);
    let size = |of: &v1::Instance| of.disks[0].size_bytes;
    assert_ne!(size(&rescued), size(&spawned), "it is another disk");
    unrescue(&sandbox, ending(id)).await.unwrap();
    assert_eq!(used().await, 1);
    assert!(
        !sandbox
            .path()
            .join("instances")
            .join(id)
            .join("disk.rescue")
            .is_file()
    );
    // What cannot be had leaves the guest alone.
    let emulators = sandbox.emulators();
    let mut missing = other.clone();
    missing.image.as_mut().unwrap().location.push_str(".gone");
    missing.image.as_mut().unwrap().sha256 = "00".repeat(32);
    let refused = rescue(&sandbox, missing).await.unwrap_err();
    assert_eq!(reason(&refused), "IMAGE_NOT_FOUND");
    assert_eq!(sandbox.emulators(), emulators);
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_rescue_ends_by_itself_also_when_the_server_was_away_meanwhile() {
    let rules = ["guests.rescue_timeout=2s", "guests.shutdown_timeout=0s"];
    let mut sandbox = Sandbox::start(&["--set", rules[0], "--set", rules[1]]).await;
    let (spawned, _) = sandbox.spawn(request()).await.unwrap();
    let id = &spawned.instance_id;
    let (rescued, _) = rescue(&sandbox, asked(id)).await.unwrap();
    assert!(rescued.rescue_end_time.is_some());
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    let over = || async { (!instance(&sandbox, id).await.rescued).then_some(()) };
    until("the end of the rescue", over).await;
    assert_eq!(state(&sandbox, id).await, PowerState::Running);
    // One that its owner has switched off stays off.
    rescue(&sandbox, asked(id)).await.unwrap();
    let cut = v1::PowerOffRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    off(&sandbox, cut).await.unwrap();
    until("the end of the rescue", over).await;
    assert_eq!(state(&sandbox, id).await, PowerState::Shutdown);
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Lets a rescue begin, and kills the server when it comes to that phase.
async fn cut(sandbox: &mut Sandbox, id: &str, phase: Phase) {
    let answer = sandbox.instances().await.rescue(asked(id)).await.unwrap();
    let mut answers = answer.into_inner();
    while let Ok(Some(message)) = answers.message().await {
        if let Some(v1::rescue_response::Event::Progress(told)) = message.event
            && told.phase() == phase
        {
            break;
        }
    }
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
}

#[tokio::test]
async fn a_rescue_that_a_crash_cut_is_done_or_undone_and_says_which() {
    let mut sandbox = Sandbox::start(&["--set", "guests.shutdown_timeout=1s"]).await;
    let (spawned, _) = sandbox.spawn(request()).await.unwrap();
    let id = &spawned.instance_id;
    let disk = sandbox
        .path()
        .join("instances")
        .join(id)
        .join("disk.rescue");
    for phase in [
        Phase::FetchImage,
        Phase::CreateDisks,
        Phase::Shutdown,
        Phase::Stop,
        Phase::Define,
        Phase::Start,
        Phase::Running,
    ] {
        cut(&mut sandbox, id, phase).await;
        let now = instance(&sandbox, id).await;
        let listed = v1::ListOperationsRequest::default();
        let answer = sandbox.operations().await.list_operations(listed).await;
        let operations = answer.unwrap().into_inner().operations;
        // Newest first.
        let last = operations.iter().find(|one| one.verb == "Rescue").unwrap();
        match last.state() {
            OperationState::Succeeded => assert!(now.rescued, "{phase:?}"),
            OperationState::Failed => {
                assert!(!now.rescued, "{phase:?}");
                let e = last.error.as_ref().unwrap();
                assert_eq!(e.reason(), v1::Reason::OperationInterrupted);
                assert_eq!(e.fields["power_state"], "RUNNING");
                assert!(!disk.is_file(), "{phase:?} left a disk");
            }
            other => panic!("{phase:?}: {other:?}"),
        }
        assert_eq!(now.power_state(), PowerState::Running, "{phase:?}");
        assert_eq!(sandbox.emulators().len(), 1, "{phase:?}");
        unrescue(&sandbox, ending(id)).await.unwrap();
        assert!(!disk.is_file());
    }
    let fault = v1::RescueRequest {
        admin_password: "secret".to_owned(),
        ..asked(id)
    };
    let refused = rescue(&sandbox, fault).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_SUPPORTED");
    let patient = v1::PowerOffRequest {
        instance_id: id.clone(),
        timeout: seconds(1),
        ..Default::default()
    };
    off(&sandbox, patient).await.unwrap();
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}
