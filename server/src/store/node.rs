//! The host itself: kept in memory, written through.

use std::sync::Arc;

use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Result, Store, operations};
use crate::model::{
    Event, EventKind, NodeId, NodeRecord, NodeSwitch, OperationRecord, OperationState,
};

/// What is kept of the host.
#[derive(Debug)]
pub(super) struct Shelf {
    record: RwLock<Arc<NodeRecord>>,
    // Switched one at a time: what is in memory follows the order of what is written.
    door: tokio::sync::Mutex<()>,
}

/// What became of a switch.
#[derive(Debug)]
pub enum Switched {
    /// It stands as asked.
    Done,
    /// The request was there before, and this is what it began.
    Known(Box<OperationRecord>),
}

/// What a watcher is told when the host opens or closes; none when it does neither.
fn told(before: &NodeRecord, after: &NodeRecord, by: &OperationRecord) -> Option<Event> {
    let event = match (before.is_open(), after.is_open()) {
        (false, true) => Event::of_host(EventKind::HostEnabled),
        (true, false) => {
            let maintenance = after.maintenance.is_some();
            let why = if maintenance {
                "maintenance"
            } else {
                "disabled"
            };
            Event::of_host(EventKind::HostDisabled).because(why)
        }
        _ => return None,
    };
    Some(Event {
        time: by.begun,
        operation: Some(by.id),
        detail: after.note().to_owned(),
        ..event
    })
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
            door: tokio::sync::Mutex::default(),
        })
    }
}

impl Store {
    /// The host itself.
    pub fn node(&self) -> Arc<NodeRecord> {
        self.node.record.read().clone()
    }

    /// Turns a switch of the host on for a reason, or off, and writes down the operation that did it, which has ended by
    /// that: all of it or none.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    ///
    /// # Cancel safety
    /// None: what is in memory would lag behind what is written.
    pub async fn switch_node(
        &self,
        switch: NodeSwitch,
        on: Option<String>,
        record: OperationRecord,
    ) -> Result<Switched> {
        let _one_at_a_time = self.node.door.lock().await;
        let before = self.node();
        let after = Arc::new(NodeRecord::clone(&before).with(switch, on));
        let written = after.clone();
        let switched = self.write_events(move |transaction, pen| {
            if let Some(request) = record.request
                && let Some(known) = operations::of_request(transaction, request)?
            {
                return Ok(Switched::Known(Box::new(known)));
            }
            operations::put(transaction, pen, &record)?;
            if let Some(event) = told(&before, &written, &record) {
                pen.write(event)?;
            }
            let row = serde_json::to_string(&*written)?;
            transaction.execute("UPDATE node SET record = ?1", [row])?;
            let ended = OperationRecord {
                state: OperationState::Succeeded,
                ended: Some(record.begun),
                ..record
            };
            operations::put(transaction, pen, &ended)?;
            Ok(Switched::Done)
        });
        let switched = switched.await?;
        if matches!(switched, Switched::Done) {
            *self.node.record.write() = after;
        }
        Ok(switched)
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::{OperationId, RequestId, Verb};

    fn record(request: Option<RequestId>) -> OperationRecord {
        OperationRecord {
            id: OperationId::random(),
            instance: None,
            image: None,
            verb: Verb::SetHostEnabled,
            request,
            fingerprint: "body".to_owned(),
            state: OperationState::Running,
            begun: SystemTime::now(),
            ended: None,
            caller: None,
            error: None,
            answer: None,
        }
    }

    async fn kinds(store: &Store) -> Vec<EventKind> {
        let events = store.events(0, 100).await.unwrap();
        events.iter().map(|entry| entry.event.kind).collect()
    }

    fn why() -> Option<String> {
        Some("new disks".to_owned())
    }

    #[tokio::test]
    async fn a_switch_is_told_with_its_operation_and_survives() {
        use EventKind::{HostDisabled, HostEnabled, OperationBegun, OperationEnded};
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let id = store.node().id;
        let off = NodeSwitch::Disabled;
        store.switch_node(off, why(), record(None)).await.unwrap();
        // One that is closed already does not close again.
        let held = NodeSwitch::Maintenance;
        store.switch_node(held, why(), record(None)).await.unwrap();
        store.switch_node(off, None, record(None)).await.unwrap();
        assert!(!store.node().is_open());
        store.switch_node(held, None, record(None)).await.unwrap();
        let told = [
            vec![OperationBegun, HostDisabled, OperationEnded],
            [OperationBegun, OperationEnded].repeat(2),
            vec![OperationBegun, HostEnabled, OperationEnded],
        ];
        assert_eq!(kinds(&store).await, told.concat());
        let events = store.events(0, 100).await.unwrap();
        let disabled = &events[1].event;
        assert_eq!(disabled.reason.as_deref(), Some("DISABLED"));
        assert_eq!(disabled.detail, "new disks");
        assert_eq!(disabled.operation, events[0].event.operation);
        store.switch_node(held, why(), record(None)).await.unwrap();
        drop(store);
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.node().id, id);
        assert_eq!(store.node().maintenance, why());
        assert!(store.unsettled().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_request_that_comes_again_switches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let first = record(Some(RequestId::random()));
        let off = NodeSwitch::Disabled;
        store.switch_node(off, why(), first.clone()).await.unwrap();
        store.switch_node(off, None, record(None)).await.unwrap();
        let again = OperationRecord {
            id: OperationId::random(),
            ..first.clone()
        };
        let before = kinds(&store).await;
        let Switched::Known(known) = store.switch_node(off, why(), again).await.unwrap() else {
            panic!("it is known");
        };
        assert_eq!(
            (known.id, known.state),
            (first.id, OperationState::Succeeded)
        );
        assert!(store.node().is_open());
        assert_eq!(kinds(&store).await, before);
        assert_eq!(store.prune_operations(Duration::ZERO).await.unwrap(), 2);
    }
}
