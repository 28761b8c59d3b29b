//! Files that come over volumes: from every step back, twice, and only where they may.

use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;

use super::{
    devices::{assert_reverts, attach, detach, device, done, file, off, refused, swap, with},
    *,
};
use crate::{
    action::{CreateVolumeSnapshot, Pause, PowerOn, VolumeSnapshotted},
    domain::{Device, DiskSource},
    hypervisor::{Hypervisor, agent::Agent, fake::Happening, overlay::Overlays, power::Power},
    image::{Base, DiskContent, ImageBackend, NewDisk, Qcow2},
    model::{BlockDevice, SnapshotId, VolumeId, VolumeTarget},
};

pub(super) const SIZE: u64 = 1 << 20;

/// Makes an empty file over another, as a storage service does.
pub(super) async fn over(t: &TestHost, name: &str, base: &str, format: DiskFormat) {
    let folder = file(t, "some").parent().unwrap().to_owned();
    let base = Base {
        path: folder.join(base),
        format,
        virtual_size: Bytes(SIZE),
    };
    let disk = NewDisk {
        path: folder.join(name),
        size: Bytes(SIZE),
        content: DiskContent::Base(base),
    };
    let _ = std::fs::remove_file(&disk.path);
    Qcow2.create(&disk).await.unwrap();
}

pub(super) fn create(
    instance: InstanceId,
    volume: &BlockDevice,
    file: &str,
) -> CreateVolumeSnapshot {
    CreateVolumeSnapshot {
        instance,
        volume: volume.volume().unwrap().id,
        snapshot: SnapshotId::random(),
        file: file.to_owned(),
        quiesce: false,
    }
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The files of the disk `vol`, top first: by the record, by the definition, and as the guest has it while it is on.
pub(super) async fn files(t: &TestHost, id: InstanceId) -> Vec<String> {
    let record = t.host.store.instance(id).unwrap();
    let devices = record.spec.block_devices.iter();
    let volume = devices.filter_map(BlockDevice::volume).next().unwrap();
    let known: Vec<_> = volume
        .chain()
        .iter()
        .map(|layer| name(&layer.path))
        .collect();
    let guest = t.fake.snapshot()[&id].clone();
    let disks = guest.domain.unwrap().disks;
    let defined = disks.iter().find(|disk| disk.id.as_str() == "vol").unwrap();
    let of = |files: Vec<&PathBuf>| files.into_iter().map(|path| name(path)).collect::<Vec<_>>();
    assert_eq!(of(defined.files()), known, "record and definition agree");
    let live = t.fake.files(id, &defined.target).await.unwrap();
    assert_eq!(of(live.iter().collect()), known, "record and guest agree");
    known
}

/// An instance with a raw volume `vol`, and beside it an empty file `f1` over that.
pub(super) async fn with_volume(t: &TestHost) -> (InstanceId, BlockDevice) {
    let id = t.spawned(t.everything()).await;
    let volume = device(t, "vol");
    done(t, attach(id, &volume)).await;
    over(t, "f1", "vol", DiskFormat::Raw).await;
    (id, volume)
}

#[tokio::test]
async fn the_base_of_a_chain_that_was_detached_is_given_to_nobody_who_writes() {
    let t = TestHost::new().await;
    let (id, volume) = with_volume(&t).await;
    done(&t, create(id, &volume, "f1")).await;
    done(&t, detach(id, "vol")).await;
    let t = t.next_life().await;
    let base = device(&t, "vol");
    let e = refused(&t, attach(id, &base)).await;
    assert_eq!(e.reason(), "VOLUME_UNUSABLE");
    assert!(e.message().contains("f1, a file of volume"), "{e}");
    let reads = with(&base, |volume| volume.read_only = true);
    done(&t, attach(id, &reads)).await;
    done(&t, detach(id, "vol")).await;
    std::fs::remove_file(file(&t, "f1")).unwrap();
    done(&t, attach(id, &base)).await;

    over(&t, "f1", "vol", DiskFormat::Raw).await;
    done(&t, create(id, &base, "f1")).await;
    done(&t, Destroy { instance: id }).await;
    let id = t.spawned(t.spec()).await;
    let e = refused(&t, attach(id, &base)).await;
    assert_eq!(
        e.reason(),
        "VOLUME_UNUSABLE",
        "an instance that went left it"
    );
    over(&t, "f0", "vol", DiskFormat::Raw).await;
    over(&t, "f1", "f0", DiskFormat::Qcow2).await;
    done(&t, attach(id, &base)).await;
}

#[tokio::test]
async fn a_snapshot_comes_back_from_every_step_and_is_made_once() {
    let t = inhabited().await;
    let (id, volume) = with_volume(&t).await;
    assert_reverts(&t, 2, async |_| create(id, &volume, "f1")).await;
    let first = create(id, &volume, "f1");
    for _ in 0..2 {
        let ended = done(&t, first.clone()).await;
        let quiesced = false;
        assert_eq!(ended.answer(), Ok(VolumeSnapshotted { quiesced }));
        assert_eq!(files(&t, id).await, ["f1", "vol"]);
    }
    for unlike in [
        CreateVolumeSnapshot {
            file: "f2".to_owned(),
            ..first.clone()
        },
        CreateVolumeSnapshot {
            volume: VolumeId::random(),
            ..first.clone()
        },
    ] {
        assert_eq!(refused(&t, unlike).await.reason(), "DISK_EXISTS");
    }
    over(&t, "f2", "f1", DiskFormat::Qcow2).await;
    done(&t, create(id, &volume, "f2")).await;
    assert_eq!(files(&t, id).await, ["f2", "f1", "vol"]);
    done(&t, attach(id, &volume)).await;
    assert_eq!(
        files(&t, id).await,
        ["f2", "f1", "vol"],
        "as it was attached"
    );
    off(&t, id).await;
    done(&t, PowerOn { instance: id }).await;
    assert_eq!(files(&t, id).await, ["f2", "f1", "vol"]);
    done(&t, detach(id, "vol")).await;
}

#[tokio::test]
async fn a_guest_that_is_off_goes_on_in_the_new_file_when_it_is_started() {
    let t = inhabited().await;
    let (id, volume) = with_volume(&t).await;
    off(&t, id).await;
    assert_reverts(&t, 1, async |_| create(id, &volume, "f1")).await;
    done(&t, create(id, &volume, "f1")).await;
    assert_eq!(files(&t, id).await, ["f1", "vol"]);
    assert!(!t.fake.calls().contains(&"overlay"));
    done(&t, PowerOn { instance: id }).await;
    assert_eq!(files(&t, id).await, ["f1", "vol"]);
}

#[tokio::test]
async fn a_guest_is_frozen_for_its_snapshot_or_there_is_none() {
    let t = inhabited().await;
    let (id, volume) = with_volume(&t).await;
    let quiesced = CreateVolumeSnapshot {
        quiesce: true,
        ..create(id, &volume, "f1")
    };
    t.fake
        .fail("freeze", Times::Next(1), HypervisorError::Agent(id));
    let e = refused(&t, quiesced.clone()).await;
    assert_eq!(e.reason(), "QUIESCE_FAILED");
    done(&t, Pause { instance: id }).await;
    let e = refused(&t, quiesced.clone()).await;
    assert_eq!(e.reason(), "QUIESCE_FAILED", "its agent stands still too");
    t.fake.resume(id).await.unwrap();
    t.fake.emit(id, Happening::AgentUp);
    assert_reverts(&t, 3, async |_| quiesced.clone()).await;
    let ended = done(&t, quiesced).await;
    assert_eq!(ended.answer(), Ok(VolumeSnapshotted { quiesced: true }));
    assert!(!t.fake.is_frozen(id).await.unwrap());
    assert!(t.host.store.quiesced().borrow().is_empty());
    assert_eq!(files(&t, id).await, ["f1", "vol"]);
}

#[tokio::test]
async fn only_an_empty_file_of_the_size_over_the_volume_itself_is_taken() {
    let t = inhabited().await;
    let (id, volume) = with_volume(&t).await;
    let path = |name: &str| file(&t, "some").with_file_name(name);
    over(&t, "other", "some", DiskFormat::Raw).await;
    over(&t, "unsaid", "vol", DiskFormat::Qcow2).await;
    over(&t, "alone", "vol", DiskFormat::Raw).await;
    let written = std::fs::File::options().write(true).open(path("alone"));
    // The offset of the backing file's name, and its length.
    std::os::unix::fs::FileExt::write_all_at(&written.unwrap(), &[0; 12], 8).unwrap();
    over(&t, "used", "vol", DiskFormat::Raw).await;
    let used = std::fs::File::options().write(true).open(path("used"));
    // The first entry of the first table.
    let entry = (0x3_0000_u64 | 1 << 63).to_be_bytes();
    std::os::unix::fs::FileExt::write_all_at(&used.unwrap(), &entry, 3 << 16).unwrap();
    over(&t, "large", "vol", DiskFormat::Raw).await;
    let large = std::fs::File::options().write(true).open(path("large"));
    let size = (SIZE * 2).to_be_bytes();
    std::os::unix::fs::FileExt::write_all_at(&large.unwrap(), &size, 24).unwrap();
    std::os::unix::fs::symlink(path("f1"), path("link")).unwrap();
    for name in [
        "absent", "vol", "some", "other", "unsaid", "alone", "used", "large", "link",
    ] {
        let e = refused(&t, create(id, &volume, name)).await;
        assert_eq!(e.reason(), "VOLUME_UNUSABLE", "{name}: {e}");
    }
    let unknown = CreateVolumeSnapshot {
        volume: VolumeId::random(),
        ..create(id, &volume, "f1")
    };
    assert_eq!(refused(&t, unknown).await.reason(), "VOLUME_NOT_FOUND");
    done(&t, detach(id, "vol")).await;
    for unfit in [
        with(&volume, |v| v.shared = true),
        with(&volume, |v| v.read_only = true),
    ] {
        done(&t, attach(id, &unfit)).await;
        let e = refused(&t, create(id, &unfit, "f1")).await;
        assert_eq!(e.reason(), "NOT_SUPPORTED");
        done(&t, detach(id, "vol")).await;
    }
    // A second disk over the same file would be written to by two.
    let rival = with(&device(&t, "rival"), |v| {
        v.target = VolumeTarget::Local { path: path("f1") };
        v.format = DiskFormat::Raw;
    });
    done(&t, attach(id, &volume)).await;
    done(&t, attach(id, &rival)).await;
    let e = refused(&t, create(id, &volume, "f1")).await;
    assert_eq!(e.reason(), "DISK_EXISTS");
}

#[tokio::test]
async fn a_file_that_another_disk_rests_on_is_given_to_nobody() {
    let t = inhabited().await;
    let (id, volume) = with_volume(&t).await;
    done(&t, create(id, &volume, "f1")).await;
    over(&t, "f2", "f1", DiskFormat::Qcow2).await;
    done(&t, create(id, &volume, "f2")).await;
    assert_eq!(files(&t, id).await, ["f2", "f1", "vol"]);
    let stranger = t.spawned(t.everything()).await;
    let own = BlockDevice {
        id: "vol".parse().unwrap(),
        ..device(&t, "own")
    };
    done(&t, attach(stranger, &own)).await;
    t.fake.set_disk_size(stranger, "vde", Bytes(SIZE));
    let folder = file(&t, "some");
    for name in ["f2", "f1", "vol"] {
        let path = folder.with_file_name(name);
        // Whatever else it is called, and however it is said to be written.
        for (format, shared) in [(DiskFormat::Raw, false), (DiskFormat::Raw, true)] {
            let theirs = with(&device(&t, "theirs"), |v| {
                v.target = VolumeTarget::Local { path: path.clone() };
                (v.format, v.shared) = (format, shared);
            });
            for who in [stranger, id] {
                let e = refused(&t, attach(who, &theirs)).await;
                assert_eq!(e.reason(), "DISK_EXISTS", "{name}: {e}");
                assert_eq!(e.fields()["instance_id"], id.to_string());
            }
            if !shared {
                let e = refused(&t, swap(stranger, &theirs)).await;
                assert_eq!(e.reason(), "DISK_EXISTS", "{name}: {e}");
            }
            let spec = InstanceSpec {
                block_devices: vec![theirs],
                ..t.spec()
            };
            let before = t.snapshot().await;
            let e = failed(&t, spec).await;
            assert_eq!(e.reason(), "DISK_EXISTS", "{name}: {e}");
            assert_eq!(t.snapshot().await, before);
        }
    }
    // Who has it may give it away, once nothing rests on it.
    done(&t, detach(id, "vol")).await;
    let theirs = with(&device(&t, "theirs"), |v| {
        let path = folder.with_file_name("vol");
        v.target = VolumeTarget::Local { path };
    });
    let e = refused(&t, attach(stranger, &theirs)).await;
    assert_eq!(e.reason(), "VOLUME_UNUSABLE", "{e}");
    std::fs::remove_file(folder.with_file_name("f1")).unwrap();
    done(&t, attach(stranger, &theirs)).await;
}

#[tokio::test]
async fn a_crash_after_the_switch_goes_on_and_one_before_it_does_not() {
    for (calls, expected) in [
        ("overlay", ["vol"].as_slice()),
        ("define", ["f1", "vol"].as_slice()),
    ] {
        let t = inhabited().await;
        let (id, volume) = with_volume(&t).await;
        let action = create(id, &volume, "f1");
        let mut task = t.task(&action).await;
        t.fake.fail(calls, Times::Next(1), broken(calls));
        action.run(&mut task).await.unwrap_err();
        drop(task);
        let next = t.next_life().await;
        crate::recover::run(&next.host).await.unwrap();
        assert_eq!(files(&next, id).await, expected, "cut in {calls}");
    }
}

#[tokio::test]
async fn what_is_left_over_a_volume_that_was_switched_off_is_brought_down() {
    let t = inhabited().await;
    let (id, volume) = with_volume(&t).await;
    let action = create(id, &volume, "f1");
    let mut task = t.task(&action).await.failing_at(0);
    action.run(&mut task).await.unwrap_err();
    let live = t.fake.snapshot()[&id].live.clone().unwrap();
    let disk = live.into_values().find_map(|device| match device {
        Device::Disk(disk) if disk.id.as_str() == "vol" => Some(disk.source),
        _ => None,
    });
    let Some(DiskSource::File(top)) = disk else {
        panic!("{disk:?}");
    };
    assert_eq!(name(&top), "f1");
    let io = ["-f", "qcow2", "-c", "write -P 7 4096 8192"];
    let wrote = crate::sys::command::Command::new("qemu-io").args(io);
    wrote.arg(&top).run().await.unwrap();
    t.fake.destroy(id).await.unwrap();
    task.unwind().await.unwrap();
    let bytes = std::fs::read(file_of(&volume)).unwrap();
    assert!(bytes[4096..12288].iter().all(|byte| *byte == 7));
    assert!(crate::image::layer::is_blank(&top).await.unwrap());
}

pub(super) fn file_of(device: &BlockDevice) -> PathBuf {
    match &device.volume().unwrap().target {
        VolumeTarget::Local { path } => path.clone(),
        _ => panic!("it is no file"),
    }
}
