//! Volumes and interfaces that come to a real guest and go again.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use computedriver::v1::{
    self, EventKind, block_device::Source, nbd_target::Server, volume_connection::Target,
    watch_events_response::Event as Told,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::{
    LIMIT, Sandbox, Shell, command, fields, guest_request, reason, request, said, until,
};

suite! {
    a_guest_sees_a_volume_come_stay_over_restarts_and_go,
    a_guest_that_does_not_answer_keeps_its_volume,
    a_guest_sees_its_volume_as_it_is_and_as_it_grows,
    a_storage_server_that_is_lost_is_told_as_its_disk_s_error,
    a_crash_while_a_guest_is_asked_leaves_it_with_its_volume,
}

const MIB: u64 = 1 << 20;

/// A file in the folder for volumes.
fn file(sandbox: &Sandbox, name: &str, size: u64) -> PathBuf {
    let folder = sandbox.path().join("volumes");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    let path = folder.join(name);
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    path
}

fn local(path: &Path) -> Target {
    let path = path.display().to_string();
    Target::Local(v1::LocalTarget { path })
}

fn device(name: &str, target: Target) -> v1::BlockDevice {
    let volume = v1::VolumeConnection {
        volume_id: Uuid::new_v4().to_string(),
        target: Some(target),
        ..Default::default()
    };
    v1::BlockDevice {
        disk_id: name.to_owned(),
        source: Some(Source::Volume(volume)),
        ..Default::default()
    }
}

async fn attach(sandbox: &Sandbox, id: &str, device: &v1::BlockDevice) -> Result<v1::Disk, Status> {
    let asked = v1::AttachVolumeRequest {
        instance_id: id.to_owned(),
        device: Some(device.clone()),
        ..Default::default()
    };
    let answer = sandbox.devices().await.attach_volume(asked).await?;
    Ok(answer.into_inner().disk.expect("the disk"))
}

async fn detach(sandbox: &Sandbox, id: &str, name: &str) -> Result<bool, Status> {
    let asked = v1::DetachVolumeRequest {
        instance_id: id.to_owned(),
        disk: Some(v1::detach_volume_request::Disk::DiskId(name.to_owned())),
        ..Default::default()
    };
    let answer = sandbox.devices().await.detach_volume(asked).await?;
    Ok(answer.into_inner().absent)
}

/// Names and ids of the disks but the config drive, page by page.
async fn disks(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let mut asked = v1::ListDisksRequest {
        instance_id: id.to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = sandbox.devices().await.list_disks(asked.clone()).await;
        let page = page.unwrap().into_inner();
        for disk in page.disks {
            assert!(disk.reachable, "{disk:?}");
            if disk.disk_id != "config" {
                all.push(format!("{} {}", disk.device_name, disk.disk_id));
            }
        }
        asked.page_token = page.next_page_token;
        if asked.page_token.is_empty() {
            return all;
        }
    }
}

/// Serves a file as a network block device until it is dropped.
struct Nbd(Child);

impl Nbd {
    async fn start(file: &Path, socket: &Path) -> Self {
        let server = command("qemu-nbd")
            .args(["--format", "raw", "--persistent", "--export-name", "disk"])
            .arg("--socket")
            .arg(socket)
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-nbd starts");
        let served = Self(server);
        until("qemu-nbd to serve", || {
            std::future::ready(socket.try_exists().unwrap().then_some(()))
        })
        .await;
        // QEMU has a user of its own under a libvirtd.
        fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
        served
    }
}

impl Drop for Nbd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn power(sandbox: &Sandbox, id: &str, on: bool) {
    let mut instances = sandbox.instances().await;
    let instance_id = id.to_owned();
    if on {
        let asked = v1::PowerOnRequest {
            instance_id,
            ..Default::default()
        };
        instances.power_on(asked).await.unwrap();
        return;
    }
    let asked = v1::PowerOffRequest {
        instance_id,
        ..Default::default()
    };
    let mut stream = instances.power_off(asked).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

/// The devices of which an event of that kind tells.
async fn told(sandbox: &Sandbox, kind: EventKind, last: &str) -> Vec<String> {
    let asked = v1::WatchEventsRequest {
        after: Some(0),
        ..Default::default()
    };
    let stream = sandbox.instances().await.watch_events(asked).await;
    let mut stream = stream.unwrap().into_inner();
    let mut devices = Vec::new();
    while devices.last().is_none_or(|device| device != last) {
        let message = tokio::time::timeout(LIMIT, stream.message()).await;
        let message = message.expect("an event in time").unwrap();
        let Some(Told::Happened(event)) = message.and_then(|m| m.event) else {
            continue;
        };
        if event.kind() == kind {
            devices.push(event.device_id);
        }
    }
    devices
}

async fn a_guest_sees_a_volume_come_stay_over_restarts_and_go(sandbox: &mut Sandbox) {
    let (instance, _) = sandbox
        .spawn(guest_request("GUEST-MILESTONE-ready"))
        .await
        .unwrap();
    let id = instance.instance_id;
    let one = device("one", local(&file(sandbox, "one", 16 * MIB)));
    let disk = attach(sandbox, &id, &one).await.unwrap();
    assert_eq!(
        (disk.device_name.as_str(), disk.size_bytes),
        ("vdb", 16 * MIB)
    );
    assert_eq!(disk.kind(), v1::DiskKind::Volume);
    said(sandbox, &id, "GUEST-UEVENT add block vdb", 1).await;

    let (served, socket) = (
        file(sandbox, "two", 8 * MIB),
        sandbox.path().join("volumes/nbd.sock"),
    );
    let nbd = Nbd::start(&served, &socket).await;
    let target = Target::Nbd(v1::NbdTarget {
        server: Some(Server::Socket(socket.display().to_string())),
        export: "disk".to_owned(),
        tls: false,
    });
    let two = device("two", target);
    let disk = attach(sandbox, &id, &two).await.unwrap();
    assert_eq!(
        (disk.device_name.as_str(), disk.size_bytes),
        ("vdc", 8 * MIB)
    );
    said(sandbox, &id, "GUEST-UEVENT add block vdc", 1).await;
    attach(sandbox, &id, &two).await.expect("twice is as once");
    let e = attach(sandbox, &id, &device("one", local(&served))).await;
    let e = e.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::AlreadyExists, "DISK_EXISTS")
    );

    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    let all = ["vda root", "vdb one", "vdc two"].map(str::to_owned);
    assert_eq!(disks(sandbox, &id).await, all);
    assert!(!detach(sandbox, &id, "one").await.unwrap());
    said(sandbox, &id, "GUEST-UEVENT remove block vdb", 1).await;
    assert!(
        detach(sandbox, &id, "one").await.unwrap(),
        "absent is a success"
    );
    assert_eq!(
        disks(sandbox, &id).await,
        ["vda root", "vdc two"].map(str::to_owned)
    );

    power(sandbox, &id, false).await;
    let disk = attach(sandbox, &id, &one).await.unwrap();
    assert_eq!(disk.device_name, "vdb", "the first free name");
    power(sandbox, &id, true).await;
    said(sandbox, &id, "GUEST-MILESTONE-ready", 2).await;
    for name in ["two", "one"] {
        assert!(!detach(sandbox, &id, name).await.unwrap());
    }
    assert_eq!(disks(sandbox, &id).await, ["vda root".to_owned()]);
    let added = told(sandbox, EventKind::DeviceAdded, "two").await;
    assert_eq!(added, ["one", "two"], "by the ids that their caller gave");
    let removed = told(sandbox, EventKind::DeviceRemoved, "two").await;
    assert_eq!(removed, ["one", "two"]);
    drop(nbd);
    sandbox.destroy(&id).await.unwrap();
    assert!(
        served.try_exists().unwrap(),
        "a volume outlives its instances"
    );
    sandbox.assert_clean().await;
}

async fn a_storage_server_that_is_lost_is_told_as_its_disk_s_error(sandbox: &mut Sandbox) {
    let asked = guest_request("GUEST-MILESTONE-ready");
    let id = sandbox.spawn(asked).await.unwrap().0.instance_id;
    let socket = sandbox.path().join("volumes/lost.sock");
    let nbd = Nbd::start(&file(sandbox, "lost", MIB), &socket).await;
    let target = Target::Nbd(v1::NbdTarget {
        server: Some(Server::Socket(socket.display().to_string())),
        export: "disk".to_owned(),
        tls: false,
    });
    attach(sandbox, &id, &device("lost", target)).await.unwrap();
    said(sandbox, &id, "GUEST-UEVENT add block vdb", 1).await;
    drop(nbd);
    let mut shell = Shell::login(sandbox, &id).await;
    shell
        .run("dd if=/dev/zero of=/dev/vdb bs=4096 count=1 conv=fsync; true")
        .await;
    let failed = told(sandbox, EventKind::IoError, "lost").await;
    assert!(failed.iter().all(|disk| disk == "lost"), "{failed:?}");
    // The guest is told of it and goes on.
    let words = shell.run("echo still $((40 + 2))").await;
    assert!(words.contains("still 42"), "{words:?}");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn extend(sandbox: &Sandbox, id: &str, size_bytes: u64) -> Result<v1::Disk, Status> {
    let asked = v1::ExtendVolumeRequest {
        instance_id: id.to_owned(),
        disk_id: "one".to_owned(),
        size_bytes,
        ..Default::default()
    };
    let answer = sandbox.devices().await.extend_volume(asked).await?;
    Ok(answer.into_inner().disk.expect("the disk"))
}

async fn a_guest_sees_its_volume_as_it_is_and_as_it_grows(sandbox: &mut Sandbox) {
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let path = file(sandbox, "one", 16 * MIB);
    let mut one = device("one", local(&path));
    let Some(Source::Volume(volume)) = &mut one.source else {
        panic!("it is a volume");
    };
    volume.qos = Some(v1::DiskQos {
        write_bytes_sec: MIB,
        ..Default::default()
    });
    let serial = volume.volume_id[..20].to_owned();
    attach(sandbox, &id, &one).await.unwrap();
    said(sandbox, &id, "GUEST-UEVENT add block vdb", 1).await;
    let mut shell = Shell::login(sandbox, &id).await;
    let told = shell.run("cat /sys/block/vdb/serial").await;
    assert!(told.contains(&serial), "{told}");
    let since = std::time::Instant::now();
    shell
        .run("dd if=/dev/zero of=/dev/vdb bs=256k count=16 conv=fsync")
        .await;
    let took = since.elapsed();
    assert!(
        took.as_secs_f64() > 2.0,
        "4 MiB at 1 MiB a second: {took:?}"
    );

    let e = extend(sandbox, &id, 32 * MIB).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::FailedPrecondition, "VOLUME_UNUSABLE")
    );
    let grown = fs::File::options().write(true).open(&path).unwrap();
    grown.set_len(32 * MIB).unwrap();
    for _ in 0..2 {
        let disk = extend(sandbox, &id, 32 * MIB).await.unwrap();
        assert_eq!(disk.size_bytes, 32 * MIB);
    }
    let told = shell.run("cat /sys/block/vdb/size").await;
    assert!(told.contains("65536"), "{told}");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Begins a detach that the guest, which has no operating system, does not answer; its operation's id.
async fn hanging(
    sandbox: &Sandbox,
    id: &str,
) -> (tokio::task::JoinHandle<Result<bool, Status>>, String) {
    let mut devices = sandbox.devices().await;
    let asked = v1::DetachVolumeRequest {
        instance_id: id.to_owned(),
        disk: Some(v1::detach_volume_request::Disk::DiskId("one".to_owned())),
        ..Default::default()
    };
    let detach = tokio::spawn(async move {
        let answer = devices.detach_volume(asked).await?;
        Ok(answer.into_inner().absent)
    });
    let running = || async {
        let asked = v1::ListOperationsRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let listed = sandbox.operations().await.list_operations(asked).await;
        let mut listed = listed.unwrap().into_inner().operations.into_iter();
        listed.find_map(|operation| {
            let phase = operation.progress.as_ref().map(|told| told.phase());
            let asked = phase == Some(v1::Phase::Detach);
            let running = operation.state() == v1::OperationState::Running;
            (asked && running).then_some(operation.operation_id)
        })
    };
    let operation = until("the guest to be asked", running).await;
    (detach, operation)
}

async fn a_guest_that_does_not_answer_keeps_its_volume(sandbox: &mut Sandbox) {
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = instance.instance_id;
    let one = device("one", local(&file(sandbox, "one", MIB)));
    attach(sandbox, &id, &one).await.unwrap();
    let both = ["vda root", "vdb one"].map(str::to_owned);
    let (detach, operation_id) = hanging(sandbox, &id).await;
    let e = attach(
        sandbox,
        &id,
        &device("two", local(&file(sandbox, "two", MIB))),
    )
    .await;
    assert_eq!(reason(&e.unwrap_err()), "OPERATION_PENDING");
    let cancel = v1::CancelOperationRequest { operation_id };
    sandbox
        .operations()
        .await
        .cancel_operation(cancel)
        .await
        .unwrap();
    let e = detach.await.unwrap().unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::Cancelled, "OPERATION_CANCELLED")
    );
    assert_eq!(disks(sandbox, &id).await, both);

    let mut wrong = device("bad", local(Path::new("/etc/passwd")));
    let e = attach(sandbox, &id, &wrong).await.unwrap_err();
    assert_eq!(
        (e.code(), reason(&e).as_str()),
        (Code::FailedPrecondition, "VOLUME_UNUSABLE")
    );
    wrong.device_name = "vdf".to_owned();
    wrong.source = Some(Source::Blank(v1::BlankDisk::default()));
    let e = attach(sandbox, &id, &wrong).await.unwrap_err();
    assert_eq!(fields(&e), ["device.source"]);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_crash_while_a_guest_is_asked_leaves_it_with_its_volume(sandbox: &mut Sandbox) {
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = instance.instance_id;
    let one = device("one", local(&file(sandbox, "one", MIB)));
    attach(sandbox, &id, &one).await.unwrap();
    let (detach, operation_id) = hanging(sandbox, &id).await;
    sandbox.kill();
    detach.await.unwrap().unwrap_err();
    sandbox.launch();
    sandbox.ready().await;
    let asked = v1::GetOperationRequest { operation_id };
    let ended = sandbox
        .operations()
        .await
        .get_operation(asked)
        .await
        .unwrap();
    let ended = ended.into_inner().operation.unwrap();
    assert_eq!(ended.state(), v1::OperationState::Failed);
    assert_eq!(
        disks(sandbox, &id).await,
        ["vda root", "vdb one"].map(str::to_owned)
    );
    attach(sandbox, &id, &one)
        .await
        .expect("it is attached as before");
    power(sandbox, &id, false).await;
    assert!(!self::detach(sandbox, &id, "one").await.unwrap());
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
