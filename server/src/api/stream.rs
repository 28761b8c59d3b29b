//! An operation's progress as a stream.
//!
//! It follows a watched value, so a client that does not read holds nothing back and misses only messages inside a phase.
//! While nothing happens it sends heartbeats. When the server drains it ends with UNAVAILABLE; the operation goes on.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status::status;
use crate::{
    error::{Error, Kind},
    model::{OperationRecord, OperationState, ProgressEvent},
    operation::OperationError,
    task::Progress,
};

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Short enough for the idle limits of common proxies (60 s), long enough to cost nothing.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a follower of an operation sees.
#[derive(Debug)]
pub(super) enum Seen {
    /// It has come further.
    Progress(Box<ProgressEvent>),
    /// It goes on; nothing new.
    Heartbeat,
    /// It has ended well: the last message.
    Done,
}

struct Follow {
    progress: watch::Receiver<Progress>,
    drain: CancellationToken,
    pending: VecDeque<ProgressEvent>,
    sequence: u64,
    ended: bool,
}

/// Follows an operation to its end. A failure is the stream's status.
pub(super) fn follow(
    progress: watch::Receiver<Progress>,
    drain: CancellationToken,
) -> impl Stream<Item = Result<Seen, Status>> + Send {
    let follow = Follow {
        progress,
        drain,
        pending: VecDeque::new(),
        sequence: 0,
        ended: false,
    };
    stream::unfold(follow, |mut follow| async move {
        let next = follow.next().await?;
        Some((next, follow))
    })
}

impl Follow {
    async fn next(&mut self) -> Option<Result<Seen, Status>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(Seen::Progress(Box::new(event))));
            }
            if self.ended {
                return None;
            }
            let record = self.look();
            if !self.pending.is_empty() {
                continue;
            }
            if record.state.is_final() {
                self.ended = true;
                return Some(outcome(&record));
            }
            if let Some(said) = self.wait().await {
                return Some(said);
            }
        }
    }

    /// Takes over what is new, and the operation as it stood at the same moment.
    fn look(&mut self) -> OperationRecord {
        let progress = self.progress.borrow_and_update();
        self.pending.extend(progress.after(self.sequence));
        self.sequence = self
            .pending
            .back()
            .map_or(self.sequence, |event| event.sequence);
        progress.record.clone()
    }

    async fn wait(&mut self) -> Option<Result<Seen, Status>> {
        // Biased: an operation's end is told even when the server drains at the same moment.
        tokio::select! {
            biased;
            changed = self.progress.changed() => match changed {
                Ok(()) => None,
                Err(_) => Some(self.end(&Error::internal("the operation's progress ended without an outcome"))),
            },
            () = self.drain.cancelled() => Some(self.end(&OperationError::Draining.into())),
            () = tokio::time::sleep(HEARTBEAT) => Some(Ok(Seen::Heartbeat)),
        }
    }

    fn end(&mut self, e: &Error) -> Result<Seen, Status> {
        self.ended = true;
        Err(status(e))
    }
}

/// How an ended operation is told.
pub(super) fn outcome(record: &OperationRecord) -> Result<Seen, Status> {
    match (&record.error, record.state) {
        (Some(e), _) => Err(status(&e.clone().with("operation_id", record.id))),
        (None, OperationState::Succeeded) => Ok(Seen::Done),
        (None, _) => {
            let message =
                "the operation was ended by a restart of the server; what it had done is undone";
            Err(status(
                &Error::new(Kind::Pending, "OPERATION_INTERRUPTED", message)
                    .with("operation_id", record.id),
            ))
        }
    }
}
