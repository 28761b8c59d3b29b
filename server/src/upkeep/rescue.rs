//! Rescues end when their time is over.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    action::Unrescue,
    host::Host,
    model::{InstanceId, InstanceRecord},
    operation::{Operations, RequestKey},
};

/// A rescue lasts hours; somebody who waits for its end waits no longer than this.
const EVERY: Duration = Duration::from_secs(1);
/// Between two tries to end one that does not end, at first and at most: each try is an operation that is told.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// When one is tried next, and how long to wait after that.
type Tries = BTreeMap<InstanceId, (Instant, Duration)>;

/// Begins the end of each rescue whose time is over, until `stop`.
pub async fn end_rescues(host: Arc<Host>, operations: Operations, stop: CancellationToken) {
    let (mut ticks, mut tries) = (tokio::time::interval(EVERY), Tries::new());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = SystemTime::now();
        let records = host.store.instances().into_iter();
        let over = records.filter(|record| is_over(record, now));
        let over: Vec<_> = over.map(|record| record.spec.id).collect();
        tries.retain(|id, _| over.contains(id));
        for id in over
            .into_iter()
            .filter(|id| operations.holder(*id).is_none())
        {
            end(&operations, &mut tries, id).await;
        }
    }
}

fn is_over(record: &InstanceRecord, now: SystemTime) -> bool {
    let until = record.rescue.as_ref().and_then(|rescue| rescue.until);
    until.is_some_and(|until| until <= now)
}

async fn end(operations: &Operations, tries: &mut Tries, instance: InstanceId) {
    let known = tries.get(&instance).copied();
    let (at, pause) = known.unwrap_or_else(|| (Instant::now(), AGAIN.0));
    if Instant::now() < at {
        return;
    }
    let key = RequestKey {
        request: None,
        fingerprint: "rescue timeout".to_owned(),
        caller: Some("computelet".to_owned()),
    };
    let unrescue = Unrescue {
        instance,
        by_itself: true,
    };
    match operations.begin(key, unrescue).await {
        Ok(_) => {
            info!(%instance, "its rescue is over");
            let next = (Instant::now() + pause, (pause * 2).min(AGAIN.1));
            tries.insert(instance, next);
        }
        Err(e) => debug!(%instance, error = %e, "its rescue cannot end yet"),
    }
}
