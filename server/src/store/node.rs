//! The host itself: kept in memory, written through.

use std::sync::Arc;

use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Result, Store};
use crate::model::{NodeId, NodeRecord};

/// What is kept of the host.
#[derive(Debug)]
pub(super) struct Shelf {
    record: RwLock<Arc<NodeRecord>>,
}

impl Shelf {
    /// Reads it; the first time, makes the host's identity.
    pub(super) fn open(connection: &Connection) -> Result<Self> {
        let query = "SELECT record FROM node";
        let found = connection.query_row(query, [], |row| row.get::<_, String>(0));
        let record = match found.optional()? {
            Some(record) => serde_json::from_str(&record)?,
            None => {
                let record = NodeRecord::new(NodeId::random());
                connection.execute(
                    "INSERT INTO node (record, inventory, generation) VALUES (?1, '', 0)",
                    [serde_json::to_string(&record)?],
                )?;
                record
            }
        };
        Ok(Self {
            record: RwLock::new(Arc::new(record)),
        })
    }
}

impl Store {
    /// The host itself.
    pub fn node(&self) -> Arc<NodeRecord> {
        self.node.record.read().clone()
    }

    /// The number of this inventory: it grows whenever the inventory is another than before.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn inventory_generation(&self, inventory: String) -> Result<u64> {
        self.write(move |transaction| {
            let query = "SELECT inventory, generation FROM node";
            let (known, generation) = transaction.query_row(query, [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))
            })?;
            if known == inventory {
                return Ok(generation);
            }
            transaction.execute(
                "UPDATE node SET inventory = ?1, generation = ?2",
                params![inventory, generation + 1],
            )?;
            Ok(generation + 1)
        })
        .await
    }
}
