//! Events: numbered in the transaction that writes them, told once it is committed.
//!
//! What an operation's beginning and end, or an instance's, mean to a watcher is written with them in one transaction, so
//! that no crash can part them. The newest are also kept in memory: whoever follows closely costs no I/O. Older ones are
//! read over a connection of their own, so that replays and writes do not wait for each other.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Result, Store, StoreError, blocking, micros};
use crate::{
    metrics::EVENTS,
    model::{Entry, Event, InstanceId, OperationId, PowerState, Standing, Verb},
};

/// Events kept in memory: less than a MB, and more than a busy host makes while a watcher comes around.
const RECENT: usize = 1024;
/// Deleted in one transaction: a few ms, so that no write waits long.
const PRUNED_AT_ONCE: u64 = 4096;

/// What is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest event that is kept; `newest + 1` when none is.
    pub oldest: u64,
    /// The newest event; 0 before the first.
    pub newest: u64,
}

/// The committed events.
#[derive(Debug)]
pub(super) struct Log {
    id: Uuid,
    reader: Mutex<Connection>,
    recent: RwLock<VecDeque<Arc<Entry>>>,
    oldest: RwLock<u64>,
    newest: watch::Sender<u64>,
}

impl Log {
    pub(super) fn open(connection: &Connection, path: &Path) -> Result<Self> {
        connection.execute(
            "INSERT INTO journal (id, newest) SELECT ?1, 0 WHERE NOT EXISTS (SELECT 1 FROM journal)",
            [Uuid::new_v4().to_string()],
        )?;
        let (id, newest): (String, u64) =
            connection.query_row("SELECT id, newest FROM journal", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let oldest: Option<u64> =
            connection.query_row("SELECT min(sequence) FROM events", [], |row| row.get(0))?;
        let reader = Connection::open(path).map_err(|e| StoreError::Open(e.into()))?;
        reader.busy_timeout(Duration::from_secs(5))?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(Self {
            id: id.parse().map_err(|_| StoreError::JournalId(id))?,
            reader: Mutex::new(reader),
            recent: RwLock::default(),
            oldest: RwLock::new(oldest.unwrap_or(newest + 1)),
            newest: watch::Sender::new(newest),
        })
    }

    /// Tells what was committed. Called in the order of the commits.
    pub(super) fn publish(&self, entries: Vec<Entry>) {
        let Some(newest) = entries.last().map(|entry| entry.sequence) else {
            return;
        };
        for entry in &entries {
            EVENTS.of([entry.event.kind.as_str()]).increment();
        }
        let mut recent = self.recent.write();
        recent.extend(entries.into_iter().map(Arc::new));
        let surplus = recent.len().saturating_sub(RECENT);
        recent.drain(..surplus);
        drop(recent);
        self.newest.send_replace(newest);
    }

    /// Those after `after` out of memory; none when they are not all there.
    fn recent(&self, after: u64, limit: usize) -> Option<Vec<Arc<Entry>>> {
        let recent = self.recent.read();
        let first = recent.front()?.sequence;
        let skipped = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        Some(recent.iter().skip(skipped).take(limit).cloned().collect())
    }

    fn stored(&self, after: u64, limit: usize) -> Result<Vec<Arc<Entry>>> {
        let reader = self.reader.lock();
        let mut statement = reader.prepare_cached(
            "SELECT sequence, record FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, limit], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.map(|row| {
            let (sequence, record) = row?;
            let event = serde_json::from_str(&record)?;
            Ok(Arc::new(Entry { sequence, event }))
        })
        .collect()
    }
}

/// The events of one transaction.
pub(super) struct Pen<'a, 'c> {
    transaction: &'a Transaction<'c>,
    entries: Vec<Entry>,
}

impl<'a, 'c> Pen<'a, 'c> {
    pub(super) fn new(transaction: &'a Transaction<'c>) -> Self {
        let entries = Vec::new();
        Self {
            transaction,
            entries,
        }
    }

    /// Writes the event down, under the next number.
    pub(super) fn write(&mut self, event: Event) -> Result<()> {
        let sequence: u64 = self
            .transaction
            .prepare_cached("UPDATE journal SET newest = newest + 1 RETURNING newest")?
            .query_row([], |row| row.get(0))?;
        self.transaction
            .prepare_cached("INSERT INTO events (sequence, time, record) VALUES (?1, ?2, ?3)")?
            .execute(params![
                sequence,
                micros(event.time),
                serde_json::to_string(&event)?
            ])?;
        self.entries.push(Entry { sequence, event });
        Ok(())
    }

    pub(super) fn entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// The operation that holds the instance now.
pub(super) fn holder(
    transaction: &Transaction<'_>,
    instance: InstanceId,
) -> Result<Option<OperationId>> {
    let id: Option<String> = transaction
        .prepare_cached(
            "SELECT id FROM operations WHERE instance = ?1 AND ended IS NULL ORDER BY begun DESC LIMIT 1",
        )?
        .query_row([instance.to_string()], |row| row.get(0))
        .optional()?;
    Ok(id.and_then(|id| id.parse().ok()))
}

/// What is at work on the instance now, and has not failed.
pub(super) fn at_work(transaction: &Transaction<'_>, instance: InstanceId) -> Result<Option<Verb>> {
    let verb: Option<String> = transaction
        .prepare_cached(
            "SELECT verb FROM operations WHERE instance = ?1 AND ended IS NULL AND state = 'RUNNING'
             ORDER BY begun DESC LIMIT 1",
        )?
        .query_row([instance.to_string()], |row| row.get(0))
        .optional()?;
    let mut all = Verb::ALL.iter().copied();
    Ok(verb.and_then(|word| all.find(|verb| verb.as_str() == word)))
}

fn standing(transaction: &Transaction<'_>, instance: InstanceId) -> Result<Standing> {
    let row: Option<(Option<String>, bool, String)> = transaction
        .prepare_cached("SELECT power, agent, plugged FROM standings WHERE instance = ?1")?
        .query_row([instance.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((power, agent, plugged)) = row else {
        return Ok(Standing::default());
    };
    let plugged = serde_json::from_str(&plugged)?;
    let power = power.map(|word| serde_json::from_str::<PowerState>(&word));
    let power = power.transpose()?;
    Ok(Standing {
        power,
        agent,
        plugged,
    })
}

fn put_standing(
    transaction: &Transaction<'_>,
    instance: InstanceId,
    standing: &Standing,
) -> Result<()> {
    let power = standing.power.map(|power| serde_json::to_string(&power));
    transaction
        .prepare_cached(
            "INSERT INTO standings (instance, power, agent, plugged) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (instance) DO UPDATE
             SET power = excluded.power, agent = excluded.agent, plugged = excluded.plugged",
        )?
        .execute(params![
            instance.to_string(),
            power.transpose()?,
            standing.agent,
            serde_json::to_string(&standing.plugged)?
        ])?;
    Ok(())
}

/// The event under the operation that holds its instance; how the instance stands by it is written down.
fn held(transaction: &Transaction<'_>, mut event: Event) -> Result<Event> {
    if let Some(instance) = event.instance {
        event.operation = holder(transaction, instance)?;
        let after = standing(transaction, instance)?.after(&event);
        put_standing(transaction, instance, &after)?;
    }
    Ok(event)
}

/// Forgets how a removed instance stood.
pub(super) fn forget(transaction: &Transaction<'_>, instance: InstanceId) -> Result<()> {
    transaction.execute(
        "DELETE FROM standings WHERE instance = ?1",
        [instance.to_string()],
    )?;
    Ok(())
}

impl Store {
    /// The journal's own id: another one means that the numbers have begun anew.
    pub fn journal_id(&self) -> Uuid {
        self.log.id
    }

    /// Which events there are.
    pub fn event_bounds(&self) -> Bounds {
        // The oldest first: what is pruned meanwhile only makes it older than it is.
        let oldest = *self.log.oldest.read();
        let newest = *self.log.newest.borrow();
        Bounds { oldest, newest }
    }

    /// The number of the newest event, now and from now on.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.log.newest.subscribe()
    }

    /// At most `limit` events after `after`, in order. The first is not `after + 1` when that was pruned.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, after: u64, limit: usize) -> Result<Vec<Arc<Entry>>> {
        if let Some(entries) = self.log.recent(after, limit) {
            return Ok(entries);
        }
        let log = self.log.clone();
        blocking(move || log.stored(after, limit)).await
    }

    /// Writes down what was heard, all of it or none. `weigh` says which events each piece of news is, seen from how its
    /// instance stands and from what is at work on it. Events of an instance are told under the operation that holds it.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn journal<T, F>(&self, heard: Vec<T>, weigh: F) -> Result<()>
    where
        T: Send + 'static,
        F: Fn(&T, &Standing, Option<Verb>) -> Vec<Event> + Send + 'static,
        T: Subject,
    {
        self.write_events(move |transaction, pen| {
            for news in &heard {
                let (before, verb) = match news.subject() {
                    Some(instance) => (
                        standing(transaction, instance)?,
                        at_work(transaction, instance)?,
                    ),
                    None => Default::default(),
                };
                let events = weigh(news, &before, verb).into_iter();
                events
                    .map(|event| held(transaction, event))
                    .try_for_each(|event| pen.write(event?))?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets events beyond the newest `count`, and those older than `age`. Returns how many.
    ///
    /// # Errors
    /// When the database fails; then what is left is forgotten another time.
    pub async fn prune_events(&self, count: u64, age: Duration) -> Result<u64> {
        let before = SystemTime::now().checked_sub(age).map_or(0, micros);
        let mut pruned = 0;
        loop {
            let Bounds { oldest, newest } = self.event_bounds();
            let surplus = (newest + 1).saturating_sub(count);
            let kept = self
                .write(move |transaction| {
                    // Events are older the smaller their number, but for clocks that were set back: those wait.
                    let young: u64 = transaction
                        .prepare_cached(
                            "SELECT sequence FROM events WHERE time >= ?1 ORDER BY sequence LIMIT 1",
                        )?
                        .query_row([before], |row| row.get(0))
                        .optional()?
                        .unwrap_or(newest + 1);
                    let kept = young.max(surplus).min(oldest + PRUNED_AT_ONCE).max(oldest);
                    transaction.execute("DELETE FROM events WHERE sequence < ?1", [kept])?;
                    Ok(kept)
                })
                .await?;
            *self.log.oldest.write() = kept;
            self.log
                .recent
                .write()
                .retain(|entry| entry.sequence >= kept);
            if kept == oldest {
                return Ok(pruned);
            }
            pruned += kept - oldest;
        }
    }
}

/// News about an instance, or about the whole host.
pub trait Subject {
    /// Which instance.
    fn subject(&self) -> Option<InstanceId>;
}
