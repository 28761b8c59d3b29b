//! The guest's memory is written to disk, and read back.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    again::{Moved, repoint, start},
    power::power,
};
use crate::{
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::{HypervisorError, StartMode},
    model::{Amount, InstanceId, InstanceRecord, Phase, PowerState},
    task::{Cx, Step, cancelled},
};

/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(500);
/// How long a save may get nowhere. An emulator that is stopped writes nothing, and holds its guest from whoever else wants
/// to change it; the longest that a whole one stands still is while a slow disk takes its last writes.
const STUCK: Duration = Duration::from_secs(300);
/// What the hypervisor says in other words than ours.
const FULL: &str = "No space left on device";

/// Writes the guest's memory to disk and stops it. On the way back it goes on where it was.
#[derive(Debug, Serialize, Deserialize)]
pub struct SaveGuest {
    /// Which one.
    pub instance: InstanceId,
    /// How it was.
    pub was: PowerState,
}

#[async_trait]
impl Step for SaveGuest {
    type Output = ();
    const NAME: &'static str = "save guest";
    const PHASE: Phase = Phase::Save;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let hypervisor = &cx.host.hypervisor;
        let mut save = hypervisor.save(self.instance);
        let mut tell = tokio::time::interval(TELL);
        let mut stopping = false;
        let (mut moved, mut far) = (Instant::now(), None);
        loop {
            tokio::select! {
                biased;
                saved = &mut save => return match saved {
                    Err(_) if stopping => Err(cancelled()),
                    Err(e) => Err(full(e)),
                    Ok(()) => Ok(()),
                },
                () = cx.cancel.cancelled(), if !stopping => {
                    stopping = true;
                    // One that is about to end cannot be stopped any more; then it is taken back.
                    if let Err(e) = hypervisor.stop_saving(self.instance).await {
                        tracing::debug!(instance = %self.instance, error = %e, "the save goes on");
                    }
                }
                _ = tell.tick() => {
                    let seen = hypervisor.saving(self.instance).await;
                    // It has not begun, or is at its end.
                    if let Ok(None) = seen {
                        moved = Instant::now();
                    }
                    if let Ok(Some((done, total))) = seen {
                        let amount = Amount::Bytes { done, total: Some(total) };
                        cx.report.advance(Self::PHASE, Self::NAME, Some(amount));
                        if far.replace(done) != Some(done) {
                            moved = Instant::now();
                        }
                    }
                    if moved.elapsed() > STUCK {
                        let call = "virDomainManagedSave";
                        return Err(HypervisorError::Timeout { call, limit: STUCK }.into());
                    }
                }
            }
        }
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        // A hypervisor that outlives this server goes on saving.
        if let Err(e) = host.hypervisor.stop_saving(self.instance).await {
            tracing::debug!(instance = %self.instance, error = %e, "no save is stopped");
        }
        match power(host, self.instance).await? {
            PowerState::Suspended => start(host, self.instance, StartMode::Running).await?,
            PowerState::Shutdown | PowerState::NoState | PowerState::Crashed => {
                // A save that a crash of the host cut: its memory is lost, as with any power cut.
                let mode = match self.was {
                    PowerState::Paused => StartMode::Paused,
                    _ => StartMode::Running,
                };
                return start(host, self.instance, mode).await;
            }
            _ => {}
        }
        as_was(host, self.instance, self.was).await
    }
}

/// Starts a guest from its saved memory. On the way back it is saved again.
#[derive(Debug, Serialize, Deserialize)]
pub struct RestoreGuest {
    /// Which one.
    pub instance: InstanceId,
    /// By their names in the guest, the block devices that its disks are now. Its memory keeps them on the way back.
    #[serde(default, alias = "moved")]
    pub places: Vec<Moved>,
}

#[async_trait]
impl Step for RestoreGuest {
    type Output = ();
    const NAME: &'static str = "restore guest";
    const PHASE: Phase = Phase::Restore;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        repoint(cx.host, self.instance, &self.places).await?;
        cx.host.hypervisor.restore(self.instance).await?;
        // One that was paused when it was saved comes back paused.
        as_was(cx.host, self.instance, PowerState::Running).await
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        match power(host, self.instance).await? {
            PowerState::Running | PowerState::Paused => {
                Ok(host.hypervisor.save(self.instance).await?)
            }
            _ => Ok(()),
        }
    }
}

/// Removes a guest's saved memory. That cannot be brought back: what a crash cuts after this word is finished, not taken back.
#[derive(Debug, Serialize, Deserialize)]
pub struct DiscardMemory {
    /// Which one.
    pub instance: InstanceId,
    /// The instance as it is once that is done.
    pub record: InstanceRecord,
    /// What its caller is told then.
    pub answer: serde_json::Value,
}

#[async_trait]
impl Step for DiscardMemory {
    type Output = ();
    const NAME: &'static str = "discard memory";
    const PHASE: Phase = Phase::Stop;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx.host.hypervisor.discard(self.instance).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        if power(host, self.instance).await? != PowerState::Suspended {
            // It is gone, whatever was told of that: the instance is off, and knows.
            host.store.put_instance(self.record.clone()).await?;
        }
        Ok(())
    }
}

/// Has the processors of a guest that is on stand as they were.
async fn as_was(host: &Host, id: InstanceId, was: PowerState) -> Result<()> {
    match (power(host, id).await?, was) {
        (PowerState::Paused, PowerState::Running) => Ok(host.hypervisor.resume(id).await?),
        (PowerState::Running, PowerState::Paused) => Ok(host.hypervisor.pause(id).await?),
        _ => Ok(()),
    }
}

fn full(e: HypervisorError) -> Error {
    match &e {
        HypervisorError::Failed { message, .. } if message.contains(FULL) => {
            let message = "the file system for saved memory is full";
            Error::new(Kind::Exhausted, "HOST_DISK_FULL", message)
        }
        _ => e.into(),
    }
}
