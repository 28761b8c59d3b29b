//! Volumes of a real guest that get files over them, and lose them again, while it writes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

mod cut;

use computedriver::v1::{
    self, block_device::Source, delete_volume_snapshot_response::Event as Told,
    volume_connection::Target,
};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::{
    devices::power,
    support::{
        Sandbox, Shell, command, guest_request, reason, sha256, until,
        volume::{attach, connection},
    },
    swap::copying,
};

suite! {
    a_snapshot_keeps_what_was_and_the_guest_goes_on_over_it,
    a_volume_with_files_over_it_is_extended_rebooted_and_swapped,
    files_become_one_under_load_and_no_byte_is_lost,
    a_merge_that_is_cancelled_or_cut_by_a_crash_loses_nothing,
}

const MIB: u64 = 1 << 20;
/// The serial number that the guest reads, by which the test finds its way.
const DISK: &str = "data";

pub fn volumes(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.path().join("volumes");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

pub fn ran(program: &str, args: &[&str], folder: &Path) -> String {
    let done = command(program).args(args).current_dir(folder).output();
    let done = done.unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(done.stdout).unwrap()
}

/// A storage service makes a file over another, by its bare name.
pub fn over(sandbox: &Sandbox, name: &str, base: &str) -> PathBuf {
    let folder = volumes(sandbox);
    let args = [
        "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, name,
    ];
    ran("qemu-img", &args, &folder);
    folder.join(name)
}

/// A guest with a new qcow2 volume `v0`, and somebody in it.
async fn guest(sandbox: &Sandbox) -> (String, String, Shell) {
    let args = ["create", "-q", "-f", "qcow2", "v0", "64M"];
    ran("qemu-img", &args, &volumes(sandbox));
    guest_over(sandbox).await
}

async fn guest_over(sandbox: &Sandbox) -> (String, String, Shell) {
    let folder = volumes(sandbox);
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let volume = v1::VolumeConnection {
        volume_id: Uuid::new_v4().to_string(),
        target: Some(Target::Local(v1::LocalTarget {
            path: folder.join("v0").display().to_string(),
        })),
        format: Some(v1::DiskFormat::Qcow2.into()),
        ..Default::default()
    };
    let volume_id = volume.volume_id.clone();
    let asked = v1::AttachVolumeRequest {
        instance_id: id.clone(),
        device: Some(v1::BlockDevice {
            disk_id: DISK.to_owned(),
            source: Some(Source::Volume(volume)),
            ..Default::default()
        }),
        ..Default::default()
    };
    sandbox.devices().await.attach_volume(asked).await.unwrap();
    let mut shell = Shell::login(sandbox, &id).await;
    shell
        .run("while ! [ -b /dev/vdb ]; do sleep 0.1; done")
        .await;
    (id, volume_id, shell)
}

pub async fn create(
    sandbox: &Sandbox,
    (id, volume): (&str, &str),
    (snapshot, file): (Uuid, &str),
    quiesce: bool,
) -> Result<bool, Status> {
    let asked = v1::CreateVolumeSnapshotRequest {
        instance_id: id.to_owned(),
        volume_id: volume.to_owned(),
        snapshot_id: snapshot.to_string(),
        new_file: file.to_owned(),
        quiesce,
        ..Default::default()
    };
    let mut devices = sandbox.devices().await;
    let answer = devices.create_volume_snapshot(asked).await?;
    Ok(answer.into_inner().quiesced)
}

/// The sum that the guest wrote at the end of what it prints.
fn sum(printed: &str) -> String {
    let words = printed.split_whitespace();
    let mut sums =
        words.filter(|word| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit()));
    sums.next_back().expect("a sum").to_owned()
}

const SUM: &str =
    "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vdb bs=1M count=64 2>/dev/null | md5sum";
const FILL: &str = "dd if=/dev/urandom of=/dev/vdb bs=1M count=16 conv=fsync";
/// Goes over the whole disk again and again until it is told to stop.
const WRITE: &str = "rm -f /tmp/wrote /tmp/off; touch /tmp/on; (while [ -e /tmp/on ]; do n=$(( (n + 37) % 1024 )); dd if=/dev/urandom of=/dev/vdb bs=64k count=1 seek=$n conv=fsync 2>/dev/null; echo x >> /tmp/wrote; done; touch /tmp/off) > /dev/null 2>&1 &\ntrue";
const WRITES: &str = "n=$(cat /tmp/wrote 2>/dev/null | wc -l); while [ $(cat /tmp/wrote 2>/dev/null | wc -l) -lt $((n + 5)) ]; do sleep 0.1; done";
const STOP: &str = "rm -f /tmp/on; while ! [ -e /tmp/off ]; do sleep 0.1; done";

/// The sum of a disk that nobody has open, by its topmost file.
fn sum_of(sandbox: &Sandbox, file: &str) -> String {
    let folder = volumes(sandbox);
    let raw = format!("{file}.raw");
    ran(
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", file, &raw],
        &folder,
    );
    let summed = sum(&ran("md5sum", &[&raw], &folder));
    fs::remove_file(folder.join(raw)).unwrap();
    summed
}

async fn a_snapshot_keeps_what_was_and_the_guest_goes_on_over_it(sandbox: &mut Sandbox) {
    let (id, volume, mut shell) = guest(sandbox).await;
    let of = (id.as_str(), volume.as_str());
    shell.run(FILL).await;
    let first = sum(&shell.run(SUM).await);
    let path = volumes(sandbox).join("v0");
    let snapshot = Uuid::new_v4();
    for wrong in ["absent", "v0"] {
        let e = create(sandbox, of, (snapshot, wrong), false).await;
        assert_eq!(reason(&e.unwrap_err()), "VOLUME_UNUSABLE");
    }
    let e = create(sandbox, of, (snapshot, "../v0"), false).await;
    assert_eq!(e.unwrap_err().code(), Code::InvalidArgument);
    over(sandbox, "v1", "v0");
    // The agent may come up after the shell.
    let frozen = until("an agent", async || {
        match create(sandbox, of, (snapshot, "v1"), true).await {
            Ok(frozen) => Some(frozen),
            Err(e) if reason(&e) == "QUIESCE_FAILED" => None,
            Err(e) => panic!("{e:?}"),
        }
    });
    assert!(frozen.await);
    let kept = sha256(&path);
    let again = create(sandbox, of, (snapshot, "v1"), true).await;
    assert!(again.unwrap(), "a repeat answers the same");
    shell.run(WRITE).await;
    shell.run(WRITES).await;
    over(sandbox, "v2", "v1");
    let second = create(sandbox, of, (Uuid::new_v4(), "v2"), false).await;
    assert!(!second.unwrap());
    shell.run(WRITES).await;
    shell.run(STOP).await;
    let now = sum(&shell.run(SUM).await);
    assert_ne!(now, first);
    assert_eq!(sha256(&path), kept, "nobody writes to it");
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    power(sandbox, &id, false).await;
    assert_eq!(sum_of(sandbox, "v0"), first);
    assert_eq!(sum_of(sandbox, "v2"), now);
    over(sandbox, "v3", "v2");
    let third = create(sandbox, of, (Uuid::new_v4(), "v3"), true).await;
    assert!(!third.unwrap(), "what is off has nothing to freeze");
    power(sandbox, &id, true).await;
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), now);
    shell.run(FILL).await;
    let last = sum(&shell.run(SUM).await);
    let rests = ["v0", "v1", "v2", "v3"].map(|name| fs::metadata(path.with_file_name(name)));
    assert!(rests.iter().all(Result::is_ok));
    power(sandbox, &id, false).await;
    assert_eq!(sum_of(sandbox, "v2"), now);
    assert_eq!(sum_of(sandbox, "v3"), last);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_volume_with_files_over_it_is_extended_rebooted_and_swapped(sandbox: &mut Sandbox) {
    let (id, volume, mut shell) = guest(sandbox).await;
    shell.run(FILL).await;
    over(sandbox, "v1", "v0");
    let of = (id.as_str(), volume.as_str());
    create(sandbox, of, (Uuid::new_v4(), "v1"), false)
        .await
        .unwrap();
    shell
        .run("dd if=/dev/urandom of=/dev/vdb bs=1M seek=8 count=16 conv=fsync")
        .await;
    let before = sum(&shell.run(SUM).await);
    let asked = v1::ExtendVolumeRequest {
        instance_id: id.clone(),
        disk_id: DISK.to_owned(),
        size_bytes: 96 * MIB,
        ..Default::default()
    };
    let mut devices = sandbox.devices().await;
    let disk = devices.extend_volume(asked).await.unwrap().into_inner();
    let disk = disk.disk.unwrap();
    assert_eq!((disk.size_bytes, disk.reachable), (96 * MIB, true));
    let told = shell.run("cat /sys/block/vdb/size").await;
    assert!(told.contains("196608"), "{told}");
    let asked = v1::RebootRequest {
        instance_id: id.clone(),
        kind: v1::RebootKind::Hard.into(),
        ..Default::default()
    };
    let mut instances = sandbox.instances().await;
    let mut stream = instances.reboot(asked).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), before);
    let folder = volumes(sandbox);
    fs::File::create(folder.join("new"))
        .unwrap()
        .set_len(96 * MIB)
        .unwrap();
    let asked = v1::SwapVolumeRequest {
        instance_id: id.clone(),
        disk_id: DISK.to_owned(),
        new_volume: Some(v1::VolumeConnection {
            volume_id: Uuid::new_v4().to_string(),
            target: Some(Target::Local(v1::LocalTarget {
                path: folder.join("new").display().to_string(),
            })),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut stream = devices.swap_volume(asked).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    assert_eq!(sum(&shell.run(SUM).await), before);
    let asked = v1::DetachVolumeRequest {
        instance_id: id.clone(),
        disk: Some(v1::detach_volume_request::Disk::DiskId(DISK.to_owned())),
        ..Default::default()
    };
    let gone = devices.detach_volume(asked).await.unwrap().into_inner();
    assert!(!gone.absent);
    // The old volume was swapped away with its snapshot: `v1` rests on `v0` still.
    let base = v1::VolumeConnection {
        format: Some(v1::DiskFormat::Qcow2.into()),
        ..connection(Target::Local(v1::LocalTarget {
            path: folder.join("v0").display().to_string(),
        }))
    };
    let base = v1::BlockDevice {
        disk_id: "base".to_owned(),
        source: Some(Source::Volume(base)),
        ..Default::default()
    };
    let e = attach(sandbox, &id, &base).await.unwrap_err();
    assert_eq!(reason(&e), "VOLUME_UNUSABLE", "{e}");
    assert!(e.message().contains("v1, a file of volume"), "{e}");
    fs::remove_file(folder.join("v1")).unwrap();
    attach(sandbox, &id, &base).await.unwrap();
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

pub async fn delete(
    sandbox: &Sandbox,
    (id, volume): (&str, &str),
    snapshot: Uuid,
    (file, target): (&str, &str),
) -> Result<Streaming<v1::DeleteVolumeSnapshotResponse>, Status> {
    let asked = v1::DeleteVolumeSnapshotRequest {
        instance_id: id.to_owned(),
        volume_id: volume.to_owned(),
        snapshot_id: snapshot.to_string(),
        file_to_merge: file.to_owned(),
        merge_target_file: target.to_owned(),
        ..Default::default()
    };
    let mut devices = sandbox.devices().await;
    Ok(devices.delete_volume_snapshot(asked).await?.into_inner())
}

/// Follows it to its end: whether no disk rested on the file before.
pub async fn ended(
    stream: Result<Streaming<v1::DeleteVolumeSnapshotResponse>, Status>,
) -> Result<bool, Status> {
    let mut stream = stream?;
    loop {
        let message = stream.message().await?.expect("an end with an answer");
        if let Some(Told::Deleted(deleted)) = message.event {
            return Ok(deleted.absent);
        }
    }
}

async fn files_become_one_under_load_and_no_byte_is_lost(sandbox: &mut Sandbox) {
    let (id, volume, mut shell) = guest(sandbox).await;
    let of = (id.as_str(), volume.as_str());
    shell.run(FILL).await;
    shell.run(WRITE).await;
    let ids = [(); 3].map(|()| Uuid::new_v4());
    for (nth, snapshot) in (1..).zip(ids) {
        shell.run(WRITES).await;
        let name = format!("v{nth}");
        over(sandbox, &name, &format!("v{}", nth - 1));
        create(sandbox, of, (snapshot, &name), false).await.unwrap();
    }
    shell.run(WRITES).await;
    let e = ended(delete(sandbox, of, ids[0], ("v0", "")).await).await;
    assert_eq!(reason(&e.unwrap_err()), "NOT_SUPPORTED");
    for (snapshot, files) in [
        (ids[0], ("v1", "v0")),
        (ids[2], ("v2", "")),
        (ids[1], ("v3", "v0")),
    ] {
        let merged = ended(delete(sandbox, of, snapshot, files).await).await;
        assert!(!merged.unwrap(), "{files:?}");
        shell.run(WRITES).await;
        let again = ended(delete(sandbox, of, snapshot, files).await).await;
        assert!(again.unwrap(), "{files:?}");
        fs::remove_file(volumes(sandbox).join(files.0)).unwrap();
    }
    shell.run(STOP).await;
    let now = sum(&shell.run(SUM).await);
    power(sandbox, &id, false).await;
    assert_eq!(sum_of(sandbox, "v0"), now);
    // Off: one file over it, which takes all of it.
    over(sandbox, "v4", "v0");
    create(sandbox, of, (ids[0], "v4"), false).await.unwrap();
    power(sandbox, &id, true).await;
    let mut shell = Shell::login(sandbox, &id).await;
    shell.run(FILL).await;
    let now = sum(&shell.run(SUM).await);
    power(sandbox, &id, false).await;
    let merged = ended(delete(sandbox, of, ids[0], ("v0", "")).await).await;
    assert!(!merged.unwrap());
    fs::remove_file(volumes(sandbox).join("v0")).unwrap();
    power(sandbox, &id, true).await;
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), now);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_merge_that_is_cancelled_or_cut_by_a_crash_loses_nothing(sandbox: &mut Sandbox) {
    let folder = volumes(sandbox);
    let noise = "head -c 512M /dev/urandom > noise";
    ran("sh", &["-c", noise], &folder);
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "noise", "v0"];
    ran("qemu-img", &convert, &folder);
    fs::remove_file(folder.join("noise")).unwrap();
    let (id, volume, mut shell) = guest_over(sandbox).await;
    let of = (id.as_str(), volume.as_str());
    over(sandbox, "v1", "v0");
    let snapshot = Uuid::new_v4();
    create(sandbox, of, (snapshot, "v1"), false).await.unwrap();
    shell.run(FILL).await;
    let before = sum(&shell.run(SUM).await);

    let stream = delete(sandbox, of, snapshot, ("v0", "")).await;
    let operation_id = copying(sandbox, &id).await;
    let cancel = v1::CancelOperationRequest { operation_id };
    let mut operations = sandbox.operations().await;
    operations.cancel_operation(cancel).await.unwrap();
    let e = ended(stream).await.unwrap_err();
    assert_eq!(reason(&e), "OPERATION_CANCELLED");
    assert_eq!(sum(&shell.run(SUM).await), before);
    drop(shell);

    for files in [("v0", ""), ("v1", "v0")] {
        let stream = delete(sandbox, of, snapshot, files).await;
        let operation_id = copying(sandbox, &id).await;
        sandbox.kill();
        ended(stream).await.unwrap_err();
        sandbox.launch();
        sandbox.ready().await;
        let asked = v1::GetOperationRequest { operation_id };
        let told = sandbox.operations().await.get_operation(asked).await;
        let operation = told.unwrap().into_inner().operation.unwrap();
        let done = operation.state() == v1::OperationState::Succeeded;
        let mut shell = Shell::login(sandbox, &id).await;
        assert_eq!(sum(&shell.run(SUM).await), before);
        if done {
            // It was done before the server ended: nothing is left to cut.
            break;
        }
    }
    let mut shell = Shell::login(sandbox, &id).await;
    shell.run(FILL).await;
    let now = sum(&shell.run(SUM).await);
    let merged = ended(delete(sandbox, of, snapshot, ("v1", "v0")).await).await;
    let top = if merged.is_ok() { "v0" } else { "v1" };
    assert_eq!(sum(&shell.run(SUM).await), now);
    power(sandbox, &id, false).await;
    power(sandbox, &id, true).await;
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), now);
    power(sandbox, &id, false).await;
    let dumped =
        format!("qemu-img dd -f qcow2 -O raw bs=1M count=64 if={top} of=flat && md5sum flat");
    assert_eq!(sum(&ran("sh", &["-c", &dumped], &folder)), now);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
