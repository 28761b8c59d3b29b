//! Volumes with a secret: who keeps it, who forgets it, and what shows of it.

use pretty_assertions::assert_eq;

use super::{
    devices::{assert_reverts, attach, detach, done, off, refused, swap, with},
    *,
};
use crate::{
    action::{ExtendVolume, PowerOn, Resume, Suspend},
    error::Kind,
    model::{
        BlockDevice, BlockSource, Bytes, Iscsi, Login, Secret, SecretName, VolumeId, VolumeTarget,
    },
    recover,
    step::KeepSecret,
    testing::{PASSWORD, volume},
};

fn device(t: &TestHost, name: &str, word: &str) -> BlockDevice {
    let unit = Iscsi {
        portal: "192.0.2.7:3260".parse().unwrap(),
        target: "iqn.2001-04.com.example:storage".to_owned(),
        lun: 1,
        login: Some(Login {
            user: "me".to_owned(),
            secret: Some(Secret::new(word.as_bytes().to_vec())),
            mark: String::new(),
        }),
    };
    let volume = volume(VolumeTarget::Iscsi(unit));
    t.host.marked(&BlockDevice {
        id: name.parse().unwrap(),
        device_name: None,
        boot_index: None,
        bus: None,
        source: BlockSource::Volume(Box::new(volume)),
    })
}

/// The volumes whose secrets are kept.
fn kept(t: &TestHost) -> Vec<VolumeId> {
    t.fake
        .secrets()
        .into_keys()
        .map(|name| name.volume)
        .collect()
}

fn id_of(device: &BlockDevice) -> VolumeId {
    device.volume().unwrap().id
}

fn spec_with(t: &TestHost, device: &BlockDevice) -> InstanceSpec {
    InstanceSpec {
        block_devices: vec![device.clone()],
        ..t.spec()
    }
}

#[tokio::test]
async fn a_secret_is_taken_back_from_every_step_also_by_another_life() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let volume = device(&t, "vol", PASSWORD);
    assert_reverts(&t, 3, async |_| attach(id, &volume)).await;
    assert_eq!(kept(&t), [id_of(&volume)]);
    let id = t.spawned(t.everything()).await;
    let (old, new) = (device(&t, "vol", PASSWORD), device(&t, "new", PASSWORD));
    done(&t, attach(id, &old)).await;
    t.fake.set_disk_size(id, "vde", Bytes(1 << 20));
    assert_reverts(&t, 4, async |_| swap(id, &new)).await;
    let spawned = device(&t, "more", PASSWORD);
    let steps = assert_unwinds(&t, async |t| t.spawn(spec_with(t, &spawned)).await).await;
    assert_eq!(steps, ALL_STEPS, "no config drive, but a secret");
}

#[tokio::test]
async fn the_way_back_of_one_leaves_a_secret_that_a_disk_needs_meanwhile() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let (volume, other) = (device(&t, "vol", PASSWORD), device(&t, "other", PASSWORD));
    done(&t, attach(id, &other)).await;
    // It fails once the secret is kept, and cannot be taken back for a while.
    let first = attach(id, &volume);
    let mut late = t.task(&first).await.failing_at(0);
    first.run(&mut late).await.unwrap_err();
    done(&t, attach(id, &volume)).await;
    let before = t.snapshot().await;
    late.unwind().await.unwrap();
    assert_eq!(t.snapshot().await, before, "a disk needs it");
    // The same by who finds it written down.
    let mut cut = t.task(&first).await;
    let keep = KeepSecret::of(id, volume.volume().unwrap());
    cut.run(keep.unwrap()).await.unwrap();
    let next = t.next_life().await;
    recover::run(&next.host).await.unwrap();
    assert_eq!(next.snapshot().await, before, "a disk needs it");
    // Without that disk it goes, and the other's stays.
    done(&next, detach(id, "vol")).await;
    assert_eq!(kept(&next), [id_of(&other)]);
    let last = attach(id, &volume);
    let mut failing = next.task(&last).await.failing_at(0);
    last.run(&mut failing).await.unwrap_err();
    assert_eq!(kept(&next).len(), 2);
    failing.unwind().await.unwrap();
    assert_eq!(kept(&next), [id_of(&other)]);
}

#[tokio::test]
async fn a_secret_is_kept_as_long_as_its_volume_and_no_longer() {
    let t = TestHost::new().await;
    let (old, new) = (device(&t, "vol", PASSWORD), device(&t, "new", PASSWORD));
    let id = t.spawned(spec_with(&t, &old)).await;
    assert_eq!(kept(&t), [id_of(&old)]);
    t.fake.set_disk_size(id, "vdb", Bytes(1 << 20));
    done(&t, swap(id, &new)).await;
    assert_eq!(kept(&t), [id_of(&new)]);
    off(&t, id).await;
    done(&t, PowerOn { instance: id }).await;
    done(&t, detach(id, "vol")).await;
    assert_eq!(kept(&t), []);
    done(&t, attach(id, &old)).await;
    assert_eq!(kept(&t), [id_of(&old)]);
    done(&t, Destroy { instance: id }).await;
    assert_eq!(kept(&t), []);
}

#[tokio::test]
async fn a_volume_with_another_login_is_another_one_and_a_wrong_secret_changes_nothing() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let wrong = device(&t, "vol", "not the word");
    let e = refused(&t, attach(id, &wrong)).await;
    assert_eq!(
        (e.reason(), e.phase()),
        ("VOLUME_UNUSABLE", Some(Phase::ConnectVolumes))
    );
    assert!(e.message().contains("refuses its CHAP user"), "{e}");
    let good = device(&t, "vol", PASSWORD);
    done(&t, attach(id, &good)).await;
    let there = t.snapshot().await;
    done(&t, attach(id, &good)).await;
    assert_eq!(t.snapshot().await, there, "a repeat changes nothing");
    let e = refused(&t, attach(id, &worded(&t, &good, "not the word"))).await;
    assert_eq!(e.reason(), "VOLUME_UNUSABLE", "its storage is asked: {e}");
    assert_eq!(t.snapshot().await, there);
    let other = with(&good, |volume| {
        *volume = volume.with_login(|login| login.user = "you".to_owned());
    });
    let e = refused(&t, attach(id, &t.host.marked(&other))).await;
    assert_eq!(e.reason(), "DISK_EXISTS");
}

/// The same disk with another secret.
fn worded(t: &TestHost, device: &BlockDevice, word: &str) -> BlockDevice {
    let other = with(device, |volume| {
        *volume = volume.with_login(|login| {
            login.secret = Some(Secret::new(word.as_bytes().to_vec()));
        });
    });
    t.host.marked(&other)
}

fn secret(t: &TestHost) -> Vec<u8> {
    let (_, value) = t.fake.secrets().into_values().next().unwrap();
    value.expose().clone()
}

#[tokio::test]
async fn a_rotated_secret_takes_the_place_of_the_old_one_in_every_state() {
    let t = TestHost::new().await;
    let mut root = device(&t, "root-volume", PASSWORD);
    root.boot_index = Some(0);
    let id = t
        .spawned(InstanceSpec {
            image: None,
            ..spec_with(&t, &root)
        })
        .await;
    root.boot_index = None;
    done(&t, Suspend { instance: id }).await;
    for word in ["the next word", "the last word"] {
        std::fs::write(t.host.paths.state.join("changed"), word).unwrap();
        let next = worded(&t, &root, word);
        let before = t.snapshot().await;
        let mut task = t.task(&attach(id, &next)).await.failing_at(0);
        attach(id, &next).run(&mut task).await.unwrap_err();
        task.unwind().await.unwrap();
        assert_eq!(t.snapshot().await, before, "what fails changes nothing");
        done(&t, attach(id, &next)).await;
        assert_eq!(secret(&t), word.as_bytes());
        let after = t.snapshot().await;
        done(&t, attach(id, &next)).await;
        assert_eq!(t.snapshot().await, after, "a repeat changes nothing");
        done(&t, Resume { instance: id }).await;
        done(&t, Suspend { instance: id }).await;
    }
}

#[tokio::test]
async fn a_rotation_that_a_crash_cuts_has_happened_or_not_and_the_record_knows() {
    let t = TestHost::new().await;
    let old = device(&t, "vol", PASSWORD);
    let id = t.spawned(spec_with(&t, &old)).await;
    let next = worded(&t, &old, "the next word");
    std::fs::write(t.host.paths.state.join("changed"), "the next word").unwrap();
    let mark = |t: &TestHost| {
        let record = t.host.store.instance(id).unwrap();
        let login = record.spec.block_devices[0].volume().unwrap().login();
        login.unwrap().0.mark.clone()
    };
    let before = mark(&t);
    for reached in [false, true] {
        if !reached {
            let e = HypervisorError::Busy;
            t.fake.fail("keep_secret", Times::Next(1), e);
        }
        let mut task = t.task(&attach(id, &next)).await;
        let cut = attach(id, &next).run(&mut task).await;
        assert_eq!(cut.is_ok(), reached);
        let steps = t.host.store.steps(task.report().record().id).await.unwrap();
        assert!(format!("{steps:?}").contains("replace secret"));
        assert_unstored(&t, "the next word");
        drop(task);
        let life = t.next_life().await;
        recover::run(&life.host).await.unwrap();
        assert_eq!(mark(&life) != before, reached);
        assert_eq!(secret(&life) != PASSWORD.as_bytes(), reached);
        assert!(life.host.store.unsettled().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_guest_with_a_secret_is_refused_by_name_where_none_can_be_kept() {
    let t = TestHost::new().await;
    let volume = device(&t, "vol", PASSWORD);
    let id = t.spawned(spec_with(&t, &volume)).await;
    off(&t, id).await;
    let e = HypervisorError::Busy;
    t.fake.fail("keeps_secrets", Times::Next(1), e);
    let e = refused(&t, PowerOn { instance: id }).await;
    assert_eq!(
        e.reason(),
        "OVERLOADED",
        "which says nothing against secrets"
    );
    t.fake.keeps_no_secrets();
    let e = refused(&t, PowerOn { instance: id }).await;
    assert_eq!(
        (e.kind(), e.reason()),
        (Kind::Precondition, "NOT_SUPPORTED"),
        "{e}"
    );
    assert!(e.message().contains("has a secret"), "{e}");
}

#[tokio::test]
async fn a_volume_that_grows_is_looked_at_with_the_secret_that_is_kept() {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    done(&t, attach(id, &device(&t, "vol", PASSWORD))).await;
    std::fs::write(t.host.paths.state.join("grown"), "2").unwrap();
    let extend = ExtendVolume {
        instance: id,
        disk: "vol".parse().unwrap(),
        size: Bytes(2 << 20),
    };
    done(&t, extend).await;
    let record = t.host.store.instance(id).unwrap();
    let seen = record.spec.block_devices[0].volume().unwrap();
    assert_eq!(seen.seen.as_ref().unwrap().size, Bytes(2 << 20));
}

#[tokio::test]
async fn no_secret_is_in_a_record_a_step_or_an_error() {
    let t = TestHost::new().await;
    let volume = device(&t, "vol", PASSWORD);
    let id = t.spawned(spec_with(&t, &volume)).await;
    let record = t.host.store.instance(id).unwrap();
    let login = record.spec.block_devices[0].volume().unwrap().login();
    assert_eq!(login.unwrap().0.secret, None);
    let more = attach(id, &device(&t, "more", PASSWORD));
    let mut task = t.task(&more).await;
    more.run(&mut task).await.unwrap();
    let steps = t.host.store.steps(task.report().record().id).await.unwrap();
    let shown = format!("{steps:?} {record:?} {:?} {more:?}", t.fake.snapshot());
    assert!(shown.contains("keep secret"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert_unstored(&t, PASSWORD);
}

fn assert_unstored(t: &TestHost, word: &str) {
    for name in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(t.host.paths.state.join(name)).unwrap_or_default();
        let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
        assert!(!found, "{name}");
    }
}

#[tokio::test]
async fn a_secret_that_nobody_knows_any_more_is_removed_at_the_next_start() {
    let t = TestHost::new().await;
    let volume = device(&t, "vol", PASSWORD);
    let id = t.spawned(spec_with(&t, &volume)).await;
    let (usage, value) = t.fake.secrets().into_values().next().unwrap();
    let stranger = InstanceId::random();
    let lost = [id, stranger].map(|instance| SecretName {
        instance,
        volume: VolumeId::random(),
    });
    for name in lost {
        let keep = t.host.hypervisor.keep_secret(name, usage, &value);
        keep.await.unwrap();
    }
    let next = t.next_life().await;
    recover::run(&next.host).await.unwrap();
    assert_eq!(kept(&next), [id_of(&volume)]);
}
