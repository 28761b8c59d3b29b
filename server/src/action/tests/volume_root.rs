//! A volume as the root disk: what that changes for every verb, and that nobody but its guest writes to it.

use pretty_assertions::assert_eq;

use super::{
    change::{assert_change, did},
    devices::{detach, device, file, refused, swap, with},
    rebuild::rebuild,
    rescue::{rescue_from, seen, unrescue},
    resize::resize,
    snapshot::snapshot,
    *,
};
use crate::{
    action::{ExtendVolume, PowerOff, PowerOn, Reboot},
    domain::{DiskSource, Domain},
    host::Claim,
    model::{BlockDevice, ImageProperties, ImageSource, OperationState},
    testing::{ended, key},
};

/// A volume to boot from, with something on it.
fn root(t: &TestHost) -> BlockDevice {
    let device = device(t, "vol");
    std::fs::write(file(t, "vol"), CONTENT.repeat(1 << 20)).unwrap();
    BlockDevice {
        boot_index: Some(0),
        ..device
    }
}

const CONTENT: [u8; 1] = [0xa5];

fn is_intact(t: &TestHost) -> bool {
    let bytes = std::fs::read(t.host.paths.state.join("source/vol")).unwrap();
    bytes == CONTENT.repeat(1 << 20)
}

/// An instance that boots from it, with one of everything beside it.
fn booting(t: &TestHost, root: &BlockDevice) -> InstanceSpec {
    let mut spec = t.everything();
    spec.image = None;
    spec.block_devices.push(root.clone());
    spec
}

fn domain(t: &TestHost, id: InstanceId) -> Domain {
    t.fake.snapshot()[&id].domain.clone().unwrap()
}

/// Ids, names and turns of the disks.
fn disks(domain: &Domain) -> Vec<(&str, &str, Option<u32>)> {
    let disks = domain.disks.iter();
    disks
        .map(|disk| (disk.id.as_str(), disk.target.as_str(), disk.boot_order))
        .collect()
}

#[tokio::test]
async fn a_spawn_from_a_volume_unwinds_from_every_step_and_leaves_the_volume_alone() {
    for kernel in [true, false] {
        let t = inhabited().await;
        let root = root(&t);
        let spawn = async |t: &TestHost| {
            let mut spec = booting(t, &root);
            spec.kernel = spec.kernel.filter(|_| kernel);
            t.spawn(spec).await
        };
        // Claimed, had, made, told, plugged, defined, started.
        assert_eq!(assert_unwinds(&t, spawn).await, 6 + usize::from(kernel));
        assert!(is_intact(&t));
    }
}

#[tokio::test]
async fn the_volume_is_the_first_disk_and_takes_no_room_of_the_host() {
    let t = TestHost::new().await;
    let root = root(&t);
    let mut spec = booting(&t, &root);
    spec.block_devices[0].boot_index = Some(7);
    let spec_id = t.spawned(spec).await;
    let domain = domain(&t, spec_id);
    let expected = [
        ("vol", "vda", Some(1)),
        ("ephemeral0", "vdb", None),
        ("swap", "vdc", None),
        ("data", "vdd", Some(2)),
        ("config", "sda", None),
    ];
    assert_eq!(disks(&domain), expected);
    let real = file_of(&domain);
    assert_eq!(real, t.host.paths.state.join("source/vol"));
    let record = t.host.store.instance(spec_id).unwrap();
    assert_eq!((record.root, record.images.len()), (None, 2), "the kernel");
    // One GiB each for the ephemeral, the swap and the blank disk.
    assert_eq!(t.host.claims.held().disk_gib, 3);
    let claim = Claim::of(&record.spec, Bytes(0));
    assert_eq!(t.host.claims.held(), claim);
    assert_eq!(domain.metadata.image, None);
}

fn file_of(domain: &Domain) -> std::path::PathBuf {
    match &domain.disks[0].source {
        DiskSource::File(path) => path.canonicalize().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_the_storage_service_must_do_is_refused_with_the_way_to_go() {
    let t = inhabited().await;
    let id = t.spawned(booting(&t, &root(&t))).await;
    let told = |e: &Error, word: &str| {
        assert_eq!(e.reason(), "NOT_SUPPORTED", "{e}");
        assert_eq!(e.kind(), crate::error::Kind::Precondition);
        assert!(e.message().contains(word), "{e}");
    };
    told(&refused(&t, detach(id, "vol")).await, "swap it");
    told(
        &refused(&t, snapshot(&t, id, true)).await,
        "snapshot of the volume",
    );
    told(&refused(&t, rebuild(&t, id)).await, "storage service");
    let fields = |e: &Error| -> Vec<String> {
        assert_eq!(e.reason(), "INVALID_REQUEST", "{e}");
        let violations = e.details().violations.iter();
        violations.map(|fault| fault.field.clone()).collect()
    };
    let larger = resize(&t, id, |flavor| flavor.root = Some(Bytes(2 << 20))).await;
    assert_eq!(fields(&refused(&t, larger).await), ["flavor.root_gib"]);
    assert_eq!(fields(&refused(&t, rescue_from(id, None)).await), ["image"]);
    assert!(is_intact(&t));
}

#[tokio::test]
async fn it_is_resized_without_its_root_disk() {
    let t = inhabited().await;
    let id = t.spawned(booting(&t, &root(&t))).await;
    let held = t.host.claims.held();
    let more = async |t: &TestHost| resize(t, id, |flavor| flavor.vcpus = 3).await;
    assert_unwinds(&t, more).await;
    did(&t, more(&t).await).await;
    let record = t.host.store.instance(id).unwrap();
    assert_eq!((record.root, record.spec.flavor.vcpus), (None, 3));
    let claimed = t.host.claims.held();
    assert_eq!(
        (claimed.disk_gib, claimed.vcpus),
        (held.disk_gib, held.vcpus + 2)
    );
}

#[tokio::test]
async fn it_is_rescued_from_an_image_with_its_volume_as_the_second_disk() {
    let t = inhabited().await;
    let mut spec = booting(&t, &root(&t));
    spec.block_devices[0].boot_index = Some(1);
    let id = t.spawned(spec).await;
    let before = t.snapshot().await;
    let launched = t.host.store.instance(id).unwrap().launched;
    let image = || {
        Some(ImageSource {
            file: t.file("rescue.raw", &[7; 1 << 20]),
            format: DiskFormat::Raw,
        })
    };
    assert_eq!(assert_change(&t, || rescue_from(id, image())).await, 6);
    assert_eq!(seen(&t, id), ["rescue", "vol"]);
    let rescued = domain(&t, id);
    let tried: Vec<_> = rescued.disks.iter().filter_map(|d| d.boot_order).collect();
    assert_eq!(tried, [1], "the rescue disk, and nothing else");
    let (rescue, own) = (&rescued.disks[0], &rescued.disks[1]);
    assert_eq!(rescue.format, crate::domain::Format::Qcow2);
    assert_eq!(own.format, crate::domain::Format::Raw);
    assert!(rescue.backing.is_some() && own.backing.is_none());
    assert_eq!(assert_change(&t, || unrescue(id)).await, 4);
    let mut record = (*t.host.store.instance(id).unwrap()).clone();
    record.launched = launched;
    t.host.store.put_instance(record).await.unwrap();
    assert_eq!(t.snapshot().await, before);
    assert!(is_intact(&t));
}

#[tokio::test]
async fn it_is_swapped_and_extended_while_it_runs_and_stays_the_root_disk() {
    let t = inhabited().await;
    let id = t.spawned(booting(&t, &root(&t))).await;
    t.fake.set_disk_size(id, "vda", Bytes(1 << 20));
    let new = device(&t, "new");
    did(&t, swap(id, &new)).await;
    let now = domain(&t, id);
    assert_eq!(disks(&now)[0], ("vol", "vda", Some(1)));
    assert_eq!(file_of(&now), t.host.paths.state.join("source/new"));
    let open = std::fs::File::options()
        .write(true)
        .open(t.host.paths.state.join("source/new"));
    open.unwrap().set_len(2 << 20).unwrap();
    let extend = ExtendVolume {
        instance: id,
        disk: "vol".parse().unwrap(),
        size: Bytes(2 << 20),
    };
    did(&t, extend).await;
    let record = t.host.store.instance(id).unwrap();
    let volume = record.spec.root_volume().unwrap();
    assert_eq!(volume.id, new.volume().unwrap().id);
    assert_eq!(volume.seen.as_ref().unwrap().size, Bytes(2 << 20));
}

#[tokio::test]
async fn it_boots_from_it_again_after_every_stop_and_leaves_it_when_it_is_destroyed() {
    let t = TestHost::new().await;
    let before = t.snapshot().await;
    let id = t.spawned(booting(&t, &root(&t))).await;
    let whole = domain(&t, id);
    let patience = None;
    did(
        &t,
        Reboot {
            instance: id,
            patience,
        },
    )
    .await;
    assert_eq!(domain(&t, id), whole);
    did(
        &t,
        PowerOff {
            instance: id,
            patience,
        },
    )
    .await;
    let next = t.next_life().await;
    did(&next, PowerOn { instance: id }).await;
    assert_eq!(domain(&next, id), whole);
    did(&next, Destroy { instance: id }).await;
    assert_eq!(next.snapshot().await, before);
    assert!(is_intact(&t));
}

#[tokio::test]
async fn a_spawn_that_a_crash_cuts_leaves_the_volume_to_the_next() {
    let mut t = inhabited().await;
    let before = t.snapshot().await;
    let root = root(&t);
    // The last step starts the guest: one that runs is adopted.
    for nth in 0..6 {
        let action = t.spawn(booting(&t, &root)).await;
        let mut task = t.task(&action).await.failing_at(nth);
        action.run(&mut task).await.unwrap_err();
        assert_eq!(task.steps(), nth + 1);
        t = t.next_life().await;
        crate::recover::run(&t.host).await.unwrap();
        assert_eq!(t.snapshot().await, before, "cut at step {nth}");
        assert!(is_intact(&t));
    }
    t.spawned(booting(&t, &root)).await;
}

#[tokio::test]
async fn of_two_that_ask_for_one_volume_at_the_same_time_one_gets_it() {
    let t = TestHost::new().await;
    let root = root(&t);
    let operations = t.operations();
    let one = t.spawn(booting(&t, &root)).await;
    let other = t.spawn(booting(&t, &root)).await;
    let (one, other) = tokio::join!(
        Box::pin(operations.begin(key("one"), one)),
        Box::pin(operations.begin(key("other"), other)),
    );
    let ends = [ended(one.unwrap()).await, ended(other.unwrap()).await];
    let won = |end: &&crate::model::OperationRecord| end.state == OperationState::Succeeded;
    assert_eq!(ends.iter().filter(won).count(), 1, "{ends:?}");
    let lost = ends.iter().find_map(|end| end.error.as_ref()).unwrap();
    assert_eq!(
        (lost.reason(), lost.phase()),
        ("DISK_EXISTS", Some(Phase::ConnectVolumes))
    );
    assert_eq!(t.host.store.instances().len(), 1);
}

#[tokio::test]
async fn a_volume_that_is_smaller_than_its_content_asks_for_or_is_not_there_is_refused() {
    let t = inhabited().await;
    let before = t.snapshot().await;
    let root = root(&t);
    let small = InstanceSpec {
        properties: ImageProperties {
            min_disk: Bytes(1 << 30),
            ..ImageProperties::default()
        },
        ..booting(&t, &root)
    };
    let e = t.spawn(small.clone()).await.check(&t.host).await;
    assert_eq!(e.unwrap_err().reason(), "FLAVOR_DISK_TOO_SMALL");
    assert_eq!(failed(&t, small).await.reason(), "FLAVOR_DISK_TOO_SMALL");
    let gone = with(&root, |volume| {
        let path = "/nowhere/at/all".into();
        volume.target = crate::model::VolumeTarget::Local { path };
    });
    let gone = booting(&t, &gone);
    let e = t.spawn(gone.clone()).await.check(&t.host).await;
    assert_eq!(e.unwrap_err().reason(), "VOLUME_UNUSABLE");
    assert_eq!(failed(&t, gone).await.reason(), "VOLUME_UNUSABLE");
    assert_eq!(t.snapshot().await, before);
}
