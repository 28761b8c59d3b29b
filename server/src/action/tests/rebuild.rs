//! An instance is made anew whole, or has its old disks.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::PathBuf};

use pretty_assertions::assert_eq;

use super::{assert_taken_back, assert_unwinds, inhabited};
use crate::{
    action::{Action, NewImage, NewWords, Rebuild},
    model::{
        Bytes, DiskFormat, ImageProperties, ImageSource, InstanceId, NicModel, OperationState,
        PowerState,
    },
    testing::{TestHost, ended, key},
};

/// With an image that is larger than the first, and with a config drive.
pub(super) fn rebuild(t: &TestHost, instance: InstanceId) -> Rebuild {
    let source = ImageSource {
        file: t.file("other.raw", &[7; 2 << 20]),
        format: DiskFormat::Raw,
    };
    Rebuild {
        instance,
        image: NewImage {
            source,
            properties: ImageProperties::default(),
            kernel: None,
            nic: Some(NicModel::E1000e),
            config_drive: false,
        },
        told: NewWords {
            injected_files: Vec::new(),
            user_data: b"#another".to_vec(),
            public_keys: Vec::new(),
            admin_password: None,
            metadata: BTreeMap::from([("role".to_owned(), "db".to_owned())]),
        },
        preserve_ephemeral: false,
        wait_for: None,
    }
}

fn file(t: &TestHost, id: InstanceId, name: &str) -> PathBuf {
    t.host.paths.instance(id).join(name)
}

/// What is in the instance's folder, byte by byte; the console's log apart.
fn contents(t: &TestHost, id: InstanceId) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(t.host.paths.instance(id)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_none_or(|e| e != "log"));
    files
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

async fn done(t: &TestHost, action: Rebuild) {
    let progress = Box::pin(t.operations().begin(key("rebuild"), action)).await;
    let end = ended(progress.unwrap()).await;
    assert_eq!(end.state, OperationState::Succeeded, "{:?}", end.error);
}

#[tokio::test]
async fn a_rebuild_unwinds_from_every_step_to_the_old_disks() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let before = contents(&t, id);
    let steps = assert_unwinds(&t, async |t| rebuild(t, id)).await;
    assert_eq!(steps, 9);
    // The last of them did it, and nobody wrote down that it ended: it is as after a crash.
    let t = t.next_life().await;
    crate::recover::run(&t.host).await.unwrap();
    assert_eq!(contents(&t, id), before);
    for nth in 0..steps {
        let action = rebuild(&t, id);
        let mut task = t.task(&action).await.failing_at(nth);
        action.run(&mut task).await.unwrap_err();
        assert_taken_back(&t, task).await;
        assert_eq!(contents(&t, id), before, "step {nth}");
    }
}

#[tokio::test]
async fn everything_is_made_anew_and_nothing_of_the_old_is_kept() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let before = contents(&t, id);
    let old = t.host.store.instance(id).unwrap();
    let held = t.host.claims.held();
    done(&t, rebuild(&t, id)).await;
    let after = contents(&t, id);
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let gone: Vec<_> = gone.map(|path| path.file_name().unwrap()).collect();
    assert_eq!(gone, ["kernel", "ramdisk"], "the new image has none");
    assert!(after.keys().all(|path| before.contains_key(path)));
    for name in ["disk", "disk.config"] {
        let path = file(&t, id, name);
        assert_ne!(before[&path], after[&path], "{name}");
    }
    let record = t.host.store.instance(id).unwrap();
    assert_eq!(record.root, Some(Bytes(2 << 20)));
    assert_eq!(record.spec.metadata["role"], "db");
    assert_eq!(record.spec.public_keys, old.spec.public_keys);
    let mut models = record.spec.vifs.iter().map(|vif| vif.model);
    assert!(models.all(|model| model == NicModel::E1000e));
    assert_eq!(
        t.host.hypervisor.info(id).await.unwrap().state,
        PowerState::Running
    );
    assert_eq!(t.host.claims.held().vcpus, held.vcpus);
    // Nobody else used the old image.
    let images = t.host.images.list().await.unwrap();
    let of_it = images.iter().filter(|image| image.instances.contains(&id));
    assert_eq!(of_it.count(), 1);
}

#[tokio::test]
async fn disks_beside_the_root_disk_stay_when_asked() {
    let t = inhabited().await;
    let id = t.spawned(t.everything()).await;
    let node = |name: &str| std::fs::metadata(file(&t, id, name)).unwrap().ino();
    let beside = ["disk.ephemeral0", "disk.swap", "disk.data"];
    let before = beside.map(node);
    let action = Rebuild {
        preserve_ephemeral: true,
        ..rebuild(&t, id)
    };
    done(&t, action).await;
    assert_eq!(beside.map(node), before);
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_refused_and_the_guest_goes_on() {
    let t = inhabited().await;
    let mut spec = t.spec();
    spec.flavor.root = Some(Bytes(1 << 20));
    let id = t.spawned(spec).await;
    let before = t.snapshot().await;
    let action = rebuild(&t, id);
    let mut task = t.task(&action).await;
    let e = action.run(&mut task).await.unwrap_err();
    assert_eq!(e.reason(), "FLAVOR_DISK_TOO_SMALL");
    assert_taken_back(&t, task).await;
    assert_eq!(t.snapshot().await, before);
    let mut action = rebuild(&t, id);
    action.image.properties.min_memory = Bytes(1 << 40);
    let mut task = t.task(&action).await;
    let e = action.run(&mut task).await.unwrap_err();
    assert_eq!(e.reason(), "FLAVOR_MEMORY_TOO_SMALL");
    assert_eq!(task.steps(), 0);
}
