//! What has to be done again and again while the server runs: console logs are kept within bounds, ended operations,
//! events and unused images are let go in time; guests that were frozen for a while are thawed, and rescues end when their time is over.

mod rescue;
pub mod thaw;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{console, host::Host, model::Bytes, plan::CONSOLE_LOG};

pub use rescue::end_rescues;

/// A guest at full speed on a slow serial port writes some 100 MB in this time; the bound is checked, not enforced by it.
const LOGS_EVERY: Duration = Duration::from_secs(10);
/// Between two times the journal grows beyond its bound by no more than a busy host makes in it.
const EVENTS_EVERY: Duration = Duration::from_secs(60);
/// Retention is counted in hours.
const OPERATIONS_EVERY: Duration = Duration::from_secs(600);

/// Images are kept for hours.
const IMAGES_EVERY: Duration = Duration::from_secs(3600);

/// How far what is kept may grow.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The largest console log of a guest.
    pub console_log: Bytes,
    /// Whether images that nothing rests on are removed when they have not been used for long.
    pub images: bool,
    /// How long an ended operation is remembered.
    pub operations: Duration,
    /// How many events are kept.
    pub events: u64,
    /// How long an event is kept.
    pub events_age: Duration,
}

/// Does what has to be done, until `stop`.
pub async fn run(host: Arc<Host>, bounds: Bounds, stop: CancellationToken) {
    let mut logs = tokio::time::interval(LOGS_EVERY);
    let mut events = tokio::time::interval(EVENTS_EVERY);
    let mut operations = tokio::time::interval(OPERATIONS_EVERY);
    // Not at once: what an earlier life left is being looked after.
    let mut images = tokio::time::interval_at(Instant::now() + IMAGES_EVERY, IMAGES_EVERY);
    loop {
        // In no order: each may wait for the other's turn.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = logs.tick() => bound_logs(&host, bounds.console_log).await,
            _ = events.tick() => forget_events(&host, bounds).await,
            _ = images.tick(), if bounds.images => prune_images(&host).await,
            _ = operations.tick() => forget_operations(&host, bounds.operations).await,
        }
    }
}

async fn bound_logs(host: &Host, max: Bytes) {
    let ids = host.store.instances();
    let paths: Vec<_> = ids
        .iter()
        .map(|record| host.paths.instance(record.spec.id).join(CONSOLE_LOG))
        .collect();
    let bound = move || {
        for path in paths {
            match console::bound(&path, max) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), error = %e, "a console log cannot be kept within bounds");
                }
                Ok(freed) if freed.0 > 0 => {
                    debug!(path = %path.display(), %freed, "a console log was cut");
                }
                _ => {}
            }
        }
    };
    let _ = tokio::task::spawn_blocking(bound).await;
}

async fn forget_operations(host: &Host, age: Duration) {
    match host.store.prune_operations(age).await {
        Ok(0) => {}
        Ok(count) => debug!(count, "ended operations were forgotten"),
        Err(e) => warn!(error = %e, "ended operations cannot be forgotten"),
    }
}

async fn prune_images(host: &Host) {
    match host.images.prune(None).await {
        Ok(images) => {
            for image in images {
                info!(image = %image.key, freed = %image.allocated, "an unused image was removed");
            }
        }
        Err(e) => warn!(error = %e, "unused images cannot be removed"),
    }
}

async fn forget_events(host: &Host, bounds: Bounds) {
    match host
        .store
        .prune_events(bounds.events, bounds.events_age)
        .await
    {
        Ok(0) => {}
        Ok(count) => debug!(count, "events were forgotten"),
        Err(e) => warn!(error = %e, "events cannot be forgotten"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;

    #[tokio::test]
    async fn an_image_is_let_go_once_nothing_rests_on_it() {
        let t = TestHost::new().await;
        let id = t.spawned(t.spec()).await;
        let images = async || t.host.images.list().await.unwrap().len();
        prune_images(&t.host).await;
        assert_eq!(images().await, 1);
        t.host.images.unpin(id);
        prune_images(&t.host).await;
        assert_eq!(images().await, 0);
    }
}
