//! WatchEvents: a place in the journal as a stream.
//!
//! Without a cursor the place is taken first and the present state read after it, so that what happens between is told
//! twice rather than never. A client that does not read holds a piece of the journal at most; one that filters out all that
//! happens is given newer cursors, so that its place does not grow old.

use std::{collections::VecDeque, sync::Arc};

use computedriver::v1::{self, watch_events_response::Event as Told};
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Api, convert,
    operation::heartbeat,
    status::status,
    stream::{Answers, HEARTBEAT},
};
use crate::{
    error::Error,
    journal::{Filter, Reading},
    model::Entry,
    operation::OperationError,
};

impl Api {
    /// Begins to watch.
    pub(super) async fn watch(
        &self,
        request: v1::WatchEventsRequest,
    ) -> Result<Answers<v1::WatchEventsResponse>, Error> {
        let watch = convert::watch(&request)?;
        let journal = &self.host.journal;
        let after = watch.after.unwrap_or_else(|| journal.newest());
        let named = watch.journal.filter(|_| watch.after.is_some());
        let states = match watch.after {
            Some(_) => Vec::new(),
            None => self.states(&watch.filter).await?,
        };
        let synced = v1::EventsSynced {
            sequence: after,
            journal_id: journal.id().to_string(),
        };
        let journal_id = synced.journal_id.clone();
        let reading = journal.read(after, named, watch.filter)?;
        let first = states.into_iter().map(Told::State);
        let first = first.chain([Told::Synced(synced)]).map(Ok);
        let live = Live {
            reading,
            journal_id,
            told: after,
            pending: VecDeque::new(),
            drain: self.drain.clone(),
            ended: false,
        };
        let all = stream::iter(first).chain(live.stream());
        let answers =
            all.map(|told| told.map(|told| v1::WatchEventsResponse { event: Some(told) }));
        Ok(Box::pin(answers))
    }

    /// How every instance stands.
    async fn states(&self, filter: &Filter) -> Result<Vec<v1::InstanceInfo>, Error> {
        let mut records = self.host.store.instances();
        records.retain(|record| filter.has(record.spec.id));
        self.infos(&records).await
    }
}

/// The part of a watch that follows what happens.
struct Live {
    reading: Reading,
    journal_id: String,
    /// The newest cursor that the client has.
    told: u64,
    pending: VecDeque<Arc<Entry>>,
    drain: CancellationToken,
    ended: bool,
}

impl Live {
    fn stream(self) -> impl Stream<Item = Result<Told, Status>> + Send {
        stream::unfold(self, |mut live| async move {
            let next = live.next().await?;
            Some((next, live))
        })
    }

    async fn next(&mut self) -> Option<Result<Told, Status>> {
        while !self.ended {
            if let Some(entry) = self.pending.pop_front() {
                self.told = entry.sequence;
                return Some(Ok(Told::Happened(convert::event(&entry))));
            }
            // Biased: what has happened is told before the server's end is.
            tokio::select! {
                biased;
                entries = self.reading.next() => match entries {
                    Ok(entries) => self.pending.extend(entries),
                    Err(e) => return Some(self.end(&e.into())),
                },
                () = self.drain.cancelled() => return Some(self.end(&OperationError::Draining.into())),
                () = tokio::time::sleep(HEARTBEAT) => return Some(Ok(self.idle())),
            }
        }
        None
    }

    /// A sign of life, with a newer cursor if there is one.
    fn idle(&mut self) -> Told {
        let place = self.reading.place();
        if place == self.told {
            return Told::Heartbeat(heartbeat());
        }
        self.told = place;
        Told::Bookmark(v1::EventsSynced {
            sequence: place,
            journal_id: self.journal_id.clone(),
        })
    }

    fn end(&mut self, e: &Error) -> Result<Told, Status> {
        self.ended = true;
        Err(status(e))
    }
}
