//! A running guest's disk is copied to another place, and the guest goes on there.
//!
//!   copy disk ──▶ both sides are alike ──▶ pivot ──▶ the new side is the disk
//!
//! From the moment that a pivot is written down, every write is on both sides until it is done: a crash there leaves a
//! disk that is whole on the new side, whether the guest has come over or not. So what a crash cuts is finished, not taken
//! back, once the guest reads from the new side or reads from neither because it is off.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    domain::Disk,
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::{HypervisorError, mirror::Mirrored},
    model::{Amount, InstanceId, InstanceRecord, Phase},
    task::{Cx, Step, cancelled},
};

/// How often a mirror is looked at: first soon, then at leisure.
pub(super) const LOOKS: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));

/// Copies a disk's content, and keeps both sides alike.
#[derive(Debug, Serialize, Deserialize)]
pub struct MirrorDisk {
    /// Whose.
    pub instance: InstanceId,
    /// The new side.
    pub to: Disk,
    /// Bytes a second at most.
    pub bandwidth: Option<u64>,
}

#[async_trait]
impl Step for MirrorDisk {
    type Output = ();
    const NAME: &'static str = "mirror disk";
    const PHASE: Phase = Phase::Copy;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let hypervisor = &cx.host.hypervisor;
        let begun = hypervisor.begin_mirror(self.instance, &self.to, self.bandwidth);
        begun.await?;
        let mut pause = LOOKS.0;
        loop {
            match mirrored(cx.host, self.instance, &self.to.target).await? {
                Mirrored::Ready => return Ok(()),
                Mirrored::None => return Err(given_up(self.instance)),
                Mirrored::Copying { done, total } => {
                    let total = Some(total).filter(|total| *total > 0);
                    let amount = Amount::Bytes { done, total };
                    cx.report.advance(Phase::Copy, "", Some(amount));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOKS.1),
                () = cx.cancel.cancelled() => return Err(cancelled()),
            }
        }
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        end(host, self.instance, &self.to.target, false).await
    }
}

/// Lets the guest go on with the new side. Nothing that may be refused comes after it.
#[derive(Debug, Serialize, Deserialize)]
pub struct PivotDisk {
    /// Whose.
    pub instance: InstanceId,
    /// The old side, for the way back.
    pub from: Disk,
    /// The new side.
    pub to: Disk,
    /// The instance as it is once that is done.
    pub record: InstanceRecord,
}

#[async_trait]
impl Step for PivotDisk {
    type Output = ();
    const NAME: &'static str = "pivot disk";
    const PHASE: Phase = Phase::Copy;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        end(cx.host, self.instance, &self.to.target, true).await?;
        match cx.host.hypervisor.reads(self.instance, &self.to).await? {
            true => Ok(()),
            false => Err(given_up(self.instance)),
        }
    }

    /// What the guest has written meanwhile is on the new side only: it is brought back.
    async fn revert(&self, host: &Host) -> Result<()> {
        let (hypervisor, id, target) = (&host.hypervisor, self.instance, &self.to.target);
        end(host, id, target, false).await?;
        if !hypervisor.reads(id, &self.to).await? {
            return Ok(());
        }
        hypervisor.begin_mirror(id, &self.from, None).await?;
        alike(host, id, target).await?;
        end(host, id, target, true).await
    }
}

/// Somebody who is at work on the guest is waited for: the next look tells.
pub(super) async fn mirrored(host: &Host, id: InstanceId, target: &str) -> Result<Mirrored> {
    match host.hypervisor.mirrored(id, target).await {
        Err(HypervisorError::Busy) => Ok(Mirrored::Copying { done: 0, total: 0 }),
        found => Ok(found?),
    }
}

/// Waits until both sides are alike; for a way back, which nobody cancels.
pub(super) async fn alike(host: &Host, id: InstanceId, target: &str) -> Result<()> {
    let mut pause = LOOKS.0;
    loop {
        match mirrored(host, id, target).await? {
            Mirrored::Ready => return Ok(()),
            Mirrored::None => return Err(given_up(id)),
            Mirrored::Copying { .. } => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LOOKS.1);
    }
}

/// Ends a mirror and waits until it has.
pub(super) async fn end(host: &Host, id: InstanceId, target: &str, pivot: bool) -> Result<()> {
    host.hypervisor.end_mirror(id, target, pivot).await?;
    let mut pause = LOOKS.0;
    while mirrored(host, id, target).await? != Mirrored::None {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
    Ok(())
}

pub(super) fn given_up(instance: InstanceId) -> Error {
    let message =
        "the emulator gave up copying: one of the two sides cannot be read, or written, or is full";
    Error::new(Kind::Pending, "VOLUME_CONNECT_FAILED", message).with("instance_id", instance)
}
