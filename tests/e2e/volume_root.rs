//! Real guests that boot from volumes, which outlive them: raw and qcow2 files, and block devices.

mod kept;

use std::fs;

use computedriver::v1::{self, DiskKind, PowerState, block_device::Source};
use tonic::{Code, Status};

use kept::{Kept, Loop, place, run};

use crate::{
    lifecycle::{reboot, rescue, resume, suspend, unrescue},
    power::{off, signal, state},
    support::{
        Sandbox, Shell, fields, guest, guest_request, image, reason, request, sha256, until,
    },
};

/// Makes tests of checks that take a sandbox which lets volumes be block devices too.
macro_rules! suite_with_devices {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $check() {
                let mut sandbox = crate::support::Sandbox::start(&super::DIRS).await;
                super::$check(&mut sandbox).await;
            })*
        }

        mod system {
            $(#[tokio::test]
            async fn $check() {
                if let Some(mut sandbox) = crate::support::Sandbox::start_system(&super::DIRS).await {
                    super::$check(&mut sandbox).await;
                }
            })*
        }
    };
}

suite_with_devices! {
    a_guest_boots_from_a_raw_file_which_keeps_what_it_writes,
    a_guest_boots_from_a_qcow2_file_which_keeps_what_it_writes,
    a_guest_boots_from_a_block_device_which_keeps_what_it_writes,
    a_running_guest_is_given_a_qcow2_file_and_a_block_device_and_sees_them_grow,
    a_guest_that_boots_from_a_volume_is_rescued_and_mended,
    a_spawn_that_fails_or_is_cut_leaves_the_volume_as_it_was,
}

const DIRS: [&str; 2] = ["--set", "volumes.dirs={state_dir}/volumes,/dev"];
const READY: &str = "GUEST-MILESTONE-ready";
const MIB: u64 = 1 << 20;

fn device(name: &str, volume: &v1::VolumeConnection) -> v1::BlockDevice {
    v1::BlockDevice {
        disk_id: name.to_owned(),
        source: Some(Source::Volume(volume.clone())),
        ..Default::default()
    }
}

/// A request that boots from it, and waits for words of the guest.
fn booting(volume: &v1::VolumeConnection, pattern: &str) -> v1::SpawnRequest {
    let root = v1::BlockDevice {
        boot_index: Some(0),
        ..device("boot", volume)
    };
    let asked = guest_request(pattern);
    let flavor = asked.flavor.map(|flavor| v1::Flavor {
        root_gib: 0,
        ..flavor
    });
    v1::SpawnRequest {
        image: None,
        flavor,
        block_devices: vec![root],
        ..asked
    }
}

async fn disks(sandbox: &Sandbox, id: &str) -> Vec<v1::Disk> {
    let asked = v1::ListDisksRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let listed = sandbox.devices().await.list_disks(asked).await.unwrap();
    listed.into_inner().disks
}

async fn extend(sandbox: &Sandbox, id: &str, (name, size_bytes): (&str, u64)) -> v1::Disk {
    let asked = v1::ExtendVolumeRequest {
        instance_id: id.to_owned(),
        disk_id: name.to_owned(),
        size_bytes,
        ..Default::default()
    };
    let answer = sandbox.devices().await.extend_volume(asked).await;
    answer.unwrap().into_inner().disk.unwrap()
}

async fn detach(sandbox: &Sandbox, id: &str, name: &str) -> Result<(), Status> {
    let asked = v1::DetachVolumeRequest {
        instance_id: id.to_owned(),
        disk: Some(v1::detach_volume_request::Disk::DiskId(name.to_owned())),
        ..Default::default()
    };
    let answer = sandbox.devices().await.detach_volume(asked).await;
    answer.map(drop)
}

/// Waits until the guest has booted so often.
async fn booted(sandbox: &Sandbox, id: &str, times: usize) {
    let enough = || async {
        let asked = v1::GetConsoleOutputRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let answer = sandbox.console().await.get_console_output(asked).await;
        let output = answer.unwrap().into_inner().output;
        let seen = String::from_utf8_lossy(&output).matches(READY).count();
        (seen >= times).then_some(())
    };
    until("the guest to boot", enough).await;
}

/// Sectors of a disk, as the guest sees them.
async fn sectors(shell: &mut Shell, name: &str) -> u64 {
    let told = shell.run(&format!("cat /sys/block/{name}/size")).await;
    let mut numbers = told.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next_back().expect("a number")
}

fn is_refused(answer: Result<(), Status>, (code, expected): (Code, &str)) {
    let e = answer.unwrap_err();
    assert_eq!((e.code(), reason(&e).as_str()), (code, expected), "{e}");
}

/// What cannot be done to an instance with such a root disk is refused and changes nothing.
async fn refusals(sandbox: &Sandbox, id: &str, volume: &v1::VolumeConnection) {
    let unserved = (Code::FailedPrecondition, "NOT_SUPPORTED");
    is_refused(detach(sandbox, id, "boot").await, unserved);
    let rebuild = v1::RebuildRequest {
        instance_id: id.to_owned(),
        image: guest_request("unused").image,
        ..Default::default()
    };
    let rebuilt = async {
        let answer = sandbox.instances().await.rebuild(rebuild).await?;
        let mut stream = answer.into_inner();
        while stream.message().await?.is_some() {}
        Ok(())
    };
    is_refused(rebuilt.await, unserved);
    let other = sandbox.spawn(booting(volume, "unused")).await.map(drop);
    is_refused(other, (Code::AlreadyExists, "DISK_EXISTS"));
    assert_eq!(sandbox.listed().await, [id]);
}

/// The server and the guest are lost, as when the host loses its power; both come again, and the device has another name.
async fn host_is_lost(sandbox: &mut Sandbox, device: &mut Loop) {
    sandbox.kill();
    for pid in sandbox.emulators() {
        signal("-KILL", pid);
    }
    until("the emulators' end", || {
        std::future::ready(sandbox.emulators().is_empty().then_some(()))
    })
    .await;
    device.rename();
    sandbox.launch();
    sandbox.ready().await;
}

async fn powers_off(sandbox: &Sandbox, id: &str) {
    let asked = v1::PowerOffRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    off(sandbox, asked).await.unwrap();
    assert_eq!(state(sandbox, id).await, PowerState::Shutdown);
}

async fn powers_on(sandbox: &Sandbox, id: &str) {
    let asked = v1::PowerOnRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    sandbox.instances().await.power_on(asked).await.unwrap();
}

/// A saved guest wakes with its device under another name, and with no less of it than it had.
async fn sleeps_through_another_name(sandbox: &Sandbox, id: &str, device: &mut Loop) {
    let mut shell = Shell::login(sandbox, id).await;
    shell.run("echo awake > /tmp/awake").await;
    drop(shell);
    let asked = v1::SuspendRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    suspend(sandbox, asked).await.unwrap();
    let size = device.size();
    device.grow(size - MIB);
    let asked = v1::ResumeRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let e = resume(sandbox, asked.clone()).await.unwrap_err();
    assert_eq!(reason(&e), "VOLUME_UNUSABLE", "{e}");
    assert_eq!(state(sandbox, id).await, PowerState::Suspended);
    device.grow(size);
    device.rename();
    resume(sandbox, asked).await.unwrap();
    let mut shell = Shell::login(sandbox, id).await;
    let words = shell.run("cat /tmp/awake /marker; sync").await;
    let all = words.contains("awake") && words.contains("again");
    assert!(all, "it is the same run: {words:?}");
}

async fn boots_and_keeps(sandbox: &mut Sandbox, kept: &mut Kept) {
    let (volume, owner) = (kept.volume(), kept.owner());
    let (instance, seen) = sandbox.spawn(booting(&volume, READY)).await.unwrap();
    let id = instance.instance_id;
    assert!(
        seen.iter()
            .all(|told| told.phase() != v1::Phase::FetchImage),
        "there is no image: {seen:?}"
    );
    assert_eq!(instance.root_device_name, "vda");
    let root = disks(sandbox, &id).await.remove(0);
    assert_eq!(
        (root.disk_id.as_str(), root.kind(), root.boot_index),
        ("boot", DiskKind::Volume, Some(0))
    );
    assert_eq!(root.volume_id, volume.volume_id);
    let own = sandbox.path().join("instances").join(&id).join("disk");
    assert!(!own.try_exists().unwrap(), "no disk is made beside it");
    refusals(sandbox, &id, &volume).await;

    let mut shell = Shell::login(sandbox, &id).await;
    shell.run("echo kept > /marker; sync").await;
    assert_eq!(sectors(&mut shell, "vda").await * 512, root.size_bytes);
    let larger = root.size_bytes + 16 * MIB;
    kept.grow(larger);
    let grown = extend(sandbox, &id, ("boot", larger)).await;
    assert_eq!(grown.size_bytes, larger);
    assert_eq!(sectors(&mut shell, "vda").await * 512, larger);

    powers_off(sandbox, &id).await;
    powers_on(sandbox, &id).await;
    booted(sandbox, &id, 2).await;
    let mut shell = Shell::login(sandbox, &id).await;
    let words = shell.run("cat /marker; echo again >> /marker; sync").await;
    assert!(words.contains("kept"), "{words:?}");
    if let Kept::Block(device) = kept {
        host_is_lost(sandbox, device).await;
        booted(sandbox, &id, 3).await;
        sleeps_through_another_name(sandbox, &id, device).await;
    }
    sandbox.destroy(&id).await.unwrap();
    assert_eq!(kept.owner(), owner, "it is given back as it was");

    // It goes on with another instance.
    let (next, _) = sandbox.spawn(booting(&volume, READY)).await.unwrap();
    assert_eq!(next.disks[0].size_bytes, larger);
    let mut shell = Shell::login(sandbox, &next.instance_id).await;
    let words = shell.run("cat /marker").await;
    let all = words.contains("kept") && words.contains("again");
    assert!(all, "{words:?}");
    sandbox.destroy(&next.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_guest_boots_from_a_raw_file_which_keeps_what_it_writes(sandbox: &mut Sandbox) {
    let mut kept = Kept::raw(sandbox);
    boots_and_keeps(sandbox, &mut kept).await;
}

async fn a_guest_boots_from_a_qcow2_file_which_keeps_what_it_writes(sandbox: &mut Sandbox) {
    let mut kept = Kept::qcow2(sandbox);
    boots_and_keeps(sandbox, &mut kept).await;
}

async fn a_guest_boots_from_a_block_device_which_keeps_what_it_writes(sandbox: &mut Sandbox) {
    if let Some(mut kept) = Kept::block(sandbox) {
        boots_and_keeps(sandbox, &mut kept).await;
    }
}

/// An empty volume of each kind that a running guest can be given.
fn empty(sandbox: &Sandbox) -> Option<[Kept; 2]> {
    let (qcow2, file) = (place(sandbox, "data.qcow2"), place(sandbox, "data.raw"));
    let path = qcow2.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", path, "16M"]);
    fs::File::create(&file).unwrap().set_len(16 * MIB).unwrap();
    Some([Kept::Qcow2(qcow2), Kept::Block(Loop::over(&file)?)])
}

async fn a_running_guest_is_given_a_qcow2_file_and_a_block_device_and_sees_them_grow(
    sandbox: &mut Sandbox,
) {
    let Some(all) = empty(sandbox) else {
        return;
    };
    let (instance, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = instance.instance_id;
    let mut shell = Shell::login(sandbox, &id).await;
    for kept in &all {
        let (volume, owner) = (kept.volume(), kept.owner());
        let asked = v1::AttachVolumeRequest {
            instance_id: id.clone(),
            device: Some(device("data", &volume)),
            ..Default::default()
        };
        let disk = sandbox.devices().await.attach_volume(asked).await.unwrap();
        let disk = disk.into_inner().disk.unwrap();
        assert_eq!(
            (disk.device_name.as_str(), disk.size_bytes),
            ("vdb", 16 * MIB)
        );
        let there =
            "while ! [ -b /dev/vdb ]; do sleep 0.1; done; echo written | dd of=/dev/vdb conv=fsync";
        shell.run(there).await;
        kept.grow(24 * MIB);
        let grown = extend(sandbox, &id, ("data", 24 * MIB)).await;
        assert_eq!(grown.size_bytes, 24 * MIB);
        assert_eq!(sectors(&mut shell, "vdb").await * 512, 24 * MIB);
        let end = "echo at the end | dd of=/dev/vdb bs=1M seek=23 conv=fsync";
        shell.run(end).await;
        detach(sandbox, &id, "data").await.unwrap();
        shell.run("while [ -b /dev/vdb ]; do sleep 0.1; done").await;
        assert_eq!(kept.owner(), owner, "it is given back as it was");
        let copy = place(sandbox, "copy");
        let (from, to) = (kept.path().to_str().unwrap(), copy.to_str().unwrap());
        let format = match kept {
            Kept::Qcow2(_) => "qcow2",
            _ => "raw",
        };
        run(
            "qemu-img",
            &["convert", "-f", format, "-O", "raw", from, to],
        );
        let bytes = fs::read(&copy).unwrap();
        assert_eq!(bytes.len() as u64, 24 * MIB);
        assert!(bytes.starts_with(b"written\n"));
        assert!(bytes[23 << 20..].starts_with(b"at the end\n"));
    }
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

/// A guest that boots from the volume is rescued: from an image that is said, its own disk beside. It mends that, and boots
/// from it again. `boots` is how often it has booted so far.
async fn rescued_and_mended(sandbox: &Sandbox, id: &str, boots: usize) {
    let own = v1::RescueRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let e = rescue(sandbox, own.clone()).await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidArgument, "{e}");
    assert_eq!(fields(&e), ["image"]);
    let asked = v1::RescueRequest {
        image: Some(image(&guest().join("guest.qcow2"), v1::DiskFormat::Qcow2)),
        ..own
    };
    let (rescued, _) = rescue(sandbox, asked).await.unwrap();
    let seen = rescued.disks.iter().take(2);
    let seen: Vec<_> = seen
        .map(|disk| (disk.disk_id.as_str(), disk.kind(), disk.boot_index))
        .collect();
    let expected = [
        ("rescue", DiskKind::Rescue, Some(0)),
        ("boot", DiskKind::Volume, None),
    ];
    assert_eq!(seen, expected);
    booted(sandbox, id, boots + 1).await;
    let mut shell = Shell::login(sandbox, id).await;
    shell
        .run("mkdir -p /mnt && mount -t ext4 /dev/vdb2 /mnt && echo mended >> /mnt/marker && umount /mnt")
        .await;
    let ending = v1::UnrescueRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    unrescue(sandbox, ending).await.unwrap();
    booted(sandbox, id, boots + 2).await;
    let mut shell = Shell::login(sandbox, id).await;
    let words = shell.run("cat /marker").await;
    let all = words.contains("kept") && words.contains("mended");
    assert!(all, "{words:?}");
}

async fn a_guest_that_boots_from_a_volume_is_rescued_and_mended(sandbox: &mut Sandbox) {
    let kept = Kept::qcow2(sandbox);
    let volume = kept.volume();
    let (instance, _) = sandbox.spawn(booting(&volume, READY)).await.unwrap();
    let id = instance.instance_id;
    let mut shell = Shell::login(sandbox, &id).await;
    shell.run("echo kept > /marker; sync").await;
    drop(shell);
    // From here on its disk is two files.
    let base = kept.path().file_name().unwrap().to_str().unwrap();
    let over = place(sandbox, "over");
    let path = over.to_str().unwrap();
    let words = [
        "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path,
    ];
    run("qemu-img", &words);
    let asked = v1::CreateVolumeSnapshotRequest {
        instance_id: id.clone(),
        volume_id: volume.volume_id.clone(),
        snapshot_id: uuid::Uuid::new_v4().to_string(),
        new_file: "over".to_owned(),
        ..Default::default()
    };
    let mut devices = sandbox.devices().await;
    devices.create_volume_snapshot(asked).await.unwrap();
    let below = sha256(kept.path());
    rescued_and_mended(sandbox, &id, 1).await;
    assert_eq!(sha256(kept.path()), below, "nobody writes to it");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

/// A disk that is not on this host is a root disk like any other: it is restarted from, rescued and mended, and left when
/// its instance goes.
pub async fn a_far_disk_is_booted_from(sandbox: &Sandbox, far: &v1::VolumeConnection) {
    let (instance, _) = sandbox.spawn(booting(far, READY)).await.unwrap();
    let id = instance.instance_id;
    refusals(sandbox, &id, far).await;
    let mut shell = Shell::login(sandbox, &id).await;
    shell.run("echo kept > /marker; sync").await;
    drop(shell);
    let hard = v1::RebootRequest {
        instance_id: id.clone(),
        kind: v1::RebootKind::Hard.into(),
        ..Default::default()
    };
    reboot(sandbox, hard).await.unwrap();
    booted(sandbox, &id, 2).await;
    let mut shell = Shell::login(sandbox, &id).await;
    let words = shell.run("cat /marker").await;
    assert!(words.contains("kept"), "{words:?}");
    drop(shell);
    rescued_and_mended(sandbox, &id, 2).await;
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_spawn_that_fails_or_is_cut_leaves_the_volume_as_it_was(sandbox: &mut Sandbox) {
    let path = place(sandbox, "sector");
    fs::copy(guest().join("boot-sector.raw"), &path).unwrap();
    let kept = Kept::Raw(path.clone());
    let (bytes, owner, volume) = (sha256(&path), kept.owner(), kept.volume());
    let asked = |pattern: &str, seconds| {
        let mut asked = booting(&volume, pattern);
        let wait_for = asked.wait_for.as_mut().unwrap();
        wait_for.timeout = crate::power::seconds(seconds);
        v1::SpawnRequest {
            flavor: request().flavor,
            ..asked
        }
    };
    let e = sandbox.spawn(asked("never said", 2)).await.unwrap_err();
    assert_eq!(reason(&e), "WAIT_TIMEOUT");
    sandbox.assert_clean().await;
    assert_eq!((sha256(&path), kept.owner()), (bytes.clone(), owner));

    let cut = asked("never said", 170);
    let id = cut.instance_id.clone();
    let mut stream = sandbox
        .instances()
        .await
        .spawn(cut)
        .await
        .unwrap()
        .into_inner();
    loop {
        let message = stream.message().await.unwrap().expect("it is not done");
        let Some(v1::spawn_response::Event::Progress(told)) = message.event else {
            continue;
        };
        if told.phase() == v1::Phase::Running {
            break;
        }
    }
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
    assert_eq!((sha256(&path), kept.owner()), (bytes, owner));
    let (instance, _) = sandbox
        .spawn(asked("GUEST-BOOT-SECTOR", 170))
        .await
        .unwrap();
    sandbox.destroy(&instance.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}
