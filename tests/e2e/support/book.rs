//! What a server writes down before it does it, read from outside while it works, so that a test cuts it at that word and not
//! near it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{LIMIT, Sandbox};

/// Much less than a step takes.
const LOOK: Duration = Duration::from_micros(100);

/// A server's book, open at a word. While it is held the server writes nothing more: what it does is not settled.
#[derive(Debug)]
pub struct Book {
    db: Connection,
}

/// Somebody who waits for a word, until it is dropped.
#[derive(Debug)]
pub struct Reader {
    tired: Arc<AtomicBool>,
    task: JoinHandle<Option<Book>>,
}

impl Reader {
    /// Begins to wait until the step of that name is written down; then, if it is to be held, keeps the book.
    pub fn of(sandbox: &Sandbox, step: &'static str, held: bool) -> Self {
        let path = sandbox.path().join("state.db");
        let tired = Arc::new(AtomicBool::new(false));
        let stop = tired.clone();
        let task = spawn_blocking(move || {
            let book = Book::open(&path);
            while !book.has(step) {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                std::thread::park_timeout(LOOK);
            }
            if held {
                book.db.execute_batch("BEGIN IMMEDIATE").expect("the book");
            }
            Some(book)
        });
        Self { tired, task }
    }

    /// The book, open at that word.
    pub async fn word(&mut self) -> Book {
        let read = (&mut self.task).await;
        read.expect("it reads").expect("it is not dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tired.store(true, Ordering::Relaxed);
    }
}

impl Book {
    fn open(path: &Path) -> Self {
        let db = Connection::open(path).expect("the server's book");
        db.busy_timeout(LIMIT).expect("a limit");
        Self { db }
    }

    /// Whether a step of that name is written down, and not struck.
    pub fn has(&self, step: &str) -> bool {
        let sql = "SELECT 1 FROM steps WHERE name = ?1";
        let mut known = self.db.prepare_cached(sql).expect("a table of steps");
        let found = known.query_row([step], |_| Ok(())).optional();
        found.expect("a row").is_some()
    }
}
