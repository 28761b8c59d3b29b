//! A server that dies while an emulator has not answered yet: what it had asked for is ended when it starts again, and can be
//! asked for again. Over the embedded hypervisor, which dies with it.

use std::fs;

use computedriver::v1::{
    self, block_device::Source, snapshot_request::Destination, volume_connection::Target,
};
use uuid::Uuid;

use crate::{
    power::signal,
    snapshot,
    support::{Sandbox, reason, request, until},
    volume_snapshot::{create, delete, ended, over, ran, volumes},
};

/// Lets the emulator stand still until `word` is in what libvirt has written down of its guest, and the server is dead.
struct Cut {
    emulator: u32,
}

impl Cut {
    fn begin(sandbox: &Sandbox) -> Self {
        let emulator = sandbox.emulators()[0];
        signal("-STOP", emulator);
        Self { emulator }
    }

    async fn end(self, sandbox: &mut Sandbox, word: &str) {
        let folder = sandbox.path().join("qemu/run/qemu");
        let written = || async {
            let files = fs::read_dir(&folder).unwrap().flatten();
            let mut files = files.filter_map(|file| fs::read_to_string(file.path()).ok());
            files.any(|status| status.contains(word)).then_some(())
        };
        until("the emulator to be asked", written).await;
        sandbox.kill();
        signal("-CONT", self.emulator);
        sandbox.launch();
        sandbox.ready().await;
    }
}

async fn attach(sandbox: &Sandbox, id: &str) -> String {
    let volume = v1::VolumeConnection {
        volume_id: Uuid::new_v4().to_string(),
        target: Some(Target::Local(v1::LocalTarget {
            path: volumes(sandbox).join("v0").display().to_string(),
        })),
        format: Some(v1::DiskFormat::Qcow2.into()),
        ..Default::default()
    };
    let volume_id = volume.volume_id.clone();
    let asked = v1::AttachVolumeRequest {
        instance_id: id.to_owned(),
        device: Some(v1::BlockDevice {
            disk_id: "data".to_owned(),
            source: Some(Source::Volume(volume)),
            ..Default::default()
        }),
        ..Default::default()
    };
    sandbox.devices().await.attach_volume(asked).await.unwrap();
    volume_id
}

/// How the newest operation on the instance ended.
async fn interrupted(sandbox: &Sandbox, id: &str) -> String {
    let asked = v1::ListOperationsRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let listed = sandbox.operations().await.list_operations(asked).await;
    let operation = listed.unwrap().into_inner().operations.swap_remove(0);
    assert_eq!(operation.state(), v1::OperationState::Failed);
    format!("{:?}", operation.error)
}

#[tokio::test]
async fn what_an_emulator_was_asked_as_the_server_died_is_ended_at_the_next_start() {
    let mut sandbox = Sandbox::start(&[]).await;
    let sandbox = &mut sandbox;
    let create_first = ["create", "-q", "-f", "qcow2", "v0", "64M"];
    ran("qemu-img", &create_first, &volumes(sandbox));
    let id = sandbox.spawn(request()).await.unwrap().0.instance_id;
    let volume = attach(sandbox, &id).await;
    let (of, snapshot) = ((id.as_str(), volume.as_str()), Uuid::new_v4());
    over(sandbox, "v1", "v0");
    create(sandbox, of, (snapshot, "v1"), false).await.unwrap();

    let cut = Cut::begin(sandbox);
    let merge = delete(sandbox, of, snapshot, ("v1", "v0")).await;
    cut.end(sandbox, "type='active-commit'").await;
    ended(merge).await.unwrap_err();
    let end = interrupted(sandbox, &id).await;
    assert!(end.contains("OperationInterrupted"), "{end}");
    let merged = ended(delete(sandbox, of, snapshot, ("v1", "v0")).await).await;
    assert!(!merged.unwrap(), "there was something left to merge");

    let to = |name| Destination::Path(snapshot::place(sandbox, name).display().to_string());
    let asked = snapshot::asked(&id, to("cut.qcow2"));
    let again = snapshot::asked(&id, to("whole.qcow2"));
    let cut = Cut::begin(sandbox);
    let copy = sandbox.instances().await.snapshot(asked).await;
    cut.end(sandbox, "async='backup'").await;
    drop(copy);
    let end = interrupted(sandbox, &id).await;
    assert!(end.contains("OperationInterrupted"), "{end}");
    assert!(!snapshot::place(sandbox, "cut.qcow2").try_exists().unwrap());
    let made = snapshot::snapshot(sandbox, again, |_| ()).await;
    made.map_err(|e| reason(&e)).unwrap();
    let log = sandbox.logged();
    let mended = log.matches("a job that a crash left half begun").count();
    assert_eq!(mended, 2, "both were cut in the moment that is meant");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
