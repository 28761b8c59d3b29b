//! A hypervisor that takes a guest's disk for another, as a crash leaves it: nothing is asked of it, and /proc tells.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
};

use pretty_assertions::assert_eq;

use super::{
    devices::{done, refused},
    layers::{create, file_of, with_volume},
    *,
};
use crate::{
    action::{DeleteVolumeSnapshot, ExtendVolume, Suspend, devices},
    domain::{Disk, DiskSource},
    hypervisor::{
        mirror::Mirrors,
        overlay::{Merge, Overlays},
    },
    image::layer,
    model::{Bytes, PowerState, SnapshotId},
    step::{MergeLayers, PivotDisk},
    task::Step,
};

/// Stands for an emulator that writes to a file.
struct Writer(Child);

impl Writer {
    #[expect(clippy::disallowed_methods, reason = "it is killed in the midst of it")]
    fn of(file: &Path, id: InstanceId) -> Self {
        let script = r#"exec 9>>"$0"; echo .; read -r _"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(file).arg(id.to_string());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let out = child.stdout.as_mut().unwrap();
        out.read_exact(&mut [0]).unwrap();
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An instance whose guest goes on in `f1` over `vol`, while the hypervisor says that it has `vol`.
struct Cut {
    id: InstanceId,
    volume: crate::model::BlockDevice,
    snapshot: SnapshotId,
    old: Disk,
    new: Disk,
}

impl Cut {
    async fn made(t: &TestHost) -> Self {
        let (id, volume) = with_volume(t).await;
        let create = create(id, &volume, "f1");
        let snapshot = create.snapshot;
        done(t, create).await;
        let disks = t.fake.snapshot()[&id].domain.clone().unwrap().disks;
        let mut disks = disks.into_iter();
        let new = disks.find(|disk| disk.id.as_str() == "vol").unwrap();
        let old = Disk {
            source: DiskSource::File(file_of(&volume)),
            format: crate::domain::Format::Raw,
            backing: None,
            ..new.clone()
        };
        t.fake.overlay(id, &old).await.unwrap();
        Self {
            id,
            volume,
            snapshot,
            old,
            new,
        }
    }

    fn top(&self) -> std::path::PathBuf {
        file_of(&self.volume).with_file_name("f1")
    }
}

#[tokio::test]
async fn nothing_is_asked_of_a_disk_that_is_taken_for_another() {
    let t = inhabited().await;
    let cut = Cut::made(&t).await;
    let instance = cut.id;
    let merge = DeleteVolumeSnapshot {
        instance,
        volume: cut.volume.volume().unwrap().id,
        snapshot: cut.snapshot,
        file: "f1".to_owned(),
        target: Some("vol".to_owned()),
    };
    let extend = ExtendVolume {
        instance,
        disk: cut.volume.id.clone(),
        size: Bytes(1 << 20),
    };
    for e in [
        refused(&t, merge).await,
        refused(&t, extend).await,
        refused(&t, Suspend { instance }).await,
    ] {
        assert_eq!(e.reason(), "NOT_SUPPORTED", "{e}");
        assert!(e.message().contains("off and on"), "{e}");
    }
    let block = Disk {
        source: DiskSource::Block("/dev/some".into()),
        ..cut.new.clone()
    };
    let sides = (&block, &block);
    let known = devices::known(&t.host, instance, sides, "disk_id").await;
    known.unwrap_err();
    t.fake.overlay(instance, &block).await.unwrap();
    let known = devices::known(&t.host, instance, sides, "disk_id").await;
    known.unwrap();
}

#[tokio::test]
async fn a_file_that_the_guest_writes_to_is_not_emptied() {
    let t = inhabited().await;
    let cut = Cut::made(&t).await;
    let top = cut.top();
    let merge = MergeLayers {
        instance: cut.id,
        was: PowerState::Running,
        merge: Merge::Top {
            base: file_of(&cut.volume),
        },
        gone: top.clone(),
        to: cut.old.clone(),
        record: (*t.host.store.instance(cut.id).unwrap()).clone(),
        answer: serde_json::Value::Null,
    };
    let io = ["-f", "qcow2", "-c", "write -P 7 4096 8192"];
    let wrote = crate::sys::command::Command::new("qemu-io").args(io);
    wrote.arg(&top).run().await.unwrap();
    let writer = Writer::of(&top, cut.id);
    merge.revert(&t.host).await.unwrap();
    assert!(!layer::is_blank(&top).await.unwrap());
    drop(writer);
    // The hypervisor's word of the pivot is lost, and the guest writes to the file below.
    t.fake.overlay(cut.id, &cut.new).await.unwrap();
    merge.revert(&t.host).await.unwrap();
    assert!(!layer::is_blank(&top).await.unwrap(), "it is the disk");
    let _writer = Writer::of(&file_of(&cut.volume), cut.id);
    merge.revert(&t.host).await.unwrap();
    assert!(layer::is_blank(&top).await.unwrap());
}

#[tokio::test]
async fn a_way_back_that_is_done_is_not_gone_twice() {
    let t = inhabited().await;
    let cut = Cut::made(&t).await;
    let pivot = PivotDisk {
        instance: cut.id,
        from: cut.new.clone(),
        to: cut.old.clone(),
        record: (*t.host.store.instance(cut.id).unwrap()).clone(),
    };
    let writer = Writer::of(&cut.top(), cut.id);
    pivot.revert(&t.host).await.unwrap();
    assert!(t.fake.reads(cut.id, &cut.old).await.unwrap(), "untouched");
    drop(writer);
    pivot.revert(&t.host).await.unwrap();
    assert!(t.fake.reads(cut.id, &cut.new).await.unwrap());
}
