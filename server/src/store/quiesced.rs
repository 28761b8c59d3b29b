//! Guests whose file systems are frozen, and until when: kept in memory, written through.
//!
//! A table of its own, beside the instances' rows: a thaw at its time holds no instance, and must not write over what an
//! operation writes down of one.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, Transaction, params};
use tokio::sync::watch;

use super::{Result, Store, micros};
use crate::model::InstanceId;

/// A guest that is frozen, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiesced {
    /// When it is thawed.
    pub until: SystemTime,
    /// How many of its file systems are frozen; 0 until that is known.
    pub filesystems: u32,
}

/// All of them.
pub type AllQuiesced = BTreeMap<InstanceId, Quiesced>;

pub(super) fn load(connection: &Connection) -> Result<AllQuiesced> {
    let mut statement = connection.prepare("SELECT instance, until, filesystems FROM quiesced")?;
    let rows = statement.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, u32>(2)?,
        ))
    })?;
    let mut all = AllQuiesced::new();
    for row in rows {
        let (id, until, filesystems) = row?;
        // An id that does not read is none of ours: nothing could be thawed by it.
        if let Ok(id) = id.parse() {
            let until = Duration::from_micros(u64::try_from(until).unwrap_or_default());
            let until = SystemTime::UNIX_EPOCH + until;
            all.insert(id, Quiesced { until, filesystems });
        }
    }
    Ok(all)
}

pub(super) fn remove(transaction: &Transaction<'_>, id: InstanceId) -> Result<()> {
    let delete = "DELETE FROM quiesced WHERE instance = ?1";
    transaction.execute(delete, [id.to_string()])?;
    Ok(())
}

impl Store {
    /// Guests that are frozen, now and from now on.
    pub fn quiesced(&self) -> watch::Receiver<AllQuiesced> {
        self.quiesced.subscribe()
    }

    /// Writes down that a guest is frozen, and until when.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn put_quiesced(&self, id: InstanceId, quiesced: Quiesced) -> Result<()> {
        self.write(move |transaction| {
            transaction.execute(
                "INSERT INTO quiesced (instance, until, filesystems) VALUES (?1, ?2, ?3)
                 ON CONFLICT (instance) DO UPDATE SET until = excluded.until, filesystems = excluded.filesystems",
                params![id.to_string(), micros(quiesced.until), quiesced.filesystems],
            )?;
            Ok(())
        })
        .await?;
        self.quiesced.send_modify(|all| {
            all.insert(id, quiesced);
        });
        Ok(())
    }

    /// Forgets that a guest is frozen; success when that is not known.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn remove_quiesced(&self, id: InstanceId) -> Result<()> {
        if !self.quiesced.borrow().contains_key(&id) {
            return Ok(());
        }
        self.write(move |transaction| remove(transaction, id))
            .await?;
        self.forget_quiesced(id);
        Ok(())
    }

    pub(super) fn forget_quiesced(&self, id: InstanceId) {
        self.quiesced
            .send_if_modified(|all| all.remove(&id).is_some());
    }
}
