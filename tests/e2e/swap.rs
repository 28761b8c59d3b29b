//! A volume is replaced under a real guest that writes to it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use computedriver::v1::{
    self, block_device::Source, swap_volume_response::Event as Told, volume_connection::Target,
};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::support::{Book, Reader, Sandbox, Shell, command, guest_request, reason, until};

suite! {
    not_a_byte_is_lost_when_a_volume_is_swapped_under_load,
    a_swap_that_is_cancelled_or_cut_by_a_crash_leaves_the_old_volume,
    a_swap_that_is_cut_once_the_guest_has_moved_is_done,
}

const MIB: u64 = 1 << 20;

/// A volume in a file that is full of what must not be seen.
fn volume(sandbox: &Sandbox, name: &str, mib: u64) -> (v1::VolumeConnection, PathBuf) {
    let folder = sandbox.path().join("volumes");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    let path = folder.join(name);
    let size = usize::try_from(mib * MIB).unwrap();
    fs::write(&path, vec![0xee; size]).unwrap();
    let local = v1::LocalTarget {
        path: path.display().to_string(),
    };
    let volume = v1::VolumeConnection {
        volume_id: Uuid::new_v4().to_string(),
        target: Some(Target::Local(local)),
        ..Default::default()
    };
    (volume, path)
}

/// A guest with a volume, and somebody in it.
async fn guest(sandbox: &Sandbox, volume: &v1::VolumeConnection) -> (String, Shell) {
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let asked = v1::AttachVolumeRequest {
        instance_id: id.clone(),
        device: Some(v1::BlockDevice {
            disk_id: "data".to_owned(),
            source: Some(Source::Volume(volume.clone())),
            ..Default::default()
        }),
        ..Default::default()
    };
    sandbox.devices().await.attach_volume(asked).await.unwrap();
    let mut shell = Shell::login(sandbox, &id).await;
    shell
        .run("while ! [ -b /dev/vdb ]; do sleep 0.1; done")
        .await;
    (id, shell)
}

async fn swap(
    sandbox: &Sandbox,
    id: &str,
    volume: &v1::VolumeConnection,
    bandwidth_mib_sec: u64,
) -> Result<Streaming<v1::SwapVolumeResponse>, Status> {
    let asked = v1::SwapVolumeRequest {
        instance_id: id.to_owned(),
        disk_id: "data".to_owned(),
        new_volume: Some(volume.clone()),
        bandwidth_mib_sec,
        ..Default::default()
    };
    let answer = sandbox.devices().await.swap_volume(asked).await?;
    Ok(answer.into_inner())
}

/// Follows it to its end.
async fn ended(mut stream: Streaming<v1::SwapVolumeResponse>) -> Result<v1::Disk, Status> {
    loop {
        let message = stream.message().await?.expect("an end with the disk");
        if let Some(Told::Disk(disk)) = message.event {
            return Ok(disk);
        }
    }
}

async fn disk(sandbox: &Sandbox, id: &str) -> v1::Disk {
    let asked = v1::ListDisksRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let disks = sandbox.devices().await.list_disks(asked).await.unwrap();
    let mut disks = disks.into_inner().disks.into_iter();
    disks.find(|disk| disk.disk_id == "data").unwrap()
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

async fn not_a_byte_is_lost_when_a_volume_is_swapped_under_load(sandbox: &mut Sandbox) {
    let (old, old_path) = volume(sandbox, "old", 64);
    let (new, new_path) = volume(sandbox, "new", 64);
    let (id, mut shell) = guest(sandbox, &old).await;
    shell
        .run("dd if=/dev/urandom of=/dev/vdb bs=1M count=64 conv=fsync")
        .await;
    // One writer goes over the whole disk again and again until it is told to stop.
    shell
        .run("touch /tmp/on; (while [ -e /tmp/on ]; do n=$(( (n + 37) % 1024 )); dd if=/dev/urandom of=/dev/vdb bs=64k count=1 seek=$n conv=fsync 2>/dev/null; echo x >> /tmp/wrote; done; touch /tmp/off) > /dev/null 2>&1 &\ntrue")
        .await;
    shell
        .run("while ! [ -s /tmp/wrote ]; do sleep 0.1; done")
        .await;
    let disk = ended(swap(sandbox, &id, &new, 16).await.unwrap())
        .await
        .unwrap();
    assert_eq!(disk.volume_id, new.volume_id);
    shell
        .run("rm /tmp/on; while ! [ -e /tmp/off ]; do sleep 0.1; done; wc -l /tmp/wrote")
        .await;
    let seen = sum(&shell.run(SUM).await);
    fs::remove_file(&old_path).unwrap();
    sandbox.destroy(&id).await.unwrap();
    let summed = command("md5sum").arg(&new_path).output().unwrap();
    let summed = String::from_utf8(summed.stdout).unwrap();
    assert_eq!(
        sum(&summed),
        seen,
        "what the guest has written is what is there"
    );
    sandbox.assert_clean().await;
}

/// The operation on the instance, once it copies.
pub async fn copying(sandbox: &Sandbox, id: &str) -> String {
    let running = || async {
        let asked = v1::ListOperationsRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let listed = sandbox.operations().await.list_operations(asked).await;
        let mut listed = listed.unwrap().into_inner().operations.into_iter();
        listed.find_map(|operation| {
            let copies =
                operation.progress.as_ref().map(|told| told.phase()) == Some(v1::Phase::Copy);
            let running = operation.state() == v1::OperationState::Running;
            (copies && running).then_some(operation.operation_id)
        })
    };
    until("the copy to begin", running).await
}

async fn a_swap_that_is_cancelled_or_cut_by_a_crash_leaves_the_old_volume(sandbox: &mut Sandbox) {
    let (old, _) = volume(sandbox, "old", 64);
    let (new, _) = volume(sandbox, "new", 64);
    let (id, mut shell) = guest(sandbox, &old).await;
    shell
        .run("dd if=/dev/urandom of=/dev/vdb bs=1M count=64 conv=fsync")
        .await;
    let before = sum(&shell.run(SUM).await);
    let (small, _) = volume(sandbox, "small", 1);
    let e = ended(swap(sandbox, &id, &small, 0).await.unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::FailedPrecondition, "NOT_SUPPORTED")
    );

    let stream = swap(sandbox, &id, &new, 1).await.unwrap();
    let operation_id = copying(sandbox, &id).await;
    let cancel = v1::CancelOperationRequest { operation_id };
    sandbox
        .operations()
        .await
        .cancel_operation(cancel)
        .await
        .unwrap();
    let e = ended(stream).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::Cancelled, "OPERATION_CANCELLED")
    );
    assert_eq!(disk(sandbox, &id).await.volume_id, old.volume_id);

    let stream = swap(sandbox, &id, &new, 1).await.unwrap();
    let operation_id = copying(sandbox, &id).await;
    sandbox.kill();
    ended(stream).await.unwrap_err();
    drop(shell);
    sandbox.launch();
    sandbox.ready().await;
    let asked = v1::GetOperationRequest { operation_id };
    let ended_as = sandbox.operations().await.get_operation(asked).await;
    let operation = ended_as.unwrap().into_inner().operation.unwrap();
    assert_eq!(operation.state(), v1::OperationState::Failed);
    assert_eq!(disk(sandbox, &id).await.volume_id, old.volume_id);
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), before);
    let disk = ended(swap(sandbox, &id, &new, 0).await.unwrap())
        .await
        .unwrap();
    assert_eq!(disk.volume_id, new.volume_id, "nothing is in its way");
    assert_eq!(sum(&shell.run(SUM).await), before);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Lets a swap begin, and keeps the server from writing down that the guest has moved; none when it was faster.
async fn moved_unwritten(
    sandbox: &Sandbox,
    id: &str,
    (new, path): (&v1::VolumeConnection, &Path),
) -> Option<Book> {
    let mut pivot = Reader::of(sandbox, "pivot disk", true);
    let mut stream = swap(sandbox, id, new, 0).await.unwrap();
    let book = loop {
        tokio::select! {
            book = pivot.word() => break book,
            told = stream.message() => told.unwrap().map(drop)?,
        }
    };
    if !book.has("pivot disk") || book.has("redefine guest") {
        return None;
    }
    let there = || std::future::ready(sandbox.has_open(path).then_some(()));
    until("the guest to move", there).await;
    Some(book)
}

async fn a_swap_that_is_cut_once_the_guest_has_moved_is_done(sandbox: &mut Sandbox) {
    let (mut old, mut new) = (volume(sandbox, "old", 16), volume(sandbox, "new", 16));
    let (id, mut shell) = guest(sandbox, &old.0).await;
    shell
        .run("dd if=/dev/urandom of=/dev/vdb bs=1M count=16 conv=fsync")
        .await;
    let before = sum(&shell.run(SUM).await);
    drop(shell);
    // The server may be faster than whoever keeps its book; then the guest moves back the next time.
    for attempt in 0.. {
        if let Some(book) = moved_unwritten(sandbox, &id, (&new.0, &new.1)).await {
            // The old one is let go of, and nobody has written that down.
            let gone = || std::future::ready((!sandbox.has_open(&old.1)).then_some(()));
            until("the guest to leave the old volume", gone).await;
            sandbox.kill();
            assert!(!book.has("redefine guest"));
            break;
        }
        assert!(attempt < 20, "it is never cut there");
        let there = async || {
            let known = disk(sandbox, &id).await.volume_id;
            (known == new.0.volume_id).then_some(())
        };
        until("the swap's end", there).await;
        std::mem::swap(&mut old, &mut new);
    }
    sandbox.launch();
    sandbox.ready().await;
    let asked = v1::ListOperationsRequest {
        instance_id: id.clone(),
        page_size: 1,
        ..Default::default()
    };
    let newest = sandbox.operations().await.list_operations(asked).await;
    let newest = newest.unwrap().into_inner().operations.remove(0);
    assert_eq!(newest.verb, "SwapVolume");
    assert_eq!(newest.state(), v1::OperationState::Succeeded);
    assert_eq!(disk(sandbox, &id).await.volume_id, new.0.volume_id);
    fs::remove_file(&old.1).unwrap();
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), before);
    shell
        .run("dd if=/dev/urandom of=/dev/vdb bs=1M count=4 conv=fsync")
        .await;
    let last = sum(&shell.run(SUM).await);
    sandbox.destroy(&id).await.unwrap();
    let summed = command("md5sum").arg(&new.1).output().unwrap();
    assert_eq!(sum(&String::from_utf8(summed.stdout).unwrap()), last);
    sandbox.assert_clean().await;
}
