//! Guests that should run and do not, as after the host was away, are brought back: some at a time, each an operation of
//! its own, so that one that cannot be started holds up nobody and is told like any other failure.

use std::sync::Arc;

use futures::StreamExt;
use tracing::{info, warn};

use crate::{
    action::{BringBack, is_off},
    error::Result,
    host::Host,
    model::{InstanceId, InstanceState, Wanted},
    operation::{Operations, RequestKey},
};

/// A start is half a second of a processor and of the disk; a host that starts has both to spare.
const AT_ONCE: usize = 4;

/// Brings them back. Returns when each runs or has failed.
pub async fn bring_back(host: &Arc<Host>, operations: &Operations) {
    let away = match away(host).await {
        Ok(away) => away,
        Err(e) => return warn!(error = %e, "guests that should run cannot be looked for"),
    };
    if away.is_empty() {
        return;
    }
    info!(count = away.len(), "bringing back guests that should run");
    let back = |instance| async move {
        if let Err(e) = one(operations, instance).await {
            warn!(%instance, error = %e, "the guest is not brought back");
        }
    };
    let starts = futures::stream::iter(away).for_each_concurrent(AT_ONCE, back);
    starts.await;
}

async fn away(host: &Host) -> Result<Vec<InstanceId>> {
    let listed = host.hypervisor.list().await?;
    let on = |id: &InstanceId| {
        let found = listed.iter().find(|(listed, _)| listed == id);
        found.is_some_and(|(_, guest)| !is_off(guest.state))
    };
    let records = host.store.instances().into_iter();
    let wanted = records.filter(|record| {
        let runs = matches!(record.wanted, Wanted::Running | Wanted::Paused);
        runs && record.state == InstanceState::Active
    });
    let ids = wanted.map(|record| record.spec.id);
    Ok(ids.filter(|id| !on(id)).collect())
}

async fn one(operations: &Operations, instance: InstanceId) -> Result<()> {
    let key = RequestKey {
        request: None,
        fingerprint: "bring back".to_owned(),
        caller: Some("computelet".to_owned()),
    };
    let mut progress = operations.begin(key, BringBack { instance }).await?;
    let ended = progress.wait_for(|progress| progress.record.state.is_final());
    match ended
        .await
        .ok()
        .and_then(|ended| ended.record.error.clone())
    {
        Some(e) => Err(e),
        None => Ok(()),
    }
}
