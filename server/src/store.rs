//! The embedded database: instances, operations, the steps they have begun, request ids, events.
//!
//! SQLite in one file of the state directory, mode 0600, with full synchronisation: what was written is there after
//! `kill -9` and after a power cut. All SQL of the project is in this room. Writes run on the blocking pool, one at a
//! time; instances are also kept in memory, so that reading one costs no I/O. No secret is ever stored: the spec leaves
//! them out, and whether a request repeats another is told by a keyed hash whose key lies beside the database.

mod events;
mod fingerprint;
mod instances;
mod left;
mod node;
mod operations;
mod quiesced;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use tokio::sync::watch;

pub use events::{Bounds, Subject};
pub use fingerprint::Fingerprinter;
pub use left::LeftFile;
pub use node::Switched;
pub use operations::{BegunStep, OperationFilter};
pub use quiesced::{AllQuiesced, Quiesced};

use crate::{
    error::{Classify, Kind},
    model::{InstanceId, InstanceRecord},
};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or its key cannot be opened.
    #[error("the state database cannot be opened")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was made by a newer computelet.
    #[error("the state database has schema {found}, this computelet knows up to {known}")]
    Newer {
        /// What the file says.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// SQLite failed.
    #[error("the state database failed")]
    Sql(#[from] rusqlite::Error),
    /// A row does not read as what it should be.
    #[error("the state database holds a row that does not read")]
    Row(#[from] serde_json::Error),
    /// The journal's id does not read.
    #[error("the journal's id {0:?} is not a UUID")]
    JournalId(String),
    /// The thread that did it is gone.
    #[error("the state database's thread ended")]
    Gone,
}

impl Classify for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::Sql(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                Kind::Exhausted
            }
            _ => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self.kind() {
            Kind::Exhausted => "HOST_DISK_FULL",
            _ => "INTERNAL",
        }
    }
}

/// What a store call answers.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    instances: Arc<RwLock<BTreeMap<InstanceId, Arc<InstanceRecord>>>>,
    fingerprinter: Fingerprinter,
    log: Arc<events::Log>,
    node: Arc<node::Shelf>,
    quiesced: Arc<watch::Sender<AllQuiesced>>,
    left: Arc<RwLock<left::LeftFiles>>,
}

impl Store {
    /// Opens the database in `dir`, and makes it when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be written, or the database was made by a newer computelet.
    pub async fn open(dir: &Path) -> Result<Self> {
        let dir = dir.to_owned();
        blocking(move || Self::open_now(&dir)).await
    }

    fn open_now(dir: &Path) -> Result<Self> {
        let path = dir.join("state.db");
        private(&path).map_err(|e| StoreError::Open(e.into()))?;
        let connection = Connection::open(&path).map_err(|e| StoreError::Open(e.into()))?;
        schema::prepare(&connection)?;
        let fingerprinter = Fingerprinter::open(&dir.join("fingerprint.key"))
            .map_err(|e| StoreError::Open(e.into()))?;
        let instances = instances::load(&connection)?;
        let log = events::Log::open(&connection, &path)?;
        let node = node::Shelf::open(&connection)?;
        let quiesced = watch::Sender::new(quiesced::load(&connection)?);
        let left = left::load(&connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            instances: Arc::new(RwLock::new(instances)),
            fingerprinter,
            log: Arc::new(log),
            node: Arc::new(node),
            quiesced: Arc::new(quiesced),
            left: Arc::new(RwLock::new(left)),
        })
    }

    /// Hashes requests, to tell a repeat from another request.
    pub fn fingerprinter(&self) -> &Fingerprinter {
        &self.fingerprinter
    }

    /// Runs `f` on the blocking pool, in one transaction.
    async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> Result<T> + Send + 'static,
    {
        self.write_events(move |transaction, _| f(transaction))
            .await
    }

    /// The same, with events: they are told once the transaction is committed, in the order of the commits.
    async fn write_events<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>, &mut events::Pen<'_, '_>) -> Result<T>
            + Send
            + 'static,
    {
        let (connection, log) = (self.connection.clone(), self.log.clone());
        blocking(move || {
            let mut connection = connection.lock();
            // Immediate: one that reads first and then writes would fail at once, not wait, beside another writer.
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let mut pen = events::Pen::new(&transaction);
            let value = f(&transaction, &mut pen)?;
            let entries = pen.entries();
            transaction.commit()?;
            log.publish(entries);
            Ok(value)
        })
        .await
    }
}

/// Creates the file for our eyes only, before SQLite would create it for everyone's.
fn private(path: &PathBuf) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// A time as it is stored.
fn micros(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

async fn blocking<T, F>(f: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(f)
        .await
        .map_err(|_| StoreError::Gone)?
}
