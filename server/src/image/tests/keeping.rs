use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use tokio::sync::oneshot;

use super::support::{
    Reply, Server, announcing, cache, good, head, left_in, settings, sha256, source,
};
use crate::{
    error::Classify,
    image::{Filesystem, ImageError, Images},
    model::{Amount, Bytes, DiskFormat, InstanceId, Phase},
    sys::command::Command,
};

#[tokio::test]
async fn twenty_at_once_are_one_fetch() {
    let (dir, images) = cache();
    let body = good("qcow2").await;
    let server = Server::of(body.clone()).await;
    for (n, hash) in [(1, None), (2, Some(sha256(&body)))] {
        if n == 2 {
            images
                .remove(&images.list().await.unwrap()[0].key)
                .await
                .unwrap();
        }
        let asked = source(&server.url, DiskFormat::Qcow2, hash);
        let seen = AtomicUsize::new(0);
        let each = || {
            images.ensure(&asked, |_| {
                seen.fetch_add(1, Ordering::Relaxed);
            })
        };
        let all = join_all((0..20).map(|_| each())).await;
        let first = all[0].as_ref().unwrap();
        assert!(
            all.iter()
                .all(|image| image.as_ref().unwrap().path == first.path)
        );
        assert_eq!(std::fs::read(&first.path).unwrap(), body);
        assert_eq!(server.hits(), n);
        assert!(seen.load(Ordering::Relaxed) >= 20, "all see progress");
        let name = format!("{}-qcow2.qcow2", hex::encode(sha256(&body)));
        assert_eq!(left_in(dir.path()), [name.clone(), format!("{name}.json")]);
    }
}

#[tokio::test]
async fn a_failed_fetch_is_told_to_all_and_tried_again_by_the_next() {
    let (_dir, images) = cache();
    let broken = Arc::new(AtomicBool::new(true));
    let body = good("qcow2").await;
    let heals = broken.clone();
    let server = Server::start(move |_| match heals.load(Ordering::SeqCst) {
        true => Reply::Stall(vec![]),
        false => Reply::Close(super::support::ok(&body)),
    })
    .await;
    let asked = source(&server.url, DiskFormat::Qcow2, None);
    let all = join_all((0..5).map(|_| images.ensure(&asked, |_| {}))).await;
    assert!(
        all.iter()
            .all(|e| e.as_ref().unwrap_err().reason() == "IMAGE_FETCH_FAILED")
    );
    assert_eq!(server.hits(), 1);
    broken.store(false, Ordering::SeqCst);
    images.ensure(&asked, |_| {}).await.unwrap();
}

/// Asks for an image that stalls half-way, until some of it has come.
async fn half_fetched(images: &Images, url: &str, go_on: impl Future<Output = ()>) {
    let asked = source(url, DiskFormat::Raw, None);
    let (some_tx, some_rx) = oneshot::channel();
    let mut some_tx = Some(some_tx);
    let fetch = images.ensure(&asked, |progress| {
        if matches!(
            progress.amount,
            Amount::Bytes {
                done: 1..,
                total: Some(100_000)
            }
        ) && let Some(tx) = some_tx.take()
        {
            tx.send(()).unwrap();
        }
    });
    tokio::pin!(fetch);
    tokio::select! {
        end = &mut fetch => panic!("{end:?}"),
        came = some_rx => came.unwrap(),
    }
    let () = go_on.await;
}

#[tokio::test]
async fn what_disks_rest_on_all_may_read_and_none_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, images) = cache();
    let server = Server::of(good("qcow2").await).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let disk = source(&server.url, DiskFormat::Qcow2, None);
    let image = images.ensure(&disk, |_| {}).await.unwrap();
    assert_eq!(mode(&image.path), 0o644);
    assert_eq!(mode(&image.path.with_extension("qcow2.json")), 0o600);
    let kernel = images.ensure_file(&disk.file, |_| {}).await.unwrap();
    assert_eq!(mode(&kernel.path), 0o600, "a kernel is copied, not shared");
    let empty = images.formatted(Filesystem::Ext4, "e", Bytes(4 << 20));
    assert_eq!(mode(&empty.await.unwrap().path), 0o644);
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_any_more_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut patient = settings(dir.path());
    patient.limits.idle = std::time::Duration::from_secs(600);
    let images = Images::open(patient).unwrap();
    let server = Server::start(|_| Reply::Stall(announcing(100_000, &[7; 50_000]))).await;
    let folder = dir.path().to_owned();
    half_fetched(&images, &server.url, async move {
        let left = left_in(&folder);
        assert!(left.len() == 1 && left[0].ends_with(".part"), "{left:?}");
    })
    .await;
    images.close().await;
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_crash_left_is_tidied_and_what_was_whole_is_kept() {
    let (dir, images) = cache();
    let body = good("qcow2").await;
    let server = Server::of(body.clone()).await;
    let asked = source(&server.url, DiskFormat::Qcow2, Some(sha256(&body)));
    let before = images.ensure(&asked, |_| {}).await.unwrap();
    drop(images);
    let path = |name: &str| dir.path().join(name);
    for name in [
        "0123.1-0.part",
        "formatted/ext4.part",
        "record-without-image.json",
    ] {
        std::fs::write(path(name), b"{}").unwrap();
    }
    std::fs::write(path("operators-own.txt"), b"").unwrap();
    std::fs::write(path("damaged"), b"").unwrap();
    std::fs::write(path("damaged.json"), b"{").unwrap();
    let images = Images::open(settings(dir.path())).unwrap();
    let name = before.key.to_string();
    let mut kept = vec![
        name.clone(),
        format!("{name}.json"),
        "damaged".to_owned(),
        "damaged.json".to_owned(),
        "operators-own.txt".to_owned(),
    ];
    kept.sort();
    assert_eq!(left_in(dir.path()), kept);
    assert!(!path("formatted/ext4.part").try_exists().unwrap());
    let after = images.ensure(&asked, |_| {}).await.unwrap();
    assert_eq!((&after.record, &after.path), (&before.record, &before.path));
    assert_eq!(server.hits(), 1);
    assert_eq!(images.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_location_without_hash_is_fetched_again_only_when_it_changed() {
    let (_dir, images) = cache();
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let server = Server::start(move |request| {
        let version = now.load(Ordering::SeqCst);
        let etag = format!("\"v{version}\"");
        if request.to_lowercase().contains("if-none-match") && request.contains(&etag) {
            return Reply::Close(head("304 Not Modified", &format!("ETag: {etag}\r\n")));
        }
        let mut answer = head(
            "200 OK",
            &format!("ETag: {etag}\r\nContent-Length: 4096\r\n"),
        );
        answer.extend(vec![u8::try_from(version).unwrap(); 4096]);
        Reply::Close(answer)
    })
    .await;
    let asked = source(&server.url, DiskFormat::Raw, None);
    let first = images.ensure(&asked, |_| {}).await.unwrap();
    assert_eq!(images.ensure(&asked, |_| {}).await.unwrap().key, first.key);
    version.store(2, Ordering::SeqCst);
    let second = images.ensure(&asked, |_| {}).await.unwrap();
    assert_ne!(second.key, first.key);
    assert_eq!(
        std::fs::read(&first.path).unwrap(),
        [1; 4096],
        "disks may rest on it"
    );
    version.store(1, Ordering::SeqCst);
    assert_eq!(images.ensure(&asked, |_| {}).await.unwrap().key, first.key);
    // Tidied by hand: what the server says is unchanged is not here any more.
    std::fs::remove_file(&first.path).unwrap();
    assert_eq!(images.ensure(&asked, |_| {}).await.unwrap().key, first.key);
    assert_eq!(std::fs::read(&first.path).unwrap(), [1; 4096]);
}

#[tokio::test]
async fn a_file_is_read_again_only_when_it_changed() {
    let (dir, open) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut settings = settings(dir.path());
    settings.limits.file_folders = vec![open.path().to_owned()];
    let images = Images::open(settings).unwrap();
    let path = open.path().join("disk");
    let asked = source(&format!("file://{}", path.display()), DiskFormat::Raw, None);
    let ask = async || {
        let mut read = false;
        let image = images.ensure(&asked, |_| read = true).await.unwrap();
        (std::fs::read(&image.path).unwrap(), read)
    };
    std::fs::write(&path, b"one").unwrap();
    assert_eq!(ask().await, (b"one".to_vec(), true));
    assert_eq!(ask().await, (b"one".to_vec(), false));
    std::fs::write(&path, b"three").unwrap();
    assert_eq!(ask().await, (b"three".to_vec(), true));
}

#[tokio::test]
async fn an_image_is_converted_where_it_must_be() {
    let plain = good("raw").await;
    for (came_as, force_raw, kept_as) in [
        (
            "vmdk -o subformat=streamOptimized",
            false,
            DiskFormat::Qcow2,
        ),
        ("vdi", true, DiskFormat::Raw),
        ("vhdx", false, DiskFormat::Qcow2),
        ("vpc -o force_size=on", true, DiskFormat::Raw),
        ("qcow2 -c", true, DiskFormat::Raw),
        ("qcow2", false, DiskFormat::Qcow2),
        ("raw", false, DiskFormat::Raw),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(crate::image::ImageSettings {
            force_raw,
            ..settings(dir.path())
        })
        .unwrap();
        let format = match came_as.split(' ').next().unwrap() {
            "vmdk" => DiskFormat::Vmdk,
            "vdi" => DiskFormat::Vdi,
            "vhdx" => DiskFormat::Vhdx,
            "vpc" => DiskFormat::Vpc,
            "qcow2" => DiskFormat::Qcow2,
            _ => DiskFormat::Raw,
        };
        let server = Server::of(good(came_as).await).await;
        let mut seen = Vec::new();
        let asked = source(&server.url, format, None);
        let image = images
            .ensure(&asked, |progress| seen.push(progress))
            .await
            .unwrap();
        let record = &image.record;
        assert_eq!(
            (record.source_format, record.cached_format),
            (Some(format), Some(kept_as))
        );
        assert_eq!(record.virtual_size, Bytes(plain.len() as u64), "{came_as}");
        let converted = seen
            .iter()
            .any(|progress| progress.phase == Phase::ConvertImage);
        assert_eq!(converted, kept_as != format, "{came_as}: {seen:?}");
        let raw = dir.path().join("raw");
        let kept = if kept_as == DiskFormat::Raw {
            "raw"
        } else {
            "qcow2"
        };
        Command::new("qemu-img")
            .args(["convert", "-f", kept, "-O", "raw"])
            .args([&image.path, &raw])
            .run()
            .await
            .unwrap();
        assert!(std::fs::read(&raw).unwrap() == plain, "{came_as}");
        assert_eq!(left_in(dir.path()).len(), 3, "{came_as}");
    }
}

#[tokio::test]
async fn an_image_in_use_stays() {
    let (dir, images) = cache();
    let server = Server::of(good("qcow2").await).await;
    let asked = source(&server.url, DiskFormat::Qcow2, None);
    let image = images.ensure(&asked, |_| {}).await.unwrap();
    let key = image.key.clone();
    let refused = async || {
        let e = images.remove(&key).await.unwrap_err();
        assert!(
            images
                .prune(Some(std::time::Duration::ZERO))
                .await
                .unwrap()
                .is_empty()
        );
        e.reason()
    };
    assert_eq!(refused().await, "IMAGE_IN_USE", "somebody holds it");
    let instances = [InstanceId::random(), InstanceId::random()];
    instances
        .iter()
        .for_each(|&instance| images.pin(&key, instance));
    drop(image);
    assert_eq!(images.list().await.unwrap()[0].instances.len(), 2);
    for instance in instances {
        assert_eq!(refused().await, "IMAGE_IN_USE", "a disk rests on it");
        images.unpin(instance);
    }
    assert!(images.remove(&key).await.unwrap() > Bytes(0));
    assert_eq!(images.remove(&key).await.unwrap(), Bytes(0));
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_root_disk_is_at_least_as_large_as_its_image() {
    let (_dir, images) = cache();
    let server = Server::of(good("qcow2").await).await;
    let asked = source(&server.url, DiskFormat::Qcow2, None);
    let image = images.ensure(&asked, |_| {}).await.unwrap();
    assert_eq!(image.root_size(None).unwrap(), Bytes(2 << 20));
    assert_eq!(
        image.root_size(Some(Bytes(1 << 30))).unwrap(),
        Bytes(1 << 30)
    );
    let e = image.root_size(Some(Bytes(1 << 20))).unwrap_err();
    assert_eq!(e.reason(), "FLAVOR_DISK_TOO_SMALL");
}

#[tokio::test]
async fn an_empty_file_system_is_made_once_and_clean() {
    let (dir, images) = cache();
    for (filesystem, kind, label) in [
        (Filesystem::Ext4, "ext4", "ephemeral0"),
        (Filesystem::Vfat, "vfat", "EPHEMERAL0"),
    ] {
        let make = || images.formatted(filesystem, label, Bytes(1 << 30));
        let all = join_all((0..4).map(|_| make())).await;
        let base = all[0].clone().unwrap();
        assert!(all.iter().all(|other| other.as_ref().unwrap() == &base));
        let before = std::fs::metadata(&base.path).unwrap().modified().unwrap();
        make().await.unwrap();
        assert_eq!(
            std::fs::metadata(&base.path).unwrap().modified().unwrap(),
            before
        );
        let seen = Command::new("blkid")
            .arg("-p")
            .arg(&base.path)
            .run()
            .await
            .unwrap();
        let seen = String::from_utf8(seen.stdout).unwrap();
        assert!(seen.contains(&format!("LABEL=\"{label}\"")), "{seen}");
        assert!(seen.contains(&format!("TYPE=\"{kind}\"")), "{seen}");
    }
    let ext4 = dir
        .path()
        .join("formatted")
        .join(format!("ext4-ephemeral0-{}.raw", 1 << 30));
    Command::new("e2fsck")
        .arg("-fn")
        .arg(ext4)
        .run()
        .await
        .unwrap();
    assert_eq!(
        std::fs::read_dir(dir.path().join("formatted"))
            .unwrap()
            .count(),
        2
    );
    for label in ["", "../x", "a/b", "seventeen-letters", "-n\0"] {
        let e = images
            .formatted(Filesystem::Ext4, label, Bytes(1 << 30))
            .await
            .unwrap_err();
        assert!(matches!(e, ImageError::Impossible { .. }), "{e}");
    }
}
