//! One watcher's place in the journal.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::watch;

use super::JournalError;
use crate::{
    metrics::{Active, WATCHERS},
    model::{Entry, EventKind, InstanceId},
    store::Store,
};

/// Read at once: some 100 kB, out of memory for one that keeps up.
const PIECE: usize = 256;

/// What a watcher wants to hear of.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these instances, and of the whole host; of all when there is none.
    pub instances: HashSet<InstanceId>,
    /// Of these kinds; none: of all.
    pub kinds: Option<HashSet<EventKind>>,
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let event = &entry.event;
        let instance = event.instance.is_none_or(|id| self.has(id));
        let kind = |kinds: &HashSet<_>| kinds.contains(&event.kind);
        instance && self.kinds.as_ref().is_none_or(kind)
    }

    /// Whether it wants to hear of this instance.
    pub fn has(&self, id: InstanceId) -> bool {
        self.instances.is_empty() || self.instances.contains(&id)
    }
}

/// One watcher's place in the journal.
#[derive(Debug)]
pub struct Reading {
    store: Store,
    newest: watch::Receiver<u64>,
    filter: Filter,
    place: u64,
    _watching: Active,
}

impl Reading {
    pub(super) fn new(store: Store, after: u64, filter: Filter) -> Self {
        Self {
            newest: store.newest_event(),
            store,
            filter,
            place: after,
            _watching: WATCHERS.of([]).enter(),
        }
    }

    /// All up to this one was read.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// Waits for the next events that the filter admits; some of those that are there, never none.
    ///
    /// # Errors
    /// When the next was pruned before it was read.
    ///
    /// # Cancel safety
    /// Nothing is lost: the place moves on only with what is returned, or with what the filter left out.
    pub async fn next(&mut self) -> Result<Vec<Arc<Entry>>, JournalError> {
        loop {
            let place = self.place;
            if self
                .newest
                .wait_for(|newest| *newest > place)
                .await
                .is_err()
            {
                // The store is held here: its end cannot be missed.
                std::future::pending::<()>().await;
            }
            let mut entries = self.store.events(place, PIECE).await?;
            if entries
                .first()
                .is_none_or(|first| first.sequence != place + 1)
            {
                let kept = self.store.event_bounds();
                return Err(JournalError::Expired { after: place, kept });
            }
            self.place = entries.last().map_or(place, |last| last.sequence);
            entries.retain(|entry| self.filter.admits(entry));
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }
}
