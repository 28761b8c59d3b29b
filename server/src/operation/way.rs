//! The way in: one begin at a time, and a destroy that whoever holds its instance gives way to.

use tokio::sync::{MutexGuard, watch};
use tokio_util::sync::CancellationToken;

use super::{Gate, Operations, RequestKey};
use crate::{
    action::Action,
    error::Result,
    model::{InstanceId, Verb},
    task::Progress,
};

impl Operations {
    /// Through the door, once nothing stands in the way of `action`; with the operation that this request began before, if
    /// any.
    ///
    /// # Errors
    /// As [`Operations::find`].
    pub(super) async fn enter<A: Action>(
        &self,
        key: &RequestKey,
        action: &A,
    ) -> Result<(MutexGuard<'_, ()>, Option<watch::Receiver<Progress>>)> {
        loop {
            let door = self.door.lock().await;
            let refused = match self.find(key, A::VERB, action.instance()).await {
                Ok(known) => return Ok((door, known)),
                Err(e) => e,
            };
            let holder = action.instance().filter(|_| A::VERB == Verb::Destroy);
            let holder = holder.and_then(|instance| self.giving_way(instance));
            match holder {
                Some((cancel, holder))
                    if refused.reason() == "OPERATION_PENDING" && self.is_open() =>
                {
                    // Others come through the door meanwhile.
                    drop(door);
                    cancel.cancel();
                    over(holder).await;
                }
                _ => return Err(refused),
            }
        }
    }

    /// Whether anything may begin: who gives way to nothing is stopped for nothing.
    fn is_open(&self) -> bool {
        self.registry.lock().gate == Gate::Open && self.make_way(false).is_ok()
    }

    fn giving_way(
        &self,
        instance: InstanceId,
    ) -> Option<(CancellationToken, watch::Receiver<Progress>)> {
        let registry = self.registry.lock();
        let live = registry.live.get(registry.holds.get(&instance)?)?;
        live.gives_way
            .then(|| (live.cancel.clone(), live.reporter.watch()))
    }
}

/// Waits until it has ended, whichever way.
async fn over(mut operation: watch::Receiver<Progress>) {
    let ended = operation.wait_for(|progress| progress.record.state.is_final());
    // One that nobody reports on any more has ended too.
    drop(ended.await);
}
