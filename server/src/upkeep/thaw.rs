//! Guests that were frozen for a while are thawed when it is over, also when the server was away meanwhile.
//!
//! A thaw holds no instance: an operation that runs over the time of a freeze does not keep the guest frozen. It is tried
//! until the guest has heard it, or is off.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    host::Host,
    hypervisor::HypervisorError,
    model::{InstanceId, PowerState},
    store::AllQuiesced,
};

/// Pauses between two tries with one guest: a frozen guest should not wait, and one that is paused may be so for days.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// When a guest is tried again, and the pause after that.
type Tries = HashMap<InstanceId, (Instant, Duration)>;

/// Thaws whom it is time to thaw, until `stop`. Begun when the hypervisor knows its guests again.
pub async fn run(host: Arc<Host>, stop: CancellationToken) {
    let mut all = host.store.quiesced();
    let mut thaws = JoinSet::new();
    let (mut busy, mut tries) = (HashSet::new(), Tries::new());
    loop {
        let known = all.borrow_and_update().clone();
        tries.retain(|id, _| known.contains_key(id));
        let mut next = None;
        for (id, wait) in waits(&known, &tries) {
            if busy.contains(&id) {
            } else if wait.is_zero() {
                busy.insert(id);
                let host = host.clone();
                thaws.spawn(async move { (id, thaw(&host, id).await) });
            } else {
                next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
            }
        }
        let sleep = async {
            match next {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        // In no order: each only leads to another look at all.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = all.changed() => if changed.is_err() { return },
            Some(Ok((id, done))) = thaws.join_next() => {
                busy.remove(&id);
                if !done {
                    let pause = tries.get(&id).map_or(PAUSE.0, |(_, pause)| *pause);
                    tries.insert(id, (Instant::now() + pause, (pause * 2).min(PAUSE.1)));
                }
            }
            () = sleep => {}
        }
    }
}

/// How long each guest may wait yet.
fn waits(known: &AllQuiesced, tries: &Tries) -> impl Iterator<Item = (InstanceId, Duration)> {
    let (now, instant) = (SystemTime::now(), Instant::now());
    known.iter().map(move |(id, quiesced)| {
        let due = quiesced.until.duration_since(now).unwrap_or_default();
        let again = tries
            .get(id)
            .map(|(at, _)| at.saturating_duration_since(instant));
        (*id, due.max(again.unwrap_or_default()))
    })
}

/// Whether the guest is thawed, or cannot be frozen any more.
async fn thaw(host: &Host, id: InstanceId) -> bool {
    let until = host
        .store
        .quiesced()
        .borrow()
        .get(&id)
        .map(|known| known.until);
    let over = match host.hypervisor.thaw(id).await {
        Ok(filesystems) => {
            info!(instance = %id, filesystems, "the time of a freeze is over, the guest is thawed");
            true
        }
        Err(HypervisorError::NotFound(_)) => true,
        // Paused or saved it is still frozen; off, it forgot that.
        Err(HypervisorError::State { .. }) => host.hypervisor.info(id).await.is_ok_and(|guest| {
            matches!(
                guest.state,
                PowerState::Shutdown | PowerState::Crashed | PowerState::NoState
            )
        }),
        Err(e) => {
            warn!(instance = %id, error = %e, "the time of a freeze is over, and the guest cannot be thawed yet");
            false
        }
    };
    // It was frozen again meanwhile: that has a time of its own.
    let same = host
        .store
        .quiesced()
        .borrow()
        .get(&id)
        .map(|known| known.until)
        == until;
    if !over || !same {
        return over;
    }
    match host.store.remove_quiesced(id).await {
        Ok(()) => true,
        Err(e) => {
            warn!(instance = %id, error = %e, "that a guest is thawed cannot be written down");
            false
        }
    }
}

#[cfg(test)]
mod tests;
