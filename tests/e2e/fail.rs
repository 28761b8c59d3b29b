//! Real spawns that fail by themselves, each in another phase: nothing is left, and the error names the phase.

use std::{fs, path::Path};

use computedriver::v1::{self, vif, wait_for};
use tonic::Status;
use tonic_types::StatusExt;

use crate::support::{Sandbox, reason, request, sha256};

suite! {
    a_spawn_that_finds_no_image_or_no_network_leaves_nothing,
    a_spawn_whose_files_cannot_be_written_leaves_nothing,
    a_file_where_the_folder_must_go_fails_the_spawn_and_stays,
    a_guest_that_qemu_does_not_start_or_that_shows_nothing_leaves_nothing,
}

/// A small request with a config drive, whose disks and interfaces are all made before the guest is.
fn asked() -> v1::SpawnRequest {
    v1::SpawnRequest {
        config_drive: Some(true),
        vifs: vec![plugged(vif::Type::User(v1::UserVif {}))],
        ..request()
    }
}

fn plugged(kind: vif::Type) -> v1::Vif {
    v1::Vif {
        interface_id: "eth0".to_owned(),
        mac_address: "52:54:00:00:00:01".to_owned(),
        r#type: Some(kind),
        ..Default::default()
    }
}

fn phase(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    info.metadata.get("phase").cloned().unwrap_or_default()
}

/// Spawns what must fail, and asserts that it failed so and left nothing.
async fn assert_fails(sandbox: &Sandbox, asked: v1::SpawnRequest, wanted: (&str, &str)) {
    let status = sandbox.spawn(asked).await.expect_err("the spawn fails");
    println!("{}: {}", phase(&status), status.message());
    assert_eq!(
        (phase(&status).as_str(), reason(&status).as_str()),
        wanted,
        "{status:?}"
    );
    sandbox.assert_clean().await;
}

/// A folder with something in it, where a file must go.
fn in_the_way(place: &Path) {
    fs::create_dir_all(place.join("in the way")).expect("a folder");
}

async fn a_spawn_that_finds_no_image_or_no_network_leaves_nothing(sandbox: &mut Sandbox) {
    let mut lost = asked();
    lost.image.as_mut().unwrap().location.push_str(".nowhere");
    assert_fails(sandbox, lost, ("FETCH_IMAGE", "IMAGE_NOT_FOUND")).await;

    let bridge = v1::BridgeVif {
        bridge: "nosuchbr0".to_owned(),
    };
    let unplugged = v1::SpawnRequest {
        vifs: vec![plugged(vif::Type::Bridge(bridge))],
        ..asked()
    };
    assert_fails(sandbox, unplugged, ("PLUG_VIFS", "NETWORK_NOT_FOUND")).await;
}

async fn a_spawn_whose_files_cannot_be_written_leaves_nothing(sandbox: &mut Sandbox) {
    let folder =
        |asked: &v1::SpawnRequest| sandbox.path().join("instances").join(&asked.instance_id);

    let disk = asked();
    in_the_way(&folder(&disk).join("disk"));
    assert_fails(sandbox, disk, ("CREATE_DISKS", "DISK_EXISTS")).await;

    let drive = asked();
    in_the_way(&folder(&drive).join("disk.config"));
    assert_fails(sandbox, drive, ("CONFIG_DRIVE", "INTERNAL")).await;

    let definition = asked();
    in_the_way(&folder(&definition).join("libvirt.xml"));
    assert_fails(sandbox, definition, ("DEFINE", "INTERNAL")).await;
}

async fn a_file_where_the_folder_must_go_fails_the_spawn_and_stays(sandbox: &mut Sandbox) {
    let asked = asked();
    let place = sandbox.path().join("instances").join(&asked.instance_id);
    fs::write(&place, b"not ours").expect("a file");
    let status = sandbox.spawn(asked).await.expect_err("the spawn fails");
    assert_eq!(phase(&status), "CREATE_DISKS", "{status:?}");
    fs::remove_file(&place).expect("it is still there");
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_guest_that_libvirt_does_not_define_leaves_nothing() {
    let sandbox = Sandbox::start(&[]).await;
    let asked = asked();
    let name = format!("computelet-{}.xml", asked.instance_id);
    let place = sandbox.path().join("qemu/etc/qemu").join(name);
    in_the_way(&place);
    let status = sandbox.spawn(asked).await.expect_err("the spawn fails");
    assert_eq!(
        (phase(&status), reason(&status)),
        ("DEFINE".to_owned(), "HYPERVISOR_ERROR".to_owned())
    );
    fs::remove_dir_all(&place).expect("it is still there");
    sandbox.assert_clean().await;
}

async fn a_guest_that_qemu_does_not_start_or_that_shows_nothing_leaves_nothing(
    sandbox: &mut Sandbox,
) {
    let mut unbootable = asked();
    // Too short for the header of any kernel: QEMU looks, and ends.
    let no_kernel = sandbox.path().join("no-kernel");
    fs::write(&no_kernel, b"no kernel").expect("a file");
    unbootable.image.as_mut().unwrap().kernel = Some(v1::KernelImage {
        image_id: "no-kernel".to_owned(),
        location: format!("file://{}", no_kernel.display()),
        sha256: sha256(&no_kernel),
    });
    assert_fails(sandbox, unbootable, ("START", "HYPERVISOR_ERROR")).await;

    let silent = v1::SpawnRequest {
        wait_for: Some(v1::WaitFor {
            timeout: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            condition: Some(wait_for::Condition::ConsolePattern(
                "never shown".to_owned(),
            )),
        }),
        ..asked()
    };
    assert_fails(sandbox, silent, ("CONSOLE_PATTERN", "WAIT_TIMEOUT")).await;
}
