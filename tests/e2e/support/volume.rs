//! Volumes of instances, and what nobody may know of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use computedriver::v1::{self, block_device::Source, volume_connection::Target};
use tonic::Status;
use uuid::Uuid;

use super::{Sandbox, command, guest};

/// A new volume.
pub fn connection(target: Target) -> v1::VolumeConnection {
    v1::VolumeConnection {
        volume_id: Uuid::new_v4().to_string(),
        target: Some(target),
        ..Default::default()
    }
}

/// A disk that is a new volume.
pub fn disk(name: &str, target: Target) -> v1::BlockDevice {
    v1::BlockDevice {
        disk_id: name.to_owned(),
        source: Some(Source::Volume(connection(target))),
        ..Default::default()
    }
}

/// The tiny guest's disk as a raw file, and its size: whole MiB.
pub fn bootable(path: &Path) -> u64 {
    let image = guest().join("guest.qcow2");
    let mut convert = command("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]);
    let done = convert.args([&image, path]).status();
    assert!(done.expect("qemu-img runs").success());
    let size = fs::metadata(path).unwrap().len().next_multiple_of(1 << 20);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(size)
        .unwrap();
    size
}

/// A program among the interfaces that the sandbox's guests see.
pub fn beside(sandbox: &Sandbox, program: &str) -> Command {
    match sandbox.is_inside() {
        true => sandbox.daemon().inside(program),
        false => command(program),
    }
}

/// Gives an instance a disk.
pub async fn attach(
    sandbox: &Sandbox,
    id: &str,
    device: &v1::BlockDevice,
) -> Result<v1::Disk, Status> {
    let asked = v1::AttachVolumeRequest {
        instance_id: id.to_owned(),
        device: Some(device.clone()),
        ..Default::default()
    };
    let answer = sandbox.devices().await.attach_volume(asked).await?;
    Ok(answer.into_inner().disk.expect("the disk"))
}

/// Takes a disk from an instance.
pub async fn detach(sandbox: &Sandbox, id: &str, name: &str) {
    let asked = v1::DetachVolumeRequest {
        instance_id: id.to_owned(),
        disk: Some(v1::detach_volume_request::Disk::DiskId(name.to_owned())),
        ..Default::default()
    };
    sandbox.devices().await.detach_volume(asked).await.unwrap();
}

/// Moves a disk to another volume.
pub async fn swap(sandbox: &Sandbox, id: &str, name: &str, to: v1::VolumeConnection) {
    let asked = v1::SwapVolumeRequest {
        instance_id: id.to_owned(),
        disk_id: name.to_owned(),
        new_volume: Some(to),
        ..Default::default()
    };
    let stream = sandbox.devices().await.swap_volume(asked).await;
    let mut stream = stream.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

/// All disks of an instance.
pub async fn disks(sandbox: &Sandbox, id: &str) -> Vec<v1::Disk> {
    let asked = v1::ListDisksRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let disks = sandbox.devices().await.list_disks(asked).await;
    disks.unwrap().into_inner().disks
}

/// Stops and starts an instance.
pub async fn restart(sandbox: &Sandbox, id: &str) {
    let asked = v1::PowerOffRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let mut instances = sandbox.instances().await;
    let mut stream = instances.power_off(asked).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    let asked = v1::PowerOnRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    instances.power_on(asked).await.unwrap();
}

/// libvirt's own files of secrets.
pub fn kept(sandbox: &Sandbox) -> Vec<PathBuf> {
    let folders = ["qemu/etc/secrets", "host/etc/secrets"];
    let files = folders.map(|folder| fs::read_dir(sandbox.path().join(folder)));
    let files = files.into_iter().flatten().flatten().flatten();
    files.map(|file| file.path()).collect()
}

/// Nobody but libvirt has the secret.
pub fn assert_untold(sandbox: &Sandbox, secret: &str) {
    let own = kept(sandbox);
    let mut found = holding(sandbox.path(), secret);
    found.retain(|path| !own.contains(path));
    assert_eq!(found, Vec::<PathBuf>::new(), "the secret is there");
    assert!(
        sandbox.logged().contains("TRACE"),
        "the log is at its fullest"
    );
    for pid in sandbox.emulators() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let told = line
            .windows(secret.len())
            .any(|word| word == secret.as_bytes());
        assert!(!told, "the secret is among QEMU's arguments");
    }
}

/// Files below `folder` that hold `word`, or its base64, by their paths.
fn holding(folder: &Path, word: &str) -> Vec<PathBuf> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = STANDARD.encode(word);
    let encoded = encoded.trim_end_matches('=');
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            let kind = kind.expect("an entry has a type");
            let holds = |bytes: &[u8]| {
                let mut words = [word, encoded].into_iter().map(str::as_bytes);
                words.any(|word| bytes.windows(word.len()).any(|window| window == word))
            };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
                found.push(path);
            }
        }
    }
    found
}
