//! What an operation left that could not be taken back.
//!
//!   undo fails ──▶ owed ──┬──▶ the next operation on the instance tries again, first ──▶ taken back
//!                         ├──▶ an operation on the instance succeeds ──▶ stale: how that left it is how it is
//!                         ├──▶ destroy ──▶ struck
//!                         └──▶ the server starts ──▶ tried again (`recover`)
//!
//! To take something back is right only as long as nothing has come after it: later, it would undo what others were told
//! is done. So what is owed becomes stale in the transaction that writes down a later success, and is never tried after
//! that; but what was kept for its way back is kept until the instance is destroyed.

use std::sync::Arc;

use tracing::{info, warn};

use super::Operations;
use crate::{
    error::Result,
    host::Host,
    model::{OperationRecord, Phase, Verb},
    step,
    task::{Reporter, Task},
};

impl Operations {
    /// Tries once more to take back what earlier operations on this one's instance left, newest first. What still cannot be
    /// taken back keeps nobody from trying to change the instance: that may be what mends it.
    pub(super) async fn settle_up(&self, task: &Task) {
        let record = task.report().record();
        // A destroy removes it all.
        let Some(instance) = record.instance.filter(|_| record.verb != Verb::Destroy) else {
            return;
        };
        let owed = match self.host.store.owed(instance).await {
            Ok(owed) if owed.is_empty() => return,
            Ok(owed) => owed,
            Err(e) => return warn!(%instance, error = %e, "what is owed cannot be read"),
        };
        let report = task.report();
        report.begin(Phase::Undo, "taking back what an earlier operation left");
        for earlier in owed {
            let (operation, back) = (earlier.id, take_back(&self.host, &earlier).await);
            if let Err(e) = back {
                warn!(%operation, %instance, error = %e, "it still cannot be taken back");
                break;
            }
            info!(%operation, %instance, "what it left is taken back");
            // What a restart is made of was kept quiet.
            self.host.hypervisor.reread();
        }
        report.end(Phase::Undo);
    }
}

/// Takes back the steps that are written down of an operation that does not run any more, newest first.
///
/// # Errors
/// When one cannot be read, or taken back; that one and those before it stay written down.
pub async fn take_back(host: &Arc<Host>, record: &OperationRecord) -> Result<()> {
    let rows = host.store.steps(record.id).await?;
    let begun = rows.iter().map(step::read).collect::<Result<Vec<_>>>()?;
    let (report, _) = Reporter::new(record.clone());
    Task::resumed(host.clone(), record.id, report, begun)
        .unwind()
        .await
}
