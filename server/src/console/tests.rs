use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::MetadataExt,
    pin::Pin,
    time::Duration,
};

use futures::StreamExt;
use tempfile::TempDir;

use super::*;
use crate::model::Bytes as Size;

/// Far longer than anything here takes; only a failing test meets it.
const LIMIT: Duration = Duration::from_secs(20);

struct Fixture {
    folder: TempDir,
    watcher: Watcher,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, ConsoleError>> + Send>>;

impl Fixture {
    fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
            watcher: Watcher::start().expect("inotify"),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("console.log")
    }

    fn log(&self) -> ConsoleLog {
        ConsoleLog::new(self.path())
    }

    /// A writer as QEMU opens it.
    fn writer(&self) -> File {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(self.path());
        file.expect("a file")
    }

    fn follow(&self, from: u64, until: Until) -> Chunks {
        Box::pin(self.log().follow(&self.watcher, from, until))
    }

    fn watches(&self) -> usize {
        self.watcher.watches()
    }
}

async fn next(chunks: &mut Chunks) -> Option<Chunk> {
    let next = tokio::time::timeout(LIMIT, chunks.next());
    let item = next.await.expect("something happens");
    item.map(|chunk| chunk.expect("the log can be read"))
}

/// Chunks until `len` bytes came, as one; chunks join where they should.
async fn gather(chunks: &mut Chunks, len: usize) -> Chunk {
    let first = next(chunks).await.expect("a chunk");
    let mut bytes = first.bytes.to_vec();
    while bytes.len() < len {
        let more = next(chunks).await.expect("a chunk");
        let joined = first.offset + bytes.len() as u64;
        assert_eq!((more.offset, more.truncated), (joined, false));
        bytes.extend(&more.bytes);
    }
    Chunk {
        bytes: bytes.into(),
        ..first
    }
}

fn chunk(offset: u64, bytes: &[u8], truncated: bool) -> Chunk {
    Chunk {
        offset,
        bytes: Bytes::copy_from_slice(bytes),
        truncated,
    }
}

#[tokio::test]
async fn a_log_is_followed_from_before_it_exists_until_it_is_removed() {
    let fixture = Fixture::new();
    let mut chunks = fixture.follow(0, Until::Removed);
    assert!(futures::poll!(chunks.next()).is_pending());
    fs::write(fixture.folder.path().join("other"), "x").expect("room");
    let mut writer = fixture.writer();
    writer.write_all(b"first\xff\0").expect("room");
    assert_eq!(
        gather(&mut chunks, 7).await,
        chunk(0, b"first\xff\0", false)
    );
    writer.write_all(b"second").expect("room");
    assert_eq!(gather(&mut chunks, 6).await, chunk(7, b"second", false));
    writer.write_all(b"last").expect("room");
    fs::remove_file(fixture.path()).expect("it is there");
    assert_eq!(gather(&mut chunks, 4).await, chunk(13, b"last", false));
    assert_eq!(next(&mut chunks).await, None);
}

#[tokio::test]
async fn a_reader_that_need_not_stay_leaves_at_the_end() {
    let fixture = Fixture::new();
    assert_eq!(next(&mut fixture.follow(0, Until::End)).await, None);
    fixture.writer().write_all(b"0123456789").expect("room");
    let mut chunks = fixture.follow(4, Until::End);
    assert_eq!(next(&mut chunks).await, Some(chunk(4, b"456789", false)));
    assert_eq!(next(&mut chunks).await, None);
}

#[tokio::test]
async fn a_folder_that_goes_away_ends_the_wait_for_its_log() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path().join("instance");
    fs::create_dir(&folder).expect("room");
    let log = ConsoleLog::new(folder.join("console.log"));
    let mut chunks: Chunks = Box::pin(log.follow(&fixture.watcher, 0, Until::Removed));
    assert!(futures::poll!(chunks.next()).is_pending());
    fs::remove_dir(&folder).expect("it is empty");
    assert_eq!(next(&mut chunks).await, None);
    let mut late: Chunks = Box::pin(log.follow(&fixture.watcher, 0, Until::Removed));
    assert_eq!(next(&mut late).await, None);
}

#[tokio::test]
async fn a_log_that_begins_anew_is_told_as_cut() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    writer.write_all(b"before the cut").expect("room");
    let mut chunks = fixture.follow(0, Until::Removed);
    gather(&mut chunks, 14).await;
    writer.set_len(0).expect("it is ours");
    writer.write_all(b"anew").expect("room");
    assert_eq!(gather(&mut chunks, 4).await, chunk(0, b"anew", true));
    fs::rename(fixture.path(), fixture.folder.path().join("console.log.0")).expect("room");
    fixture.writer().write_all(b"other file").expect("room");
    assert_eq!(gather(&mut chunks, 10).await, chunk(0, b"other file", true));
}

#[tokio::test]
async fn an_offset_beyond_the_end_starts_again() {
    let fixture = Fixture::new();
    fixture.writer().write_all(b"short").expect("room");
    let mut chunks = fixture.follow(1000, Until::End);
    assert_eq!(next(&mut chunks).await, Some(chunk(0, b"short", true)));
}

#[tokio::test]
async fn the_tail_is_the_end_and_knows_where_it_begins() {
    let fixture = Fixture::new();
    assert_eq!(fixture.log().tail(10).await.expect("readable"), None);
    assert_eq!(fixture.log().end().await.expect("readable"), None);
    fixture.writer().write_all(b"0123456789").expect("room");
    let tail = |offset, bytes| {
        Some(Tail {
            offset,
            bytes: Bytes::from_static(bytes),
        })
    };
    assert_eq!(
        fixture.log().tail(3).await.expect("readable"),
        tail(7, b"789")
    );
    assert_eq!(
        fixture.log().tail(99).await.expect("readable"),
        tail(0, b"0123456789")
    );
    assert_eq!(fixture.log().end().await.expect("readable"), Some(10));
}

#[tokio::test]
async fn a_bounded_log_keeps_its_end_its_offsets_and_its_writer() {
    const MAX: u64 = 1 << 20;
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let line = |n: usize| format!("{n:015}\n").into_bytes();
    let all: Vec<u8> = (0..200_000).flat_map(line).collect();
    let mut slow = fixture.follow(0, Until::Removed);
    writer.write_all(&all[..1000]).expect("room");
    gather(&mut slow, 1000).await;
    for piece in all[1000..].chunks(300_000) {
        writer.write_all(piece).expect("room");
        bound(&fixture.path(), Size(MAX)).expect("holes can be made");
        writer.sync_all().expect("a disk");
        let held = writer.metadata().expect("readable").blocks() * 512;
        assert!(held <= MAX + BLOCKS_SLACK, "{held} bytes held");
    }
    assert_eq!(
        fixture.log().end().await.expect("readable"),
        Some(all.len() as u64)
    );
    let cut = next(&mut slow).await.expect("a chunk");
    let offset = usize::try_from(cut.offset).expect("small");
    assert!(cut.truncated && offset > 1_000_000, "{offset}");
    assert_eq!(cut.bytes, all[offset..offset + cut.bytes.len()]);
    let rest = gather(&mut slow, all.len() - offset - cut.bytes.len()).await;
    assert!(!rest.truncated && all.ends_with(&rest.bytes));
    let tail = fixture
        .log()
        .tail(u64::MAX)
        .await
        .expect("readable")
        .expect("a log");
    assert_eq!(
        (tail.offset, tail.bytes.len()),
        (cut.offset, all.len() - offset)
    );
}

/// What a file system may hold beyond a file's data: its own tables, and room for what comes next.
const BLOCKS_SLACK: u64 = 256 << 10;

#[test]
fn a_log_within_its_bound_or_absent_is_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("console.log");
    assert_eq!(bound(&path, Size(10)).expect("absent is fine"), Size(0));
    fs::write(&path, vec![b'x'; 100_000]).expect("room");
    assert_eq!(bound(&path, Size(100_000)).expect("readable"), Size(0));
    assert_eq!(fs::read(&path).expect("readable"), vec![b'x'; 100_000]);
}

#[tokio::test]
async fn many_readers_share_one_watch_and_leave_none_behind() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let mut readers: Vec<Chunks> = (0..300)
        .map(|_| fixture.follow(0, Until::Removed))
        .collect();
    writer.write_all(b"one").expect("room");
    for reader in &mut readers {
        gather(reader, 3).await;
        assert!(futures::poll!(reader.next()).is_pending());
    }
    assert_eq!(fixture.watches(), 1);
    writer.write_all(b"two").expect("room");
    for reader in &mut readers {
        assert_eq!(gather(reader, 3).await, chunk(3, b"two", false));
    }
    drop(readers);
    assert_eq!(fixture.watches(), 0);
}

#[tokio::test]
async fn chunks_are_bounded_however_far_a_reader_lags() {
    let fixture = Fixture::new();
    fixture
        .writer()
        .write_all(&vec![b'x'; 1 << 20])
        .expect("room");
    let chunks = fixture.follow(0, Until::End);
    let sizes: Vec<usize> = chunks
        .map(|c| c.expect("readable").bytes.len())
        .collect()
        .await;
    assert_eq!(sizes, [64 << 10; 16]);
}
