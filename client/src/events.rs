//! Lifecycle events, followed over lost connections: none is lost, and none comes twice.
//!
//! ```text
//!   without a cursor   state … state ─ synced(n) ─ event n+1 ─ event n+2 …
//!   with one           synced ─ event after+1 …
//!   bookmark           the cursor moves on over events that were not asked for
//!   lost before synced: begun again without a cursor, and the states come anew
//!   lost after it:      gone on after the last sequence seen
//! ```

use std::fmt;

use computedriver::v1;
use computedriver::v1::watch_events_response::Event as Wire;
use tonic::Streaming;

use crate::Result;
use crate::client::Client;
use crate::error::Error;
use crate::progress::Rejoin;

/// What a watch of events tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventNews {
    /// The present state of one instance; only before [`Synced`](Self::Synced), and only without a cursor.
    State(v1::InstanceInfo),
    /// The present state is told, or the cursor taken: from here events follow. Told once.
    Synced {
        /// The sequence after which the events follow.
        sequence: u64,
        /// UUID of the journal that counts them; a request with a cursor of it may name it.
        journal_id: String,
    },
    /// Something that happened.
    Happened(Box<v1::Event>),
    /// Events that were not asked for lie up to here: nothing new, but a newer cursor.
    Bookmark {
        /// The sequence up to which all is told.
        sequence: u64,
    },
    /// The server was lost; the next call of [`Events::next`] goes on where it was. When [`Synced`](Self::Synced) was
    /// not told yet, the states come anew.
    Lost(Error),
}

impl Client {
    /// Watches events, from the request's cursor or from the present state.
    ///
    /// ```no_run
    /// # async fn example(client: computedriver_client::Client) -> computedriver_client::Result<()> {
    /// use computedriver_client::{EventNews, v1};
    /// let mut events = client.events(v1::WatchEventsRequest { after: Some(41), ..Default::default() });
    /// loop {
    ///     if let EventNews::Happened(event) = events.next().await? {
    ///         println!("{} {:?} {}", event.sequence, event.kind(), event.instance_id);
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self, request: v1::WatchEventsRequest) -> Events {
        Events {
            rejoin: Rejoin::new(self),
            client: self.clone(),
            request,
            stream: None,
            synced: false,
        }
    }
}

/// Events that are being watched; made by [`Client::events`].
pub struct Events {
    client: Client,
    request: v1::WatchEventsRequest,
    stream: Option<Streaming<v1::WatchEventsResponse>>,
    rejoin: Rejoin,
    synced: bool,
}

impl Events {
    /// The sequence to go on after, once the server told where it stands: what a program keeps to go on from later.
    #[must_use]
    pub fn cursor(&self) -> Option<u64> {
        self.request.after
    }

    /// The next piece of news; waits for it, and has no end.
    ///
    /// # Errors
    /// Whatever the contract lists for `WatchEvents`: `OutOfRange`, reason `EVENTS_EXPIRED`, when events after the
    /// cursor are not kept any more or the journal is another, also when that happened while the server was lost. `Unavailable` when the server
    /// was not found again in time; [`cursor`](Self::cursor) is where to go on then.
    ///
    /// # Cancel safety
    /// May be dropped and called again: no event is lost.
    pub async fn next(&mut self) -> Result<EventNews> {
        loop {
            match self.hear().await {
                Ok(Some(wire)) => {
                    if let Some(news) = self.take(wire) {
                        return Ok(news);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    return match self.rejoin.lost(&error) {
                        true => Ok(EventNews::Lost(error)),
                        false => Err(error),
                    };
                }
            }
        }
    }

    async fn hear(&mut self) -> Result<Option<Wire>> {
        if self.stream.is_none() {
            self.rejoin.pause().await;
            let mut instances = self.client.instances();
            let opened = instances.watch_events(self.request.clone());
            self.stream = Some(opened.await?.into_inner());
        }
        let stream = self.stream.as_mut().expect("opened above");
        let message = stream.message().await?;
        let message = message.ok_or_else(|| Error::cut("the server ended the stream of events"))?;
        self.rejoin.heard();
        Ok(message.event)
    }

    fn take(&mut self, wire: Wire) -> Option<EventNews> {
        match wire {
            // With a cursor the caller knows the state already.
            Wire::State(_) if self.request.after.is_some() => None,
            Wire::State(state) => Some(EventNews::State(state)),
            Wire::Synced(synced) => self.sync(synced),
            Wire::Happened(event) => {
                let new = self.advance(event.sequence);
                new.then(|| EventNews::Happened(Box::new(event)))
            }
            Wire::Bookmark(v1::EventsSynced { sequence, .. }) => {
                let new = self.advance(sequence);
                new.then_some(EventNews::Bookmark { sequence })
            }
            Wire::Heartbeat(_) => None,
        }
    }

    /// From here on another journal is refused, so that its numbers are never taken for those of this one.
    fn sync(&mut self, synced: v1::EventsSynced) -> Option<EventNews> {
        let sequence = *self.request.after.get_or_insert(synced.sequence);
        let journal_id = synced.journal_id;
        self.request.journal_id.clone_from(&journal_id);
        let first = !std::mem::replace(&mut self.synced, true);
        first.then_some(EventNews::Synced {
            sequence,
            journal_id,
        })
    }

    /// Moves the cursor; false when it was there already.
    fn advance(&mut self, sequence: u64) -> bool {
        let new = self.request.after.is_none_or(|seen| sequence > seen);
        if new {
            self.request.after = Some(sequence);
        }
        new
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("endpoint", &self.client.endpoint())
            .field("after", &self.request.after)
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}
