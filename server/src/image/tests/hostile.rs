use std::time::Duration;

use super::support::{
    Reply, Server, announcing, cache, good, head, left_in, made_by_qemu, ok, settings, sha256,
    source,
};
use crate::{
    error::{Classify, Kind},
    image::{ImageError, Images},
    model::{Bytes, DiskFormat},
};

/// Asks for an image of which `reply` is all that comes; nothing may be left of it.
async fn refusal(reply: Reply, format: DiskFormat, sha256: Option<[u8; 32]>) -> ImageError {
    let (dir, images) = cache();
    let server = Server::start(move |_| reply.clone()).await;
    let asked = source(&server.url, format, sha256);
    let e = images.ensure(&asked, |_| {}).await.unwrap_err();
    assert_eq!(left_in(dir.path()), Vec::<String>::new(), "{e}");
    assert!(
        !crate::error::chain(&e).contains(dir.path().to_str().unwrap()),
        "{e}"
    );
    e
}

fn field(e: &ImageError, name: &str) -> String {
    let field = e.fields().into_iter().find(|(field, _)| *field == name);
    field
        .unwrap_or_else(|| panic!("{e:?} has no field {name}"))
        .1
}

#[tokio::test]
async fn images_that_are_not_what_they_should_be_are_refused_and_leave_nothing() {
    let qcow2 = good("qcow2").await;
    let mut corrupt = good("vmdk -o subformat=streamOptimized").await;
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 4096].fill(0x55);
    let backed = made_by_qemu(&["create -q -f qcow2 -F raw -b /etc/passwd @x 1M"]).await;
    let elsewhere = made_by_qemu(&["create -q -f qcow2 -o data_file=@data @x 1M"]).await;
    let mut extent = made_by_qemu(&["create -q -f vmdk @x 1M"]).await;
    let at = extent.windows(3).position(|word| word == b"\"x\"").unwrap();
    extent.splice(at..at + 13, *b"\"/etc/passwd\"");
    let flat = made_by_qemu(&["create -q -f vmdk -o subformat=monolithicFlat @x 1M"]).await;
    for (what, body, format, fault) in [
        ("backing file", &backed, DiskFormat::Qcow2, "backing_file"),
        ("data file", &elsewhere, DiskFormat::Qcow2, "data_file"),
        ("extent path", &extent, DiskFormat::Vmdk, "malformed"),
        ("extents elsewhere", &flat, DiskFormat::Vmdk, "format"),
        ("raw that is qcow2", &qcow2, DiskFormat::Raw, "format"),
        (
            "qcow2 that is raw",
            &vec![7; 4096],
            DiskFormat::Qcow2,
            "format",
        ),
        (
            "truncated",
            &qcow2[..qcow2.len() / 2].to_vec(),
            DiskFormat::Qcow2,
            "truncated",
        ),
        ("empty", &vec![], DiskFormat::Raw, "empty"),
        ("rubbish inside", &corrupt, DiskFormat::Vmdk, "conversion"),
    ] {
        // Its hash is right, so what refuses it is what is in it.
        let e = refusal(Reply::Close(ok(body)), format, Some(sha256(body))).await;
        let told = (e.kind(), e.reason(), &*field(&e, "fault"));
        assert_eq!(
            told,
            (Kind::Precondition, "IMAGE_UNACCEPTABLE", fault),
            "{what}: {e}"
        );
    }
}

#[tokio::test]
async fn bytes_with_another_hash_are_refused() {
    let body = good("qcow2").await;
    let e = refusal(Reply::Close(ok(&body)), DiskFormat::Qcow2, Some([7; 32])).await;
    assert_eq!(e.reason(), "IMAGE_CHECKSUM_MISMATCH");
    assert_eq!(field(&e, "expected"), "07".repeat(32));
    assert_eq!(field(&e, "actual"), hex::encode(sha256(&body)));
}

#[tokio::test]
async fn a_body_longer_than_announced_is_refused() {
    let body = good("qcow2").await;
    let longer = || Reply::Close(announcing(body.len() / 2, &body));
    let e = refusal(longer(), DiskFormat::Qcow2, Some(sha256(&body))).await;
    assert_eq!(e.reason(), "IMAGE_CHECKSUM_MISMATCH", "{e}");
    // Without a hash it is what is missing that tells.
    let e = refusal(longer(), DiskFormat::Qcow2, None).await;
    assert_eq!(
        (e.reason(), &*field(&e, "fault")),
        ("IMAGE_UNACCEPTABLE", "truncated"),
        "{e}"
    );
}

#[tokio::test]
async fn servers_that_do_not_deliver_are_told_apart_from_images_that_are_not_there() {
    let body = vec![7; 100_000];
    let chunk_lies = [
        head("200 OK", "Transfer-Encoding: chunked\r\n"),
        b"10\r\nlonger than sixteen bytes".to_vec(),
    ]
    .concat();
    let packed = head("200 OK", "Content-Encoding: gzip\r\nContent-Length: 0\r\n");
    let moved = head("302 Found", "Location: /image\r\nContent-Length: 0\r\n");
    for (what, reply, told) in [
        ("silent", Reply::Stall(vec![]), "stalled"),
        (
            "stalling",
            Reply::Stall(announcing(body.len(), &body[..50_000])),
            "stalled",
        ),
        (
            "cut",
            Reply::Close(announcing(body.len(), &body[..50_000])),
            "after 50000 bytes",
        ),
        ("lying", Reply::Close(chunk_lies), "after"),
        ("packing", Reply::Close(packed), "packed"),
        ("circling", Reply::Close(moved), "redirect"),
        (
            "refusing",
            Reply::Close(head("403 Forbidden", "Content-Length: 0\r\n")),
            "403",
        ),
        (
            "no web server",
            Reply::Close(b"SSH-2.0-OpenSSH\r\n".to_vec()),
            "after 0 bytes",
        ),
    ] {
        let e = refusal(reply, DiskFormat::Raw, None).await;
        assert_eq!(
            (e.kind(), e.reason()),
            (Kind::Unavailable, "IMAGE_FETCH_FAILED"),
            "{what}: {e}"
        );
        assert!(e.to_string().contains(told), "{what}: {e}");
        assert!(
            !e.to_string().contains("127.0.0.1"),
            "{what} tells the address: {e}"
        );
    }
    for status in ["404 Not Found", "410 Gone"] {
        let e = refusal(
            Reply::Close(head(status, "Content-Length: 0\r\n")),
            DiskFormat::Raw,
            None,
        )
        .await;
        assert_eq!(
            (e.kind(), e.reason()),
            (Kind::NotFound, "IMAGE_NOT_FOUND"),
            "{e}"
        );
    }
}

#[tokio::test]
async fn a_server_that_trickles_is_left_at_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.limits.idle = Duration::from_secs(60);
    settings.limits.total = Duration::from_millis(200);
    let images = Images::open(settings).unwrap();
    let server = Server::start(|_| Reply::Stall(announcing(100, b"x"))).await;
    let asked = source(&server.url, DiskFormat::Raw, None);
    let e = images.ensure(&asked, |_| {}).await.unwrap_err();
    assert_eq!(e.reason(), "IMAGE_FETCH_FAILED", "{e}");
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_fills_the_disk() {
    let announced = Reply::Stall(announcing(65 << 20, b""));
    let endless = [
        head("200 OK", "Transfer-Encoding: chunked\r\n"),
        format!("{:x}\r\n", 65 << 20).into_bytes(),
        vec![7; 65 << 20],
    ];
    for reply in [announced, Reply::Close(endless.concat())] {
        let e = refusal(reply, DiskFormat::Raw, None).await;
        assert!(matches!(e, ImageError::TooLarge { .. }), "{e}");
        assert_eq!(
            (e.kind(), e.reason()),
            (Kind::Precondition, "IMAGE_UNACCEPTABLE")
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.limits.max_size = Bytes(u64::MAX);
    let images = Images::open(settings).unwrap();
    let server = Server::start(|_| Reply::Stall(announcing(1 << 50, b""))).await;
    let asked = source(&server.url, DiskFormat::Raw, None);
    let e = images.ensure(&asked, |_| {}).await.unwrap_err();
    assert_eq!(
        (e.kind(), e.reason()),
        (Kind::Exhausted, "HOST_DISK_FULL"),
        "{e}"
    );
}

#[tokio::test]
async fn files_outside_the_allowed_folders_are_denied() {
    let (dir, open, closed) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let mut settings = settings(dir.path());
    settings.limits.file_folders = vec![open.path().to_owned()];
    let images = Images::open(settings).unwrap();
    let (open, closed) = (open.path(), closed.path());
    std::fs::write(open.join("good"), b"disk").unwrap();
    std::fs::write(closed.join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(closed.join("secret"), open.join("link")).unwrap();
    std::os::unix::fs::symlink("good", open.join("inner")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, open.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    let ask = async |path: String| {
        let asked = source(&format!("file://{path}"), DiskFormat::Raw, None);
        images
            .ensure(&asked, |_| {})
            .await
            .map(drop)
            .map_err(|e| e.reason())
    };
    let (open, closed) = (open.display(), closed.display());
    assert_eq!(ask(format!("{open}/good")).await, Ok(()));
    assert_eq!(ask(format!("{open}/inner")).await, Ok(()));
    for path in [
        format!("{closed}/secret"),
        format!("{closed}/absent"),
        format!("{open}/link"),
        format!("{open}/../{closed}/secret"),
        format!("{open}/%2e%2e/absent"),
        "/etc/passwd".to_owned(),
        "/".to_owned(),
    ] {
        assert_eq!(ask(path.clone()).await, Err("PERMISSION_DENIED"), "{path}");
    }
    assert_eq!(ask(format!("{open}/absent")).await, Err("IMAGE_NOT_FOUND"));
    assert_eq!(ask(format!("{open}/pipe")).await, Err("INVALID_REQUEST"));
    assert_eq!(ask(format!("{open}")).await, Err("INVALID_REQUEST"));
    assert_eq!(
        ask(format!("host{open}/good")).await,
        Err("INVALID_REQUEST")
    );
    for location in ["", "no address", "ftp://host/x", "data:,x", "/etc/passwd"] {
        let asked = source(location, DiskFormat::Raw, None);
        let e = images.ensure(&asked, |_| {}).await.unwrap_err();
        assert_eq!(
            (e.kind(), e.reason()),
            (Kind::Invalid, "INVALID_REQUEST"),
            "{location:?}"
        );
        assert_eq!(e.details().violations.len(), 1);
    }
}

#[tokio::test]
async fn a_file_taken_as_a_kernel_is_not_thereby_a_disk() {
    let (_dir, images) = cache();
    let backed = made_by_qemu(&["create -q -f qcow2 -F raw -b /etc/passwd @x 1M"]).await;
    let hash = sha256(&backed);
    let server = Server::of(backed).await;
    let asked = source(&server.url, DiskFormat::Qcow2, Some(hash));
    let kernel = images.ensure_file(&asked.file, |_| {}).await.unwrap();
    assert_eq!(kernel.record.source_format, None);
    let e = images.ensure(&asked, |_| {}).await.unwrap_err();
    assert_eq!(field(&e, "fault"), "backing_file");
    let raw = source(&server.url, DiskFormat::Raw, Some(hash));
    let e = images.ensure(&raw, |_| {}).await.unwrap_err();
    assert_eq!(field(&e, "fault"), "format");
}

#[tokio::test]
async fn a_server_that_only_pretends_to_be_secure_is_refused() {
    let (_dir, images) = cache();
    let server = Server::of(vec![7; 512]).await;
    let url = server.url.replace("http:", "https:");
    let asked = source(&url, DiskFormat::Raw, None);
    let e = images.ensure(&asked, |_| {}).await.unwrap_err();
    assert_eq!(e.reason(), "IMAGE_FETCH_FAILED", "{e}");
}
