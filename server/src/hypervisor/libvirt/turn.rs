//! One call at a time to a guest's agent.
//!
//! A guest that does not answer holds a worker until libvirt gives up. Whoever asks the same guest meanwhile would only
//! take another worker from the guests that do answer.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::InstanceId;

/// The guests that are being asked.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<InstanceId>>,
    free: Notify,
}

/// A guest's turn; the next may come when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    id: InstanceId,
}

impl Turns {
    /// The guest's turn; none while somebody has it.
    pub(super) fn take(self: &Arc<Self>, id: InstanceId) -> Option<Turn> {
        let free = self.taken.lock().insert(id);
        free.then(|| Turn {
            turns: self.clone(),
            id,
        })
    }

    /// The guest's turn, once it is free.
    pub(super) async fn wait(self: &Arc<Self>, id: InstanceId) -> Turn {
        loop {
            // Before the look, so that no end of a turn is missed between the two.
            let freed = self.free.notified();
            if let Some(turn) = self.take(id) {
                return turn;
            }
            freed.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.taken.lock().remove(&self.id);
        self.turns.free.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_asked_by_one_at_a_time() {
        let turns = Arc::new(Turns::default());
        let (one, other) = (InstanceId::random(), InstanceId::random());
        let turn = turns.take(one);
        assert!(turn.is_some());
        assert!(turns.take(one).is_none());
        assert!(turns.take(other).is_some());
        drop(turn);
        assert!(turns.take(one).is_some());
    }

    #[tokio::test]
    async fn who_waits_is_next() {
        let turns = Arc::new(Turns::default());
        let id = InstanceId::random();
        let turn = turns.take(id).unwrap();
        let mut waiting = waits(turns.clone(), id);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(turn);
        drop(waiting.await);
        assert!(turns.take(id).is_some());
    }

    fn waits(turns: Arc<Turns>, id: InstanceId) -> std::pin::Pin<Box<dyn Future<Output = Turn>>> {
        Box::pin(async move { turns.wait(id).await })
    }
}
