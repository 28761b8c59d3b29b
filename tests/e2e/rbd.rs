//! Images of a real Ceph cluster, whose key nobody is shown.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use computedriver::v1::{self, volume_connection::Target as Place};
use tonic::Code;

use crate::{
    support::{
        Sandbox, Shell,
        ceph::Ceph,
        guest_request, reason, said,
        volume::{
            assert_untold, attach, bootable, connection, detach, disk, disks, kept, restart, swap,
        },
    },
    volume_root::a_far_disk_is_booted_from,
};

suite! {
    a_guest_writes_to_an_image_which_stays_over_a_crash_grows_is_swapped_and_goes,
    an_image_that_cannot_be_reached_is_told_and_changes_nothing,
}

const MIB: u64 = 1 << 20;

/// A sandbox whose server and guests reach a cluster on loopback.
async fn ceph(sandbox: &mut Sandbox) -> Ceph {
    if sandbox.is_system() {
        sandbox.move_inside().await;
    }
    Ceph::start(sandbox)
}

/// A new file where volumes may be.
fn file(sandbox: &Sandbox, name: &str, size: u64) -> PathBuf {
    let folder = sandbox.path().join("volumes");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    let path = folder.join(name);
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    path
}

fn size(sandbox: &Sandbox, ceph: &Ceph) -> u64 {
    let told = ceph.rbd(sandbox, &["info", "--format", "json", "one"]);
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    told["size"].as_u64().unwrap()
}

async fn a_guest_writes_to_an_image_which_stays_over_a_crash_grows_is_swapped_and_goes(
    sandbox: &mut Sandbox,
) {
    let ceph = ceph(sandbox).await;
    ceph.rbd(sandbox, &["create", "--size", "16M", "one"]);
    let image = ceph.image(sandbox, "one");
    let key = image.secret_key.clone();
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let one = disk("one", Place::Rbd(image));
    let told = attach(sandbox, &id, &one).await.unwrap();
    let seen = (told.device_name.as_str(), told.size_bytes, told.reachable);
    assert_eq!(seen, ("vdb", 16 * MIB, true));
    said(sandbox, &id, "GUEST-UEVENT add block vdb", 1).await;
    attach(sandbox, &id, &one).await.expect("twice is as once");
    let mut shell = Shell::login(sandbox, &id).await;
    shell
        .run("echo written by the guest | dd of=/dev/vdb conv=fsync")
        .await;
    let bytes = ceph.rbd(sandbox, &["export", "--no-progress", "one", "-"]);
    assert!(bytes.starts_with(b"written by the guest\n"));
    assert_untold(sandbox, &key);

    let mut devices = sandbox.devices().await;
    let extend = v1::ExtendVolumeRequest {
        instance_id: id.clone(),
        disk_id: "one".to_owned(),
        size_bytes: 32 * MIB,
        ..Default::default()
    };
    let e = devices.extend_volume(extend.clone()).await.unwrap_err();
    assert_eq!(reason(&e), "VOLUME_UNUSABLE");
    assert_eq!(size(sandbox, &ceph), 16 * MIB, "QEMU grows no image");
    ceph.rbd(
        sandbox,
        &["resize", "--no-progress", "--size", "32M", "one"],
    );
    let grown = devices.extend_volume(extend).await.unwrap().into_inner();
    assert_eq!(grown.disk.unwrap().size_bytes, 32 * MIB);
    assert_eq!(size(sandbox, &ceph), 32 * MIB);
    let told = shell.run("cat /sys/block/vdb/size").await;
    assert!(told.contains("65536"), "{told}");

    // To a file, and on to another image.
    let path = file(sandbox, "local", 32 * MIB);
    let local = v1::LocalTarget {
        path: path.display().to_string(),
    };
    swap(sandbox, &id, "one", connection(Place::Local(local))).await;
    assert!(
        fs::read(&path)
            .unwrap()
            .starts_with(b"written by the guest\n")
    );
    assert!(kept(sandbox).is_empty(), "a file has no secret");
    shell
        .run("echo into the file | dd of=/dev/vdb seek=1 conv=fsync")
        .await;
    ceph.rbd(sandbox, &["create", "--size", "32M", "two"]);
    let two = connection(Place::Rbd(ceph.image(sandbox, "two")));
    swap(sandbox, &id, "one", two).await;
    shell
        .run("echo into the image | dd of=/dev/vdb seek=2 conv=fsync")
        .await;
    let bytes = ceph.rbd(sandbox, &["export", "--no-progress", "two", "-"]);
    assert!(bytes.starts_with(b"written by the guest\n"));
    assert!(bytes[512..].starts_with(b"into the file\n"));
    assert!(bytes[1024..].starts_with(b"into the image\n"));
    assert_untold(sandbox, &key);
    drop(shell);

    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    restart(sandbox, &id).await;
    said(sandbox, &id, "GUEST-MILESTONE-ready", 2).await;
    let mut shell = Shell::login(sandbox, &id).await;
    let told = shell.run("head -c 20 /dev/vdb").await;
    assert!(told.contains("written by the guest"), "{told}");
    assert_untold(sandbox, &key);
    drop(shell);
    detach(sandbox, &id, "one").await;
    assert!(kept(sandbox).is_empty(), "its secret went with it");
    attach(sandbox, &id, &one).await.unwrap();
    sandbox.destroy(&id).await.unwrap();
    assert!(kept(sandbox).is_empty(), "its secret went with it");
    sandbox.assert_clean().await;
}

async fn an_image_that_cannot_be_reached_is_told_and_changes_nothing(sandbox: &mut Sandbox) {
    let ceph = ceph(sandbox).await;
    ceph.rbd(sandbox, &["create", "--size", "16M", "one"]);
    let good = ceph.image(sandbox, "one");
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let before = disks(sandbox, &id).await;
    let wrong = |change: &dyn Fn(&mut v1::RbdTarget)| {
        let mut image = good.clone();
        change(&mut image);
        image
    };
    let other = "AQBSdFhcAAAAABAAJ5yEzoXcAyAPc1RVKCQZsg==";
    let all = [
        (wrong(&|image| image.image.push('x')), "no such image"),
        (wrong(&|image| image.pool.push('x')), "no such pool"),
        (
            wrong(&|image| image.secret_key = "aGVsbG8=".to_owned()),
            "no key of Ceph",
        ),
        (
            wrong(&|image| image.secret_key = other.to_owned()),
            "within 10 s",
        ),
    ];
    for (image, words) in all {
        let bad = disk("bad", Place::Rbd(image));
        let e = attach(sandbox, &id, &bad).await.unwrap_err();
        let expected = match words {
            "within 10 s" => (Code::Aborted, "VOLUME_CONNECT_FAILED"),
            _ => (Code::FailedPrecondition, "VOLUME_UNUSABLE"),
        };
        assert_eq!((e.code(), reason(&e).as_str()), expected, "{e:?}");
        assert!(e.message().contains(words), "{words}: {e:?}");
    }
    assert_eq!(disks(sandbox, &id).await, before);
    assert!(kept(sandbox).is_empty());
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_guest_boots_from_an_image_of_the_cluster_and_is_rescued() {
    let mut sandbox = Sandbox::start(&[]).await;
    let ceph = ceph(&mut sandbox).await;
    let raw = ceph.file("root.raw");
    bootable(&raw);
    let from = raw.display().to_string();
    ceph.rbd(&sandbox, &["import", "--no-progress", &from, "root"]);
    let image = ceph.image(&sandbox, "root");
    let key = image.secret_key.clone();
    let far = connection(Place::Rbd(image));
    a_far_disk_is_booted_from(&sandbox, &far).await;
    assert_untold(&sandbox, &key);
    assert!(kept(&sandbox).is_empty());
}
