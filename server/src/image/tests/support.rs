//! A web server whose every byte a test decides, and what else the tests share.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    image::{FetchLimits, ImageSettings, Images},
    model::{Bytes, DiskFormat, ImageFile, ImageSource},
    sys::command::Command,
};

/// What a server says to one request.
#[derive(Clone)]
pub(super) enum Reply {
    /// These bytes, then the end.
    Close(Vec<u8>),
    /// These bytes, then silence.
    Stall(Vec<u8>),
}

pub(super) struct Server {
    pub(super) url: String,
    hits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers each request, given its head, with what `reply` says.
    pub(super) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/image", listener.local_addr().unwrap());
        let (hits, reply) = (Arc::new(AtomicUsize::new(0)), Arc::new(reply));
        let counter = hits.clone();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 16 << 10];
                let n = stream.read(&mut head).await.unwrap_or(0);
                counter.fetch_add(1, Ordering::SeqCst);
                match reply(&String::from_utf8_lossy(&head[..n])) {
                    Reply::Close(bytes) => {
                        // A client that has seen enough hangs up.
                        let _ = stream.write_all(&bytes).await;
                        let _ = stream.shutdown().await;
                    }
                    Reply::Stall(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                        held.push(stream);
                    }
                }
            }
        });
        Self { url, hits, task }
    }

    /// Answers every request with `body`.
    pub(super) async fn of(body: Vec<u8>) -> Self {
        Self::start(move |_| Reply::Close(ok(&body))).await
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn head(status: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

pub(super) fn ok(body: &[u8]) -> Vec<u8> {
    announcing(body.len(), body)
}

/// An answer that announces `length` bytes and brings `body`.
pub(super) fn announcing(length: usize, body: &[u8]) -> Vec<u8> {
    let mut answer = head("200 OK", &format!("Content-Length: {length}\r\n"));
    answer.extend(body);
    answer
}

pub(super) fn source(url: &str, format: DiskFormat, sha256: Option<[u8; 32]>) -> ImageSource {
    let file = ImageFile {
        id: "image-1".to_owned(),
        location: url.to_owned(),
        sha256,
    };
    ImageSource { file, format }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn settings(folder: &Path) -> ImageSettings {
    ImageSettings {
        folder: folder.to_owned(),
        force_raw: false,
        unused_for: Duration::from_secs(3600),
        limits: FetchLimits {
            idle: Duration::from_millis(300),
            max_size: Bytes(64 << 20),
            ..FetchLimits::default()
        },
    }
}

/// A cache in a folder of its own.
pub(super) fn cache() -> (TempDir, Images) {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(settings(dir.path())).unwrap();
    (dir, images)
}

/// What lies in the cache's folder, the folder for empty file systems apart.
pub(super) fn left_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "formatted").collect();
    names.sort();
    names
}

/// What `qemu-img` writes for these words, `@` being a folder that is gone afterwards.
pub(super) async fn made_by_qemu(words: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for words in words {
        let words = words.replace('@', &format!("{}/", dir.path().display()));
        Command::new("qemu-img")
            .args(words.split(' '))
            .run()
            .await
            .unwrap();
    }
    std::fs::read(dir.path().join("x")).unwrap()
}

/// A good image with some content of its own.
pub(super) async fn good(format: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let raw: Vec<u8> = (0..1u32 << 19).flat_map(u32::to_le_bytes).collect();
    std::fs::write(dir.path().join("raw"), raw).unwrap();
    let words = ["convert", "-f", "raw", "-O"];
    let format = format.split(' ');
    let (from, to) = (dir.path().join("raw"), dir.path().join("x"));
    Command::new("qemu-img")
        .args(words)
        .args(format)
        .args([from, to.clone()])
        .run()
        .await
        .unwrap();
    std::fs::read(to).unwrap()
}
