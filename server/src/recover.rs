//! On start: finish or undo what an earlier life left, adopt what runs.
//!
//!   spawn, guest runs      ──▶ adopted: the operation succeeded, the instance is there
//!   spawn, guest not there ──▶ undone by the same steps, newest first; the operation failed, interrupted
//!   destroy                ──▶ finished
//!   pull of an image       ──▶ failed, interrupted; the cache has cleaned itself
//!   the host's power       ──▶ succeeded if the host has started since; else failed, interrupted
//!   swap of a volume       ──▶ finished when the guest goes on with the new one, or is off; else undone
//!   snapshot of a volume   ──▶ finished when the guest goes on in the new file; else undone
//!   merge of its files     ──▶ finished when the guest is without the one that goes; else undone
//!   power off              ──▶ finished when it discards saved memory; else undone
//!   attach of a device     ──▶ finished when the guest has it, which it may not let go of again; else undone
//!   any other change       ──▶ undone; the operation failed, interrupted, and says how the guest stands
//!
//! Nothing is begun, and no guest is judged, before the hypervisor answers and has found its own guests again: unreachable
//! is not deleted. Last, guests that should run and do not are started, if the operator wants it (`guests`). What cannot be
//! undone or finished stays listed, and keeps nobody else waiting. A guest of ours that the store does not know is told in
//! the log and left alone.

mod guests;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{TryStreamExt, stream};
use tracing::{error, info, warn};

pub use guests::bring_back;

use crate::{
    action::{self, Action, Destroy},
    error::{Error, Kind, Result},
    host::{Claim, Host},
    hypervisor::{HypervisorError, Link},
    image::ImageKey,
    model::{
        Bytes, EventKind, InstanceId, InstanceRecord, InstanceState, OperationRecord,
        OperationState, PowerState, Verb,
    },
    operation::take_back,
    step, sys,
    task::{Reporter, Task},
};

/// Instances whose unfinished operations are looked after at the same time.
const AT_ONCE: usize = 8;

/// How often a guest is looked at that somebody is at work on.
const LOOKS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Writes the books of claims and of images in use anew from the store. Needs no hypervisor.
pub fn books(host: &Host) {
    for record in host.store.instances() {
        let root = record.root.or(record.spec.flavor.root).unwrap_or(Bytes(0));
        host.claims
            .restore(record.spec.id, Claim::of(&record.spec, root));
        let rescue = record.rescue.iter().map(|rescue| &rescue.image);
        let keys = record.images.iter().chain(rescue);
        for key in keys.filter_map(|key| ImageKey::read(key)) {
            host.images.pin(&key, record.spec.id);
        }
    }
}

/// Waits for the hypervisor, then looks after all that an earlier life left.
///
/// # Errors
/// When the store fails, or the hypervisor goes away again meanwhile; it may be called again.
pub async fn run(host: &Arc<Host>) -> Result<()> {
    let mut link = host.hypervisor.link();
    if link.wait_for(|link| *link == Link::Up).await.is_err() {
        return Err(Error::internal("the hypervisor's link ended"));
    }
    host.hypervisor.settle().await?;
    host.learn_totals().await?;
    let mut unsettled: HashMap<_, Vec<_>> = HashMap::new();
    for record in host.store.unsettled().await? {
        unsettled.entry(record.instance).or_default().push(record);
    }
    // One that is slow to be undone holds up no other's.
    let each = stream::iter(unsettled.into_values().map(Ok::<_, Error>));
    each.try_for_each_concurrent(AT_ONCE, async |records| {
        for record in records {
            let id = record.id;
            // The end of a later one may have made it stale.
            if record.state.is_final() && host.store.steps(id).await?.is_empty() {
                continue;
            }
            settle(host, record).await?;
            // What came before is not taken back beneath it.
            if !host.store.steps(id).await?.is_empty() {
                break;
            }
        }
        Ok(())
    })
    .await?;
    let held = left_over(host).await?;
    if let Err(e) = host.sweep_secrets(|id| held.contains(&id)).await {
        match e.passes() {
            true => return Err(e),
            false => warn!(error = %e, "secrets of volumes that are gone cannot be removed"),
        }
    }
    strangers(host).await
}

/// Finishes or undoes one operation.
async fn settle(host: &Arc<Host>, record: OperationRecord) -> Result<()> {
    let (id, verb) = (record.id, record.verb);
    info!(operation = %id, verb = verb.as_str(), "found unfinished");
    match verb {
        Verb::Spawn => spawn(host, record).await,
        Verb::Destroy => destroy(host, record).await,
        Verb::PullImage | Verb::RemoveImage | Verb::PruneImages => {
            Ok(host.store.settle(interrupted(record), None).await?)
        }
        Verb::HostPowerAction => Ok(host.store.settle(powered(record)?, None).await?),
        _ => change(host, record).await,
    }
}

/// Removes what changes kept for their way back, where a crash came between their good end and that. Answers which
/// instances have work that is neither done nor undone.
async fn left_over(host: &Host) -> Result<HashSet<InstanceId>> {
    let held = host.store.half_changed().await?;
    for record in host.store.instances() {
        if !held.contains(&record.spec.id) {
            action::tidy(host, record.spec.id);
            rescue_disk(host, &record);
        }
    }
    Ok(held)
}

/// Removes what a crash has left of a rescue that is over.
fn rescue_disk(host: &Host, record: &InstanceRecord) {
    if record.state != InstanceState::Active || record.rescue.is_some() {
        return;
    }
    if let Err(e) = step::forget_rescue(host, record) {
        warn!(instance = %record.spec.id, error = %e, "a rescue disk cannot be removed");
    }
}

fn interrupted(record: OperationRecord) -> OperationRecord {
    let message = "the server was restarted meanwhile; what the operation had done is undone";
    let cause = Error::new(Kind::Pending, "OPERATION_INTERRUPTED", message);
    OperationRecord {
        state: OperationState::Failed,
        ended: Some(SystemTime::now()),
        error: Some(record.error.clone().unwrap_or(cause)),
        ..record
    }
}

/// How a power action of the host ended that was still running when the server did: well, if the host has started since.
fn powered(record: OperationRecord) -> Result<OperationRecord> {
    let uptime =
        sys::uptime::read().map_err(|e| Error::internal(format!("uptime cannot be read: {e}")))?;
    let booted = SystemTime::now().checked_sub(Duration::from_secs_f64(uptime.seconds));
    if booted.is_none_or(|booted| booted < record.begun) {
        return Ok(interrupted(record));
    }
    Ok(OperationRecord {
        state: OperationState::Succeeded,
        ended: Some(SystemTime::now()),
        ..record
    })
}

async fn spawn(host: &Arc<Host>, record: OperationRecord) -> Result<()> {
    let instance = record.instance.and_then(|id| host.store.instance(id));
    if let Some(instance) = &instance
        && record.state == OperationState::Running
        && runs(host, instance).await?
    {
        return adopt(host, record, instance).await;
    }
    match take_back(host, &record).await {
        Ok(()) => Ok(host.store.settle(interrupted(record), None).await?),
        Err(e) if e.is_away() => Err(e),
        Err(e) => leave(host, record, &e).await,
    }
}

/// Takes back a change of an instance that is there.
async fn change(host: &Arc<Host>, record: OperationRecord) -> Result<()> {
    let forward = match record.state {
        OperationState::Running => forward(host, &record).await,
        _ => Ok(None),
    };
    match forward {
        Ok(Some(forward)) => return finish(host, record, forward).await,
        Ok(None) => {}
        Err(e) if e.is_away() => return Err(e),
        Err(e) => return leave(host, record, &e).await,
    }
    match take_back(host, &record).await {
        Ok(()) => {
            let power = match record.instance {
                Some(id) => Some(host.hypervisor.info(id).await),
                None => None,
            };
            let mut ended = interrupted(record);
            if let Some(Ok(guest)) = power {
                let cause = ended.error.take();
                ended.error = cause.map(|e| e.with("power_state", guest.state.as_str()));
            }
            host.store.settle(ended, None).await?;
            // What a restart is made of was kept quiet.
            host.hypervisor.reread();
            Ok(())
        }
        Err(e) if e.is_away() => Err(e),
        Err(e) => leave(host, record, &e).await,
    }
}

/// What [`step::forward`] says, once nobody is at work on the guest any more; one that hangs is not waited for.
async fn forward(host: &Host, record: &OperationRecord) -> Result<Option<step::Forward>> {
    let rows = host.store.steps(record.id).await?;
    let mut looks = 1;
    loop {
        match step::forward(host, &rows).await {
            Err(e) if e.passes() && !e.is_away() && looks < LOOKS => looks += 1,
            found => return found,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Ends an operation well of which nothing is left to do.
async fn finish(host: &Host, record: OperationRecord, forward: step::Forward) -> Result<()> {
    let instance = forward.record;
    info!(operation = %record.id, instance = %instance.spec.id, "what cannot be taken back is finished");
    let ended = OperationRecord {
        state: OperationState::Succeeded,
        ended: Some(SystemTime::now()),
        answer: record.answer.or(forward.answer),
        ..record
    };
    Ok(host.store.settle(ended, Some(instance)).await?)
}

/// Ends an operation that cannot be undone. Its steps stay written down and its instance listed, for a destroy or the
/// next start; meanwhile it keeps nobody else waiting.
async fn leave(host: &Host, record: OperationRecord, undo: &Error) -> Result<()> {
    error!(operation = %record.id, error = %undo, "what a crash left cannot be taken back");
    let message = "the server was restarted meanwhile, and what the operation had done cannot be undone; destroy the instance";
    let cause = Error::new(Kind::Pending, "OPERATION_INTERRUPTED", message);
    let cause = record.error.clone().unwrap_or(cause);
    let left = OperationRecord {
        state: OperationState::Failed,
        ended: Some(record.ended.unwrap_or_else(SystemTime::now)),
        error: Some(cause.with("undo_failed", undo)),
        ..record
    };
    Ok(host.store.put_operation(left).await?)
}

/// Whether the guest reached RUNNING before the crash, and still does.
async fn runs(host: &Host, instance: &InstanceRecord) -> Result<bool> {
    match host.hypervisor.info(instance.spec.id).await {
        Ok(guest) => Ok(guest.state == PowerState::Running),
        Err(HypervisorError::NotFound(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

async fn adopt(host: &Host, record: OperationRecord, instance: &InstanceRecord) -> Result<()> {
    info!(operation = %record.id, instance = %instance.spec.id, "the guest runs and is adopted");
    // The crash may have come between the plugging and the word of it.
    for vif in &instance.spec.vifs {
        let plugged = (instance.spec.id, vif);
        step::vifs::tell(host, EventKind::VifPlugged, plugged).await;
    }
    host.journal.flush().await;
    let now = SystemTime::now();
    let record = OperationRecord {
        state: OperationState::Succeeded,
        ended: Some(now),
        ..record
    };
    let instance = InstanceRecord {
        state: InstanceState::Active,
        launched: Some(now),
        ..instance.clone()
    };
    Ok(host.store.settle(record, Some(instance)).await?)
}

async fn destroy(host: &Arc<Host>, record: OperationRecord) -> Result<()> {
    let (report, _) = Reporter::new(record.clone());
    let mut ended = OperationRecord {
        state: OperationState::Succeeded,
        ended: Some(SystemTime::now()),
        ..record
    };
    if let Some(instance) = ended.instance {
        let cancel = tokio_util::sync::CancellationToken::new();
        let mut task = Task::new(host.clone(), ended.id, report, cancel);
        match (Destroy { instance }).run(&mut task).await {
            Ok(()) => {}
            Err(e) if e.is_away() => return Err(e),
            Err(e) => {
                // The instance stays listed, and may be destroyed again; nobody else waits for that.
                error!(operation = %ended.id, %instance, error = %e, "a destroy cannot be finished");
                ended.state = OperationState::Failed;
                ended.error = Some(e);
            }
        }
    }
    Ok(host.store.settle(ended, None).await?)
}

async fn strangers(host: &Host) -> Result<()> {
    for (id, guest) in host.hypervisor.list().await? {
        if host.store.instance(id).is_none() {
            warn!(instance = %id, state = ?guest.state, "a guest of ours is not in the store; it is left alone");
        }
    }
    Ok(())
}
