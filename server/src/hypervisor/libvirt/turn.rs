//! One call at a time to a guest's agent.
//!
//! A guest that does not answer holds a worker until libvirt gives up. Whoever asks the same guest meanwhile would only
//! take another worker from the guests that do answer.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use crate::model::InstanceId;

/// The guests that are being asked.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashSet<InstanceId>>);

/// A guest's turn; the next may come when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    id: InstanceId,
}

impl Turns {
    /// The guest's turn; none while somebody has it.
    pub(super) fn take(self: &Arc<Self>, id: InstanceId) -> Option<Turn> {
        let free = self.0.lock().insert(id);
        free.then(|| Turn {
            turns: self.clone(),
            id,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().remove(&self.id);
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
}
