//! The journal: what happened, numbered, stored, told again from any place in it, then live.
//!
//! ```text
//!   hypervisor ── queue ──▶ Scribe ── one transaction a batch ──▶ store ── committed ──▶ Reading, one a watcher
//!   operations, instances ── in the transaction of their own change ──▶ ▲
//! ```
//!
//! Only what is committed is told, in the order of the commits, so that a crash takes back nothing that anyone has seen.
//! A watcher is a number: it reads on from there, in pieces, out of memory or the store, whenever it comes around. One that
//! does not come costs nothing; one that comes too late is told that its place is gone.

mod news;
mod reading;
mod scribe;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    error::{Classify, Kind},
    model::Event,
    store::{Bounds, Store, StoreError},
};

pub use reading::{Filter, Reading};
pub use scribe::Scribe;

/// Written down within milliseconds. What takes longer than this is a database that fails; whoever waits meets that
/// himself in a moment.
const FLUSH: Duration = Duration::from_secs(5);
/// Operations that tell something at the same time; more wait their turn.
const ASKS: usize = 256;

/// Why the journal cannot be read from there.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// What came after it is no longer kept.
    #[error("event {after} is older than what is kept; the oldest kept is {}", kept.oldest)]
    Expired {
        /// The cursor.
        after: u64,
        /// What is kept.
        kept: Bounds,
    },
    /// There is no such event yet: the journal has begun anew.
    #[error("event {after} is newer than the newest, {}: the journal has begun anew", kept.newest)]
    Beyond {
        /// The cursor.
        after: u64,
        /// What is kept.
        kept: Bounds,
    },
    /// The cursor counts in another journal.
    #[error("the cursor is of journal {named}, this one is {id}: it has begun anew")]
    Other {
        /// What the cursor says.
        named: Uuid,
        /// The journal's own id.
        id: Uuid,
    },
    /// The store failed.
    #[error("the journal cannot be read")]
    Store(#[from] StoreError),
}

impl Classify for JournalError {
    fn kind(&self) -> Kind {
        match self {
            Self::Expired { .. } | Self::Beyond { .. } | Self::Other { .. } => Kind::OutOfRange,
            Self::Store(e) => e.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } | Self::Beyond { .. } | Self::Other { .. } => "EVENTS_EXPIRED",
            Self::Store(e) => e.reason(),
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Expired { after, kept } | Self::Beyond { after, kept } => vec![
                ("after", after.to_string()),
                ("oldest", kept.oldest.to_string()),
                ("newest", kept.newest.to_string()),
            ],
            Self::Other { named, id } => {
                vec![("after", named.to_string()), ("journal_id", id.to_string())]
            }
            Self::Store(_) => Vec::new(),
        }
    }
}

/// What is asked of the scribe.
#[derive(Debug)]
enum Ask {
    /// To write this down, after all that the hypervisor has told before.
    Tell(Event),
    /// To say when all that was told before is written down.
    Flush(oneshot::Sender<()>),
}

/// A handle on the journal; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
    asks_tx: mpsc::Sender<Ask>,
}

impl Journal {
    /// The journal in `store`, and what the scribe is to be made of. Nothing heard is written down before it runs.
    pub fn new(store: Store) -> (Self, Inkwell) {
        let (asks_tx, asks_rx) = mpsc::channel(ASKS);
        (Self { store, asks_tx }, Inkwell(asks_rx))
    }

    /// Writes down something that this server did, after all that the hypervisor has told before. Returns before it is on
    /// disk.
    pub async fn tell(&self, event: Event) {
        // Without a scribe, as in the last moment of a server, there is nobody to tell either.
        let _ = self.asks_tx.send(Ask::Tell(event)).await;
    }

    /// Waits until all that was told and heard so far is written down.
    pub async fn flush(&self) {
        let (done_tx, done_rx) = oneshot::channel();
        let flushed = async {
            if self.asks_tx.send(Ask::Flush(done_tx)).await.is_ok() {
                let _ = done_rx.await;
            }
        };
        if tokio::time::timeout(FLUSH, flushed).await.is_err() {
            tracing::warn!("the journal is late");
        }
    }

    /// The journal's own id: another one means that the numbers have begun anew.
    pub fn id(&self) -> Uuid {
        self.store.journal_id()
    }

    /// The number of the newest event.
    pub fn newest(&self) -> u64 {
        self.store.event_bounds().newest
    }

    /// Reads on from `after`, in the journal `named` if that is said.
    ///
    /// # Errors
    /// When what comes after it is not, or no longer, here.
    pub fn read(
        &self,
        after: u64,
        named: Option<Uuid>,
        filter: Filter,
    ) -> Result<Reading, JournalError> {
        let id = self.id();
        if let Some(named) = named.filter(|named| *named != id) {
            return Err(JournalError::Other { named, id });
        }
        let kept = self.store.event_bounds();
        if after > kept.newest {
            return Err(JournalError::Beyond { after, kept });
        }
        if after + 1 < kept.oldest {
            return Err(JournalError::Expired { after, kept });
        }
        Ok(Reading::new(self.store.clone(), after, filter))
    }
}

/// What a [`Scribe`] is made of.
#[derive(Debug)]
pub struct Inkwell(mpsc::Receiver<Ask>);
