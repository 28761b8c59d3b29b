//! Devices that come and go: twice, at every failure, and beside others that must not move.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{
        AttachInterface, AttachVolume, DetachInterface, DetachVolume, DetachedBefore, ExtendVolume,
        PowerOff, PowerOn, SwapVolume, Which,
    },
    domain::Device,
    model::{
        BlockDevice, BlockSource, Bytes, DiskBus, OperationRecord, OperationState, Vif, VifKind,
        Volume, VolumeId, VolumeTarget,
    },
    step::Pace,
    testing::{ended, key, vif, volume},
};

pub(super) const PACE: Pace = Pace {
    tries: 3,
    interval: Duration::from_millis(1),
};

/// A file that may be a volume.
pub(super) fn file(t: &TestHost, name: &str) -> PathBuf {
    let location = t.file(name, &[0; 1 << 20]).location;
    location.strip_prefix("file://").unwrap().into()
}

pub(super) fn device(t: &TestHost, name: &str) -> BlockDevice {
    let path = file(t, name);
    let volume = volume(VolumeTarget::Local { path });
    BlockDevice {
        id: name.parse().unwrap(),
        device_name: None,
        bus: None,
        boot_index: None,
        source: BlockSource::Volume(Box::new(volume)),
    }
}

pub(super) fn with(device: &BlockDevice, change: impl FnOnce(&mut Volume)) -> BlockDevice {
    let mut volume = device.volume().unwrap().clone();
    change(&mut volume);
    BlockDevice {
        source: BlockSource::Volume(Box::new(volume)),
        ..device.clone()
    }
}

/// Runs an action to its end, as a request does.
async fn ran<A: Action>(t: &TestHost, action: A) -> OperationRecord {
    let operations = t.operations();
    let progress = Box::pin(operations.begin(key("some"), action)).await;
    ended(progress.unwrap()).await
}

pub(super) async fn done<A: Action>(t: &TestHost, action: A) -> OperationRecord {
    let record = ran(t, action).await;
    assert_eq!(
        record.state,
        OperationState::Succeeded,
        "{:?}",
        record.error
    );
    record
}

pub(super) async fn refused<A: Action>(t: &TestHost, action: A) -> Error {
    let before = t.snapshot().await;
    let record = ran(t, action).await;
    assert_eq!(record.state, OperationState::Failed);
    assert_eq!(t.snapshot().await, before, "a refusal changes nothing");
    record.error.unwrap()
}

pub(super) fn attach(instance: InstanceId, device: &BlockDevice) -> AttachVolume {
    let device = device.clone();
    AttachVolume { instance, device }
}

pub(super) fn detach(instance: InstanceId, name: &str) -> DetachVolume {
    DetachVolume {
        instance,
        which: Which::Disk(name.parse().unwrap()),
        pace: PACE,
    }
}

fn plug(instance: InstanceId, vif: &Vif) -> AttachInterface {
    let vif = vif.clone();
    AttachInterface { instance, vif }
}

fn unplug(instance: InstanceId, name: &str) -> DetachInterface {
    DetachInterface {
        instance,
        interface: name.parse().unwrap(),
        pace: PACE,
    }
}

fn eth7() -> Vif {
    let bridge = "br0".to_owned();
    vif(7, VifKind::Bridge { bridge })
}

pub(super) async fn off(t: &TestHost, instance: InstanceId) {
    done(
        t,
        PowerOff {
            instance,
            patience: None,
        },
    )
    .await;
}

/// Names of an instance's disks, as it is defined and as it has them while it runs.
fn names(t: &TestHost, id: InstanceId) -> (Vec<String>, Vec<String>) {
    let guest = t.fake.snapshot()[&id].clone();
    let name = |disk: &crate::domain::Disk| format!("{} {}", disk.target, disk.id);
    let mut defined: Vec<_> = guest.domain.unwrap().disks.iter().map(name).collect();
    defined.sort();
    let live = guest.live.into_iter().flatten();
    let disks = live.filter_map(|(_, device)| match device {
        Device::Disk(disk) => Some(name(&disk)),
        Device::Interface(_) | Device::Memory(_) => None,
    });
    let mut live: Vec<_> = disks.collect();
    live.sort();
    (defined, live)
}

/// Every way back of an action: from each step in turn, and from what was written down, twice.
pub(super) async fn assert_reverts<A: Action>(
    t: &TestHost,
    steps: usize,
    make: impl AsyncFn(&TestHost) -> A,
) {
    assert_eq!(count(t, &make).await, steps);
}

async fn count<A: Action>(t: &TestHost, make: &impl AsyncFn(&TestHost) -> A) -> usize {
    let before = t.snapshot().await;
    for nth in 0.. {
        let action = make(t).await;
        let mut task = t.task(&action).await.failing_at(nth);
        if action.run(&mut task).await.is_ok() {
            return nth;
        }
        let rows = t.host.store.steps(task.report().record().id).await.unwrap();
        assert_eq!(rows.len(), nth + 1);
        for time in ["the first", "the second"] {
            let begun = rows.iter().map(step::read).collect::<Result<_, _>>();
            let record = task.report().record();
            let report = task.report().clone();
            let mut back = Task::resumed(t.host.clone(), record.id, report, begun.unwrap());
            back.unwind().await.unwrap();
            let now = t.snapshot().await;
            assert_eq!(now, before, "{time} way back from step {nth}");
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_device_that_comes_is_taken_back_from_every_step_also_by_another_life() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let volume = device(&t, "vol");
    assert_reverts(&t, 2, async |_| attach(id, &volume)).await;
    assert!(t.fake.calls().contains(&"attach"));
    let id = t.spawned(t.everything()).await;
    assert_reverts(&t, 3, async |_| plug(id, &eth7())).await;
    let id = t.spawned(t.everything()).await;
    off(&t, id).await;
    let other = device(&t, "other");
    assert_reverts(&t, 1, async |_| attach(id, &other)).await;
}

#[tokio::test]
async fn a_device_that_goes_comes_back_from_every_step_also_by_another_life() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    done(&t, attach(id, &device(&t, "vol"))).await;
    assert_reverts(&t, 2, async |_| detach(id, "vol")).await;
    let id = t.spawned(t.everything()).await;
    assert_reverts(&t, 3, async |_| unplug(id, "eth0")).await;
}

#[tokio::test]
async fn an_attach_or_a_detach_that_is_repeated_answers_the_same_and_changes_nothing() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let volume = device(&t, "vol");
    done(&t, attach(id, &volume)).await;
    done(&t, plug(id, &eth7())).await;
    let there = t.snapshot().await;
    done(&t, attach(id, &volume)).await;
    done(&t, plug(id, &eth7())).await;
    assert_eq!(t.snapshot().await, there);
    let unlike = [
        with(&volume, |v| v.read_only = true),
        with(&volume, |v| v.id = VolumeId::random()),
        BlockDevice {
            id: "another".parse().unwrap(),
            ..volume.clone()
        },
        BlockDevice {
            bus: Some(DiskBus::Scsi),
            ..volume.clone()
        },
    ];
    for unlike in unlike {
        let e = refused(&t, attach(id, &unlike)).await;
        assert_eq!(
            (e.kind(), e.reason()),
            (crate::error::Kind::Exists, "DISK_EXISTS")
        );
    }
    let other = Vif {
        mtu: Some(1400),
        ..eth7()
    };
    let e = refused(&t, plug(id, &other)).await;
    assert_eq!(e.reason(), "INTERFACE_EXISTS");
    for absent in [false, true] {
        let ended = done(&t, detach(id, "vol")).await;
        assert_eq!(ended.answer(), Ok(DetachedBefore { absent }));
        let ended = done(&t, unplug(id, "eth7")).await;
        assert_eq!(ended.answer(), Ok(DetachedBefore { absent }));
    }
    for own in ["root", "data", "swap"] {
        let e = refused(&t, detach(id, own)).await;
        assert_eq!(e.reason(), "NOT_SUPPORTED", "{own} is no volume");
    }
}

#[tokio::test]
async fn names_stay_when_others_come_and_go_and_after_the_power_was_off() {
    let t = TestHost::new().await;
    let spec = t.everything();
    let id = t.spawned(spec).await;
    for name in ["one", "two"] {
        done(&t, attach(id, &device(&t, name))).await;
    }
    let scsi = BlockDevice {
        bus: Some(DiskBus::Scsi),
        ..device(&t, "three")
    };
    done(&t, attach(id, &scsi)).await;
    let all = [
        "sda config",
        "sdb three",
        "vda root",
        "vdb ephemeral0",
        "vdc swap",
        "vdd data",
        "vde one",
        "vdf two",
    ];
    let all = all.map(str::to_owned).to_vec();
    assert_eq!(names(&t, id), (all.clone(), all.clone()));
    done(&t, detach(id, "one")).await;
    let less: Vec<_> = all.iter().filter(|n| *n != "vde one").cloned().collect();
    assert_eq!(names(&t, id), (less.clone(), less.clone()));
    off(&t, id).await;
    assert_eq!(names(&t, id), (less.clone(), Vec::new()));
    done(&t, PowerOn { instance: id }).await;
    assert_eq!(names(&t, id), (less.clone(), less));
    done(&t, attach(id, &device(&t, "next"))).await;
    let (defined, live) = names(&t, id);
    assert_eq!(defined, live);
    assert!(live.contains(&"vde next".to_owned()), "the first free name");
}

#[tokio::test]
async fn a_guest_that_holds_on_to_a_device_keeps_it_and_nothing_changes() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    done(&t, attach(id, &device(&t, "vol"))).await;
    t.fake.deafen(id);
    let asked = || t.fake.calls().iter().filter(|c| **c == "detach").count();
    let before = asked();
    let e = refused(&t, detach(id, "vol")).await;
    assert_eq!(
        (e.reason(), e.phase()),
        ("DEVICE_DETACH_FAILED", Some(Phase::Detach))
    );
    assert_eq!(asked() - before, 3, "as often as it is to be asked");
    let e = refused(&t, unplug(id, "eth0")).await;
    assert_eq!(e.reason(), "DEVICE_DETACH_FAILED");
    off(&t, id).await;
    done(&t, detach(id, "vol")).await;
}

#[tokio::test]
async fn a_volume_has_one_owner_unless_both_share_it() {
    let t = TestHost::new().await;
    let (one, other) = (t.spawned(t.spec()).await, t.spawned(t.spec()).await);
    let volume = device(&t, "vol");
    done(&t, attach(one, &volume)).await;
    let e = refused(&t, attach(other, &volume)).await;
    assert_eq!(e.reason(), "DISK_EXISTS");
    let shared = with(&volume, |v| v.shared = true);
    let e = refused(&t, attach(other, &shared)).await;
    assert_eq!(e.reason(), "DISK_EXISTS", "the first does not share it");
    done(&t, detach(one, "vol")).await;
    done(&t, attach(one, &shared)).await;
    done(&t, attach(other, &shared)).await;
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_by_name_before_anything_is_touched() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let named = |name: &str| BlockDevice {
        device_name: Some(name.to_owned()),
        ..device(&t, "vol")
    };
    for name in ["vda", "vdc", "sda"] {
        let e = refused(&t, attach(id, &named(name))).await;
        assert_eq!(e.reason(), "INVALID_REQUEST");
        let fields = e.details().violations.iter();
        let fields: Vec<_> = fields.map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["device.device_name"], "{name}: {e}");
    }
    for bus in [DiskBus::Sata, DiskBus::Scsi] {
        let bus = BlockDevice {
            bus: Some(bus),
            ..device(&t, "vol")
        };
        let e = refused(&t, attach(id, &bus)).await;
        assert_eq!(e.reason(), "NOT_SUPPORTED", "{e}");
    }
    let gone = with(&device(&t, "vol"), |v| {
        v.target = VolumeTarget::Local {
            path: "/etc/shadow".into(),
        };
    });
    let e = refused(&t, attach(id, &gone)).await;
    assert_eq!(
        (e.reason(), e.phase()),
        ("VOLUME_UNUSABLE", Some(Phase::ConnectVolumes))
    );
    t.fake
        .fail("attach", Times::Next(1), HypervisorError::Slots(id));
    let e = refused(&t, attach(id, &device(&t, "vol"))).await;
    assert_eq!(
        (e.reason(), e.phase()),
        ("DEVICE_SLOTS", Some(Phase::Attach))
    );
    off(&t, id).await;
    let sata = BlockDevice {
        bus: Some(DiskBus::Sata),
        ..device(&t, "vol")
    };
    done(&t, attach(id, &sata)).await;
}

#[tokio::test]
async fn an_instance_may_begin_with_a_volume_which_outlives_it() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let volume = device(&t, "vol");
    let with_volume = |t: &TestHost| InstanceSpec {
        block_devices: vec![volume.clone()],
        ..t.spec()
    };
    let id = t.spawned(with_volume(&t)).await;
    let (defined, live) = names(&t, id);
    assert_eq!(defined, ["vda root", "vdb vol"]);
    assert_eq!(defined, live);
    let e = failed(&t, with_volume(&t)).await;
    assert_eq!(e.reason(), "DISK_EXISTS", "another has it");
    let destroy = Destroy { instance: id };
    done(&t, destroy).await;
    assert_eq!(t.snapshot().await, before);
    let size = std::fs::metadata(file(&t, "vol")).unwrap().size();
    assert_eq!(size, 1 << 20);
}

#[tokio::test]
async fn a_volume_that_has_grown_is_told_and_one_that_has_not_is_refused() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    done(&t, attach(id, &device(&t, "vol"))).await;
    let to = |disk: &str, size| ExtendVolume {
        instance: id,
        disk: disk.parse().unwrap(),
        size: Bytes(size),
    };
    let e = refused(&t, to("vol", 2 << 20)).await;
    assert_eq!(
        (e.reason(), e.phase()),
        ("VOLUME_UNUSABLE", Some(Phase::ConnectVolumes))
    );
    assert_eq!(
        refused(&t, to("root", 2 << 20)).await.reason(),
        "VOLUME_NOT_FOUND"
    );
    assert_eq!(
        refused(&t, to("vol", 512)).await.reason(),
        "INVALID_REQUEST"
    );
    let open = std::fs::File::options().write(true).open(file(&t, "vol"));
    open.unwrap().set_len(2 << 20).unwrap();
    assert_reverts(&t, 1, async |_| to("vol", 2 << 20)).await;
    for _ in 0..2 {
        done(&t, to("vol", 2 << 20)).await;
        let record = t.host.store.instance(id).unwrap();
        let seen = record.spec.block_devices[0].volume().unwrap().seen.as_ref();
        assert_eq!(seen.unwrap().size, Bytes(2 << 20));
    }
    off(&t, id).await;
    let open = std::fs::File::options().write(true).open(file(&t, "vol"));
    open.unwrap().set_len(3 << 20).unwrap();
    done(&t, to("vol", 3 << 20)).await;
}

pub(super) fn swap(instance: InstanceId, device: &BlockDevice) -> SwapVolume {
    SwapVolume {
        instance,
        disk: "vol".parse().unwrap(),
        volume: device.volume().unwrap().clone(),
        bandwidth: None,
    }
}

/// Where a running guest's disk `vol` is.
pub(super) fn place(t: &TestHost, id: InstanceId) -> PathBuf {
    let live = t.fake.snapshot()[&id].live.clone().unwrap();
    let mut disks = live.into_values().filter_map(|device| match device {
        Device::Disk(disk) if disk.id.as_str() == "vol" => Some(disk.source),
        _ => None,
    });
    match disks.next() {
        Some(crate::domain::DiskSource::File(path)) => path,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_swap_comes_back_from_every_step_and_is_done_once() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let (old, new) = (device(&t, "vol"), device(&t, "new"));
    done(&t, attach(id, &old)).await;
    let targets = ["vde", "vdd", "vdb"];
    for target in targets {
        t.fake.set_disk_size(id, target, Bytes(1 << 20));
    }
    assert_reverts(&t, 3, async |_| swap(id, &new)).await;
    for _ in 0..2 {
        done(&t, swap(id, &new)).await;
        assert!(place(&t, id).ends_with("new"));
        let record = t.host.store.instance(id).unwrap();
        let volumes = record.spec.block_devices.iter().filter_map(|d| d.volume());
        let ids: Vec<_> = volumes.map(|volume| volume.id).collect();
        assert_eq!(ids, [new.volume().unwrap().id]);
    }
    let shared = with(&device(&t, "third"), |v| v.shared = true);
    assert_eq!(
        refused(&t, swap(id, &shared)).await.reason(),
        "NOT_SUPPORTED"
    );
    let small = device(&t, "small");
    let path = file(&t, "small");
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(512)
        .unwrap();
    assert_eq!(
        refused(&t, swap(id, &small)).await.reason(),
        "NOT_SUPPORTED"
    );
    off(&t, id).await;
    let e = refused(&t, swap(id, &old)).await;
    assert_eq!(e.reason(), "INSTANCE_STATE");
}
