//! Logical units of a real iSCSI target, whose password nobody is shown.

use std::{
    fs,
    path::{Path, PathBuf},
};

use computedriver::v1::{self, block_device::Source, volume_connection::Target as Place};
use tonic::Code;

use crate::{
    support::{
        Sandbox, Shell, guest_request, reason, said,
        target::{PASSWORD, Target},
        volume::{
            assert_untold, attach, bootable, connection, detach, disk, disks, kept, restart, swap,
        },
    },
    volume_root::a_far_disk_is_booted_from,
};

suite! {
    a_guest_writes_to_a_logical_unit_which_stays_over_a_crash_and_goes,
    what_cannot_be_reached_is_told_and_changes_nothing,
    an_instance_begins_with_a_logical_unit_which_grows_and_is_swapped,
    a_guest_boots_from_a_logical_unit_and_is_rescued,
}

const MIB: u64 = 1 << 20;

fn device(name: &str, unit: v1::IscsiTarget) -> v1::BlockDevice {
    disk(name, Place::Iscsi(unit))
}

/// A sandbox whose server and guests reach a target on loopback.
async fn target(sandbox: &mut Sandbox) -> Target {
    if sandbox.is_system() {
        sandbox.move_inside().await;
    }
    Target::start(sandbox).await
}

/// Gives a unit another password.
fn worded<'a>(device: &mut v1::BlockDevice, word: &'a str) -> &'a str {
    if let Some(Source::Volume(volume)) = &mut device.source
        && let Some(Place::Iscsi(unit)) = &mut volume.target
    {
        word.clone_into(&mut unit.chap_password);
    }
    word
}

fn begins_with(path: &Path, words: &str) -> bool {
    fs::read(path).unwrap().starts_with(words.as_bytes())
}

async fn a_guest_writes_to_a_logical_unit_which_stays_over_a_crash_and_goes(sandbox: &mut Sandbox) {
    let target = target(sandbox).await;
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let one = device("one", target.unit(1, 16));
    let disk = attach(sandbox, &id, &one).await.unwrap();
    let seen = (disk.device_name.as_str(), disk.size_bytes, disk.reachable);
    assert_eq!(seen, ("vdb", 16 * MIB, true));
    said(sandbox, &id, "GUEST-UEVENT add block vdb", 1).await;
    attach(sandbox, &id, &one).await.expect("twice is as once");
    let mut shell = Shell::login(sandbox, &id).await;
    shell
        .run("echo written by the guest | dd of=/dev/vdb conv=fsync")
        .await;
    assert!(begins_with(&target.file(1), "written by the guest\n"));
    assert_untold(sandbox, PASSWORD);
    assert_ne!(kept(sandbox), Vec::<PathBuf>::new(), "libvirt keeps it");

    drop(shell);
    let mut one = one;
    let next = worded(&mut one, "chap-secret-6294");
    let e = attach(sandbox, &id, &one).await.unwrap_err();
    assert_eq!(reason(&e), "VOLUME_UNUSABLE", "the storage is asked: {e}");
    target.rotate(next);
    attach(sandbox, &id, &one).await.expect("it is rotated");
    assert_eq!(kept(sandbox).len(), 2, "one secret in two files");
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    restart(sandbox, &id).await;
    said(sandbox, &id, "GUEST-MILESTONE-ready", 2).await;
    assert_untold(sandbox, next);
    let mut shell = Shell::login(sandbox, &id).await;
    let told = shell.run("head -c 20 /dev/vdb").await;
    assert!(told.contains("written by the guest"), "{told}");
    assert_untold(sandbox, PASSWORD);
    drop(shell);

    detach(sandbox, &id, "one").await;
    said(sandbox, &id, "GUEST-UEVENT remove block vdb", 1).await;
    assert_eq!(
        kept(sandbox),
        Vec::<PathBuf>::new(),
        "its secret went with it"
    );
    attach(sandbox, &id, &one).await.unwrap();
    sandbox.destroy(&id).await.unwrap();
    assert_eq!(
        kept(sandbox),
        Vec::<PathBuf>::new(),
        "its secret went with it"
    );
    assert_untold(sandbox, PASSWORD);
    sandbox.assert_clean().await;
}

async fn what_cannot_be_reached_is_told_and_changes_nothing(sandbox: &mut Sandbox) {
    let target = target(sandbox).await;
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let good = target.unit(1, 16);
    let before = disks(sandbox, &id).await;
    let [closed] = crate::support::free_ports();
    let wrong = |change: &dyn Fn(&mut v1::IscsiTarget)| {
        let mut unit = good.clone();
        change(&mut unit);
        unit
    };
    let all = [
        (
            wrong(&|unit| unit.chap_password.push('x')),
            "refuses its CHAP",
        ),
        (
            wrong(&|unit| unit.chap_username.push('x')),
            "refuses its CHAP",
        ),
        (wrong(&|unit| unit.iqn.push('x')), "no such target"),
        (wrong(&|unit| unit.lun = 9), "no such logical unit"),
        (wrong(&|unit| unit.lun = 0), "no disk"),
        (
            wrong(&|unit| unit.portals = vec![format!("127.0.0.1:{closed}")]),
            "nobody answers",
        ),
    ];
    for (unit, words) in all {
        let e = attach(sandbox, &id, &device("bad", unit))
            .await
            .unwrap_err();
        let expected = match words {
            "nobody answers" => (Code::Aborted, "VOLUME_CONNECT_FAILED"),
            _ => (Code::FailedPrecondition, "VOLUME_UNUSABLE"),
        };
        assert_eq!((e.code(), reason(&e).as_str()), expected, "{e:?}");
        assert!(e.message().contains(words), "{words}: {e:?}");
        assert!(!format!("{e:?}").contains(PASSWORD), "{e:?}");
    }
    assert_eq!(disks(sandbox, &id).await, before);
    assert_eq!(kept(sandbox), Vec::<PathBuf>::new());
    let good = device("one", good);
    attach(sandbox, &id, &good).await.unwrap();
    let mut other = good.clone();
    worded(&mut other, "wrong");
    let e = attach(sandbox, &id, &other).await.unwrap_err();
    assert_eq!(
        reason(&e),
        "VOLUME_UNUSABLE",
        "no rotation without the target"
    );
    assert_untold(sandbox, PASSWORD);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn an_instance_begins_with_a_logical_unit_which_grows_and_is_swapped(sandbox: &mut Sandbox) {
    let target = target(sandbox).await;
    let asked = v1::SpawnRequest {
        block_devices: vec![device("one", target.unit(1, 16))],
        ..guest_request("GUEST-MILESTONE-ready")
    };
    let id = sandbox.spawn(asked.clone()).await.unwrap().0.instance_id;
    sandbox.spawn(asked).await.expect("twice is as once");
    let get = v1::GetInstanceRequest {
        instance_id: id.clone(),
    };
    let told = sandbox.instances().await.get_instance(get).await;
    let told = format!("{:?}", told.unwrap().into_inner());
    assert!(!told.contains(PASSWORD), "{told}");
    let mut shell = Shell::login(sandbox, &id).await;
    shell
        .run("echo written by the guest | dd of=/dev/vdb conv=fsync")
        .await;

    let extend = v1::ExtendVolumeRequest {
        instance_id: id.clone(),
        disk_id: "one".to_owned(),
        size_bytes: 32 * MIB,
        ..Default::default()
    };
    let mut devices = sandbox.devices().await;
    let e = devices.extend_volume(extend.clone()).await.unwrap_err();
    assert_eq!(reason(&e), "VOLUME_UNUSABLE", "the storage has not grown");
    target.unit(1, 32);
    let grown = devices.extend_volume(extend).await.unwrap().into_inner();
    assert_eq!(grown.disk.unwrap().size_bytes, 32 * MIB);
    let told = shell.run("cat /sys/block/vdb/size").await;
    assert!(told.contains("65536"), "{told}");

    let other = connection(Place::Iscsi(target.unit(2, 32)));
    swap(sandbox, &id, "one", other).await;
    shell
        .run("echo after the swap | dd of=/dev/vdb seek=1 conv=fsync")
        .await;
    assert!(begins_with(&target.file(2), "written by the guest\n"));
    let bytes = fs::read(target.file(2)).unwrap();
    assert!(bytes[512..].starts_with(b"after the swap\n"));
    assert_eq!(kept(sandbox).len(), 2, "one secret in two files");
    assert_untold(sandbox, PASSWORD);
    drop(shell);
    restart(sandbox, &id).await;
    said(sandbox, &id, "GUEST-MILESTONE-ready", 2).await;
    sandbox.destroy(&id).await.unwrap();
    assert_eq!(kept(sandbox), Vec::<PathBuf>::new());
    sandbox.assert_clean().await;
}

async fn a_guest_boots_from_a_logical_unit_and_is_rescued(sandbox: &mut Sandbox) {
    let target = target(sandbox).await;
    let disk = sandbox.path().join("root.raw");
    let size = bootable(&disk);
    let far = connection(Place::Iscsi(target.unit(1, size / MIB)));
    fs::copy(&disk, target.file(1)).unwrap();
    a_far_disk_is_booted_from(sandbox, &far).await;
    assert_untold(sandbox, PASSWORD);
    assert_eq!(kept(sandbox), Vec::<PathBuf>::new());
}
