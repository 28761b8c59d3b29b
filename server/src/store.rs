//! The embedded database: instances, operations, the steps they have begun, request ids.
//!
//! SQLite in one file of the state directory, mode 0600, with full synchronisation: what was written is there after
//! `kill -9` and after a power cut. All SQL of the project is in this room. Writes run on the blocking pool, one at a
//! time; instances are also kept in memory, so that reading one costs no I/O. No secret is ever stored: the spec leaves
//! them out, and whether a request repeats another is told by a keyed hash whose key lies beside the database.

mod fingerprint;
mod instances;
mod operations;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;

pub use fingerprint::Fingerprinter;
pub use operations::{BegunStep, OperationFilter};

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
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            instances: Arc::new(RwLock::new(instances)),
            fingerprinter,
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
        let connection = self.connection.clone();
        blocking(move || {
            let mut connection = connection.lock();
            let transaction = connection.transaction()?;
            let value = f(&transaction)?;
            transaction.commit()?;
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

async fn blocking<T, F>(f: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(f)
        .await
        .map_err(|_| StoreError::Gone)?
}
