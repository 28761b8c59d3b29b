//! Images that are not what they should be, and images that many ask for at once.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use computedriver::v1::{self, DiskFormat};
use futures::TryStreamExt;
use tonic::Code;
use uuid::Uuid;

use crate::{
    support::{Sandbox, command, guest, image, reason, request},
    web::{Answer, Web},
};

fn made(dir: &Path, name: &str, args: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let mut qemu_img = command("qemu-img");
    qemu_img.args(["create", "-q"]).args(args);
    let done = qemu_img
        .arg(&path)
        .arg("64M")
        .status()
        .expect("qemu-img runs");
    assert!(done.success(), "qemu-img create {args:?}");
    path
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a file to write");
    path
}

/// What the cache holds, whole or in the making.
fn cached(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![sandbox.path().join("images")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}

async fn refused(sandbox: &Sandbox, image: v1::Image) -> (Code, String) {
    let asked = v1::SpawnRequest {
        image: Some(image),
        ..request()
    };
    let status = sandbox
        .spawn(asked)
        .await
        .expect_err("a hostile image is refused");
    println!(
        "{:?} {}: {}",
        status.code(),
        reason(&status),
        status.message()
    );
    assert_eq!(
        cached(sandbox),
        Vec::<PathBuf>::new(),
        "something is left in the cache"
    );
    (status.code(), reason(&status))
}

#[tokio::test]
async fn hostile_files_are_refused_and_leave_nothing() {
    let sandbox = Sandbox::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let secret = written(dir, "secret.raw", &[7; 1 << 20]);
    let secret = secret.display().to_string();
    let backing = made(
        dir,
        "backing.qcow2",
        &["-f", "qcow2", "-b", &secret, "-F", "raw"],
    );
    let data = dir.join("data.raw").display().to_string();
    let outside = made(
        dir,
        "outside.qcow2",
        &[
            "-f",
            "qcow2",
            "-o",
            &format!("data_file={data},data_file_raw=on"),
        ],
    );
    let plain = made(dir, "plain.qcow2", &["-f", "qcow2"]);
    let descriptor = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\n# Extent description\nRW 2048 FLAT \"{secret}\" 0\n"
    );
    let vmdk = written(dir, "extent.vmdk", descriptor.as_bytes());
    let whole = fs::read(guest().join("guest.qcow2")).unwrap();
    let cut = written(dir, "cut.qcow2", &whole[..whole.len() / 2]);
    let stub = written(dir, "stub.qcow2", &whole[..60]);
    let empty = written(dir, "empty.raw", b"");
    let unacceptable = (Code::FailedPrecondition, "IMAGE_UNACCEPTABLE".to_owned());
    for (path, format) in [
        (&backing, DiskFormat::Qcow2),
        (&outside, DiskFormat::Qcow2),
        (&vmdk, DiskFormat::Vmdk),
        (&plain, DiskFormat::Raw),
        (&plain, DiskFormat::Vmdk),
        (&stub, DiskFormat::Qcow2),
        (&cut, DiskFormat::Qcow2),
        (&empty, DiskFormat::Raw),
    ] {
        assert_eq!(
            refused(&sandbox, image(path, format)).await,
            unacceptable,
            "{} as {format:?}",
            path.display()
        );
    }
    let wrong = v1::Image {
        sha256: "0".repeat(64),
        ..image(&plain, DiskFormat::Qcow2)
    };
    assert_eq!(refused(&sandbox, wrong).await.1, "IMAGE_CHECKSUM_MISMATCH");
    let absent = v1::Image {
        location: "file:///nowhere/at/all.qcow2".to_owned(),
        ..image(&plain, DiskFormat::Qcow2)
    };
    assert_eq!(
        refused(&sandbox, absent).await,
        (Code::NotFound, "IMAGE_NOT_FOUND".to_owned())
    );
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn an_unused_image_is_pruned_in_its_time_and_a_repeat_answers_the_same() {
    let sandbox = Sandbox::start(&[]).await;
    let mut images = sandbox.images().await;
    let image = crate::support::guest_request("Linux version").image;
    let pull = v1::PullImageRequest {
        image,
        ..Default::default()
    };
    let fetched = images.pull_image(pull).await.unwrap().into_inner();
    let last = fetched.try_collect::<Vec<_>>().await.unwrap().pop();
    let Some(v1::pull_image_response::Event::Image(pulled)) = last.and_then(|told| told.event)
    else {
        panic!("the last message is no image");
    };
    let mut prune = async |unused_for: Option<u64>, request_id: &str| {
        let request = v1::PruneImagesRequest {
            unused_for: unused_for.map(|s| Duration::from_secs(s).try_into().unwrap()),
            request_id: request_id.to_owned(),
        };
        images.prune_images(request).await.unwrap().into_inner()
    };
    let young = prune(None, "").await;
    assert_eq!(
        young,
        v1::PruneImagesResponse::default(),
        "it is kept for a day"
    );
    let name = Uuid::new_v4().to_string();
    let pruned = prune(Some(0), &name).await;
    assert_eq!(pruned.images.len(), 1);
    assert_eq!(pruned.images[0].sha256, pulled.sha256);
    assert!(pruned.freed_bytes > 0);
    assert_eq!(prune(Some(0), &name).await, pruned);
    assert_eq!(prune(Some(0), "").await, v1::PruneImagesResponse::default());
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn an_image_larger_than_the_flavor_is_refused() {
    let sandbox = Sandbox::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.qcow2");
    let made = command("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&large)
        .arg("2G")
        .status()
        .unwrap();
    assert!(made.success());
    let mut asked = v1::SpawnRequest {
        image: Some(image(&large, DiskFormat::Qcow2)),
        ..request()
    };
    asked.flavor.as_mut().unwrap().root_gib = 1;
    let status = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "FLAVOR_DISK_TOO_SMALL")
    );
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn hostile_servers_are_told_apart_and_leave_nothing() {
    let sandbox = Sandbox::start(&["--set", "images.idle_timeout=2s"]).await;
    for (answer, expected) in [
        (Answer::Absent, "IMAGE_NOT_FOUND"),
        (Answer::Stall, "IMAGE_FETCH_FAILED"),
        (Answer::Short, "IMAGE_FETCH_FAILED"),
    ] {
        let web = Web::start(answer.clone()).await;
        let asked = v1::Image {
            location: web.url(),
            sha256: String::new(),
            ..image(&guest().join("boot-sector.raw"), DiskFormat::Raw)
        };
        assert_eq!(refused(&sandbox, asked).await.1, expected, "{answer:?}");
    }
    // HTTP ends a body where it was announced to end: what comes after is not part of it, and the hash tells.
    let web = Web::start(Answer::Long).await;
    let asked = v1::Image {
        location: web.url(),
        ..image(&guest().join("boot-sector.raw"), DiskFormat::Raw)
    };
    assert_eq!(refused(&sandbox, asked).await.1, "IMAGE_CHECKSUM_MISMATCH");
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn twenty_spawns_of_one_image_fetch_it_once() {
    let sandbox = Sandbox::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.raw");
    fs::copy(guest().join("boot-sector.raw"), &large).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&large)
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let web = Web::start(Answer::File(large.clone())).await;
    let source = v1::Image {
        location: web.url(),
        ..image(&large, DiskFormat::Raw)
    };
    let spawns = (0..20).map(|_| {
        let asked = v1::SpawnRequest {
            image: Some(source.clone()),
            ..request()
        };
        sandbox.spawn(asked)
    });
    let ended = futures::future::join_all(spawns).await;
    let mut running = Vec::new();
    for end in ended {
        match end {
            Ok((instance, _)) => running.push(instance.instance_id),
            Err(status) => assert_eq!(reason(&status), "HOST_RESOURCES", "{status:?}"),
        }
    }
    println!("{} of 20 run, {} fetches", running.len(), web.asked());
    assert!(!running.is_empty());
    assert_eq!(web.asked(), 1, "the image was fetched more than once");
    assert_eq!(sandbox.emulators().len(), running.len());
    let ends = futures::future::join_all(running.iter().map(|id| sandbox.destroy(id))).await;
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn an_image_is_pulled_listed_and_removed() {
    let sandbox = Sandbox::start(&[]).await;
    let source = image(&guest().join("guest.qcow2"), DiskFormat::Qcow2);
    let asked = v1::PullImageRequest {
        image: Some(source.clone()),
        ..Default::default()
    };
    let mut stream = sandbox
        .images()
        .await
        .pull_image(asked)
        .await
        .unwrap()
        .into_inner();
    let mut told = None;
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(v1::pull_image_response::Event::Image(image)) = message.event {
            told = Some(image);
        }
    }
    assert_eq!(told.expect("the image at the end").sha256, source.sha256);
    let list = v1::ListImagesRequest::default();
    let listed = sandbox
        .images()
        .await
        .list_images(list.clone())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(listed.len(), 1);

    let used = v1::SpawnRequest {
        image: Some(source.clone()),
        ..crate::support::guest_request("Linux version")
    };
    let (instance, _) = sandbox.spawn(used).await.unwrap();
    let remove = v1::RemoveImageRequest {
        image: Some(v1::remove_image_request::Image::Sha256(
            source.sha256.clone(),
        )),
        ..Default::default()
    };
    let refused = sandbox
        .images()
        .await
        .remove_image(remove.clone())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "IMAGE_IN_USE");
    sandbox.destroy(&instance.instance_id).await.unwrap();
    sandbox
        .images()
        .await
        .remove_image(remove.clone())
        .await
        .unwrap();
    sandbox
        .images()
        .await
        .remove_image(remove)
        .await
        .expect("absent is a success");
    assert_eq!(
        sandbox
            .images()
            .await
            .list_images(list)
            .await
            .unwrap()
            .into_inner()
            .images,
        []
    );
    sandbox.assert_clean().await;
}
