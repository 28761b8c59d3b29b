//! Operations and the steps they have begun.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Result, Store, events::Pen, instances, left, micros};
use crate::model::{
    Event, InstanceId, InstanceRecord, InstanceState, OperationId, OperationRecord, OperationState,
    RequestId,
};

/// A step that was written down and not yet settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunStep {
    /// Its place in the operation, from 0.
    pub number: u32,
    /// The step's name.
    pub name: String,
    /// Its parameters, as JSON.
    pub body: String,
}

/// Which operations to list.
#[derive(Clone, Debug, Default)]
pub struct OperationFilter {
    /// Only those of this instance.
    pub instance: Option<InstanceId>,
    /// Only those after this one, in the order of the listing: newest first.
    pub after: Option<(SystemTime, OperationId)>,
    /// At most so many.
    pub limit: usize,
}

/// Writes the operation down, and tells when it has begun or ended by that.
pub(super) fn put(
    transaction: &Transaction<'_>,
    pen: &mut Pen<'_, '_>,
    record: &OperationRecord,
) -> Result<()> {
    let query = "SELECT ended IS NOT NULL FROM operations WHERE id = ?1";
    let known = transaction.query_row(query, [record.id.to_string()], |row| row.get::<_, bool>(0));
    let news = match known.optional()? {
        None => true,
        Some(ended) => record.ended.is_some() && !ended,
    };
    if news {
        pen.write(Event::of_operation(record))?;
    }
    let state = serde_json::to_value(record.state)?;
    transaction.execute(
        "INSERT INTO operations (id, instance, verb, request, state, begun, ended, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, ended = excluded.ended, record = excluded.record",
        params![
            record.id.to_string(),
            record.instance.map(|id| id.to_string()),
            record.verb.as_str(),
            record.request.map(|id| id.to_string()),
            state.as_str(),
            micros(record.begun),
            record.ended.map(micros),
            serde_json::to_string(record)?,
        ],
    )?;
    Ok(())
}

fn read(json: Option<String>) -> Result<Option<OperationRecord>> {
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}

/// The operation that a request began.
pub(super) fn of_request(
    transaction: &Transaction<'_>,
    id: RequestId,
) -> Result<Option<OperationRecord>> {
    let query = "SELECT record FROM operations WHERE request = ?1";
    let found = transaction.query_row(query, [id.to_string()], |row| row.get(0));
    read(found.optional()?)
}

impl Store {
    /// Writes the operation down, in place of what was known of it.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn put_operation(&self, record: OperationRecord) -> Result<()> {
        self.write_events(move |transaction, pen| put(transaction, pen, &record))
            .await
    }

    /// Ends the operation, settles its steps, and writes the instance as it is from now on: all of it or none. With a good
    /// end, what earlier operations on the instance could not take back is
    /// stale.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn settle(
        &self,
        record: OperationRecord,
        instance: Option<InstanceRecord>,
    ) -> Result<()> {
        let written = instance.clone();
        let left = written.as_ref().map(|now| {
            let before = self.instance(now.spec.id);
            left::between(before.as_deref(), Some(now))
        });
        let left = left.unwrap_or_default();
        let gone = left.clone();
        let built = |known: &InstanceRecord| known.state == InstanceState::Building;
        let created = record
            .instance
            .and_then(|id| self.instance(id))
            .is_some_and(|known| built(&known));
        self.write_events(move |transaction, pen| {
            if let Some(instance) = written.as_ref().filter(|_| created) {
                pen.write(Event::created(instance))?;
            }
            put(transaction, pen, &record)?;
            left::put(transaction, &gone)?;
            let changed = record.instance.filter(|_| record.state == OperationState::Succeeded);
            transaction.execute(
                "DELETE FROM steps WHERE operation = ?1",
                [record.id.to_string()],
            )?;
            transaction.execute(
                "UPDATE steps SET stale = 1 WHERE (SELECT instance FROM operations WHERE id = operation) = ?1",
                [changed.map(|id| id.to_string())],
            )?;
            written
                .iter()
                .try_for_each(|instance| instances::put(transaction, instance))
        })
        .await?;
        self.keep_left(left);
        if let Some(instance) = instance {
            self.instances
                .write()
                .insert(instance.spec.id, instance.into());
        }
        Ok(())
    }

    /// The operation, when it is still kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operation(&self, id: OperationId) -> Result<Option<OperationRecord>> {
        self.write(move |transaction| {
            let query = "SELECT record FROM operations WHERE id = ?1";
            read(
                transaction
                    .query_row(query, [id.to_string()], |row| row.get(0))
                    .optional()?,
            )
        })
        .await
    }

    /// The operation that a request began, when it is still kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operation_of_request(&self, id: RequestId) -> Result<Option<OperationRecord>> {
        self.write(move |transaction| of_request(transaction, id))
            .await
    }

    /// Operations, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operations(&self, filter: OperationFilter) -> Result<Vec<OperationRecord>> {
        self.write(move |transaction| {
            let (after, after_id) = filter
                .after
                .map_or((i64::MAX, String::new()), |(time, id)| {
                    (micros(time), id.to_string())
                });
            let mut statement = transaction.prepare(
                "SELECT record FROM operations
                 WHERE (begun, id) < (?1, ?2) AND (?3 IS NULL OR instance = ?3)
                 ORDER BY begun DESC, id DESC LIMIT ?4",
            )?;
            let instance = filter.instance.map(|id| id.to_string());
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![after, after_id, instance, limit], |row| {
                row.get::<_, String>(0)
            })?;
            rows.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
        })
        .await
    }

    /// Writes a step down; it may be applied once this has returned.
    ///
    /// # Errors
    /// When the database fails; then the step must not be applied.
    pub async fn begin_step(&self, operation: OperationId, step: BegunStep) -> Result<()> {
        self.write(move |transaction| {
            transaction.execute(
                "INSERT INTO steps (operation, number, name, body) VALUES (?1, ?2, ?3, ?4)",
                params![operation.to_string(), step.number, step.name, step.body],
            )?;
            Ok(())
        })
        .await
    }

    /// Strikes a step that was taken back.
    ///
    /// # Errors
    /// When the database fails; then the step is taken back once more at the next start.
    pub async fn end_step(&self, operation: OperationId, number: u32) -> Result<()> {
        self.write(move |transaction| {
            transaction.execute(
                "DELETE FROM steps WHERE operation = ?1 AND number = ?2",
                params![operation.to_string(), number],
            )?;
            Ok(())
        })
        .await
    }

    /// The steps that an operation has begun and not settled, in the order they were begun, as long as they are not stale.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn steps(&self, operation: OperationId) -> Result<Vec<BegunStep>> {
        self.write(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT number, name, body FROM steps WHERE operation = ?1 AND NOT stale ORDER BY number",
            )?;
            let rows = statement.query_map([operation.to_string()], |row| {
                Ok(BegunStep {
                    number: row.get(0)?,
                    name: row.get(1)?,
                    body: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Strikes the steps of every operation on this instance: what an undo left behind, and a destroy has taken away.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn strike_steps(&self, instance: InstanceId) -> Result<()> {
        self.write(move |transaction| {
            transaction.execute(
                "DELETE FROM steps WHERE operation IN (SELECT id FROM operations WHERE instance = ?1)",
                [instance.to_string()],
            )?;
            Ok(())
        })
        .await
    }

    /// The ended operations on this instance that still have steps to take back, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owed(&self, instance: InstanceId) -> Result<Vec<OperationRecord>> {
        self.write(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT record FROM operations
                 WHERE id IN (SELECT operation FROM steps WHERE NOT stale) AND instance = ?1 AND ended IS NOT NULL
                 ORDER BY begun DESC, id DESC",
            )?;
            let instance = [instance.to_string()];
            let rows = statement.query_map(instance, |row| row.get::<_, String>(0))?;
            rows.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
        })
        .await
    }

    /// The operations that an earlier life did not end, and the ended ones that still have steps to take back; newest first,
    /// as they are to be taken back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unsettled(&self) -> Result<Vec<OperationRecord>> {
        self.write(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT record FROM operations
                 WHERE state IN ('RUNNING', 'UNWINDING') OR id IN (SELECT operation FROM steps WHERE NOT stale)
                 ORDER BY begun DESC, id DESC",
            )?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
        })
        .await
    }

    /// The instances of which steps are written down, stale or not, or an operation has not ended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn half_changed(&self) -> Result<HashSet<InstanceId>> {
        self.write(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT record FROM operations
                 WHERE state IN ('RUNNING', 'UNWINDING') OR id IN (SELECT operation FROM steps)",
            )?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            let mut found = HashSet::new();
            for row in rows {
                let record: OperationRecord = serde_json::from_str(&row?)?;
                found.extend(record.instance);
            }
            Ok(found)
        })
        .await
    }

    /// Forgets operations that ended longer than `age` ago and owe nothing. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_operations(&self, age: Duration) -> Result<usize> {
        let before = SystemTime::now().checked_sub(age).map_or(0, micros);
        self.write(move |transaction| {
            Ok(transaction.execute(
                "DELETE FROM operations WHERE ended < ?1 AND id NOT IN (SELECT operation FROM steps)",
                [before],
            )?)
        })
        .await
    }
}
