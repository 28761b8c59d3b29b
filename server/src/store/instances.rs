//! Instances: kept in memory, written through.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use rusqlite::{Connection, Transaction, params};

use super::{Result, Store, events, left, quiesced};
use crate::model::{Event, EventKind, InstanceId, InstanceRecord, InstanceState, Wanted};

type Records = BTreeMap<InstanceId, Arc<InstanceRecord>>;

pub(super) fn load(connection: &Connection) -> Result<Records> {
    let mut statement = connection.prepare("SELECT record FROM instances")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|row| {
        let record: InstanceRecord = serde_json::from_str(&row?)?;
        Ok((record.spec.id, Arc::new(record)))
    })
    .collect()
}

pub(super) fn put(transaction: &Transaction<'_>, record: &InstanceRecord) -> Result<()> {
    transaction.execute(
        "INSERT INTO instances (id, record) VALUES (?1, ?2)
         ON CONFLICT (id) DO UPDATE SET record = excluded.record",
        params![record.spec.id.to_string(), serde_json::to_string(record)?],
    )?;
    Ok(())
}

impl Store {
    /// The instance, when this host has it.
    pub fn instance(&self, id: InstanceId) -> Option<Arc<InstanceRecord>> {
        self.instances.read().get(&id).cloned()
    }

    /// All instances, by id.
    pub fn instances(&self) -> Vec<Arc<InstanceRecord>> {
        self.instances.read().values().cloned().collect()
    }

    /// How many instances there are.
    pub fn count(&self) -> usize {
        self.instances.read().len()
    }

    /// At most `limit` instances after `after`, by id.
    pub fn instances_after(
        &self,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Vec<Arc<InstanceRecord>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let instances = self.instances.read();
        let range = instances.range((from, Bound::Unbounded));
        range
            .take(limit)
            .map(|(_, record)| record.clone())
            .collect()
    }

    /// Writes the instance down, in place of what was known of it.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn put_instance(&self, record: InstanceRecord) -> Result<()> {
        let left = left::between(self.instance(record.spec.id).as_deref(), Some(&record));
        let record = Arc::new(record);
        let (written, gone) = (record.clone(), left.clone());
        self.write(move |transaction| {
            left::put(transaction, &gone)?;
            put(transaction, &written)
        })
        .await?;
        self.keep_left(left);
        self.instances.write().insert(record.spec.id, record);
        Ok(())
    }

    /// Writes down that the guest is to stay off, as it switched itself off; nothing while an operation has the instance,
    /// which knows better.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn leave_off(&self, id: InstanceId) -> Result<()> {
        let known = self.instance(id);
        let on = |record: &InstanceRecord| {
            let wanted = matches!(record.wanted, Wanted::Running | Wanted::Paused);
            wanted && record.state == InstanceState::Active
        };
        let Some(known) = known.filter(|known| on(known)) else {
            return Ok(());
        };
        let record = Arc::new(known.wanting(Wanted::Off));
        let written = record.clone();
        let free = self
            .write(move |transaction| {
                let free = events::holder(transaction, id)?.is_none();
                if free {
                    put(transaction, &written)?;
                }
                Ok(free)
            })
            .await?;
        if free && let Some(kept) = self.instances.write().get_mut(&id) {
            // What an operation has written since is newer.
            if Arc::ptr_eq(kept, &known) {
                *kept = record;
            }
        }
        Ok(())
    }

    /// Forgets the instance; success when it is not there.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn remove_instance(&self, id: InstanceId) -> Result<()> {
        let left = left::between(self.instance(id).as_deref(), None);
        let gone = left.clone();
        // One that is undone was never told to be there.
        let told = self
            .instance(id)
            .is_some_and(|record| record.state == InstanceState::Deleting);
        self.write_events(move |transaction, pen| {
            transaction.execute("DELETE FROM instances WHERE id = ?1", [id.to_string()])?;
            events::forget(transaction, id)?;
            quiesced::remove(transaction, id)?;
            left::put(transaction, &gone)?;
            if told {
                let mut event = Event::of(id, EventKind::Destroyed);
                event.operation = events::holder(transaction, id)?;
                pen.write(event)?;
            }
            Ok(())
        })
        .await?;
        self.keep_left(left);
        self.instances.write().remove(&id);
        self.forget_quiesced(id);
        Ok(())
    }
}
