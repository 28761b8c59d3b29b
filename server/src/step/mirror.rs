//! A running guest's disk is copied to another place, and the guest goes on there.
//!
//!   copy disk ──▶ both sides are alike ──▶ pivot ──▶ the new side is the disk
//!
//! From the moment that a pivot is written down, every write is on both sides until it is done: a crash there leaves a
//! disk that is whole on the new side, whether the guest has come over or not. So what a crash cuts is finished, not taken
//! back, once the guest reads from the new side or reads from neither because it is off.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Disk, DiskSource},
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::{HypervisorError, mirror::Mirrored},
    model::{Amount, InstanceId, InstanceRecord, Phase},
    sys::open,
    task::{Cx, Step, cancelled},
};

/// How often a mirror is looked at: first soon, then at leisure.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Looks at a copy that QEMU makes, again and again: its caller is told how far it is, and may ask it to stop.
pub(super) struct Looks<'a> {
    cx: Cx<'a>,
    pause: Duration,
}

impl<'a> Looks<'a> {
    pub(super) fn new(cx: Cx<'a>) -> Self {
        let pause = LOOKS.0;
        Self { cx, pause }
    }

    /// So many bytes are copied, of so many if that is known.
    pub(super) fn tell(&self, done: u64, total: u64) {
        let total = Some(total).filter(|total| *total > 0);
        let amount = Amount::Bytes { done, total };
        self.cx.report.advance(Phase::Copy, "", Some(amount));
    }

    /// Returns when it is time for the next look.
    ///
    /// # Errors
    /// Once the caller has asked to stop.
    pub(super) async fn later(&mut self) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(self.pause) => self.pause = (self.pause * 2).min(LOOKS.1),
            () = self.cx.cancel.cancelled() => return Err(cancelled()),
        }
        Ok(())
    }
}

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
        let mut looks = Looks::new(cx);
        loop {
            match mirrored(cx.host, self.instance, &self.to.target).await? {
                Mirrored::Ready => return Ok(()),
                Mirrored::None => return Err(given_up(self.instance)),
                Mirrored::Copying { done, total } => looks.tell(done, total),
            }
            looks.later().await?;
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
        // A way back that a crash has cut may be done without the hypervisor's word of it.
        if is_written(id, &self.from).await? && !is_written(id, &self.to).await? {
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

/// Whether the guest's emulator writes to the file or device that is behind the disk. Nobody on this host can tell of others.
pub(super) async fn is_written(id: InstanceId, disk: &Disk) -> Result<bool> {
    let (DiskSource::File(path) | DiskSource::Block(path)) = disk.source.clone() else {
        return Ok(false);
    };
    writes(id, path).await
}

/// Whether the guest's emulator writes to that file or device.
pub(super) async fn writes(id: InstanceId, path: PathBuf) -> Result<bool> {
    let look = move || open::is_written(&path, &id.to_string());
    let looked = tokio::task::spawn_blocking(look).await;
    let looked = looked.map_err(|e| Error::internal(format!("nobody looked: {e}")))?;
    looked.map_err(|e| Error::internal(format!("who writes to a disk cannot be seen: {e}")))
}

/// Whether the guest that is on goes on with the new side. A crash between QEMU's step over and the hypervisor's word of it
/// leaves one that says that it does not; but without a mirror, nobody writes to a side that was given up.
pub(super) async fn has_pivoted(host: &Host, id: InstanceId, to: &Disk) -> Result<bool> {
    if host.hypervisor.reads(id, to).await? {
        return Ok(true);
    }
    let mirror = mirrored(host, id, &to.target).await?;
    Ok(mirror == Mirrored::None && is_written(id, to).await?)
}

pub(super) fn given_up(instance: InstanceId) -> Error {
    let message =
        "the emulator gave up copying: one of the two sides cannot be read, or written, or is full";
    Error::new(Kind::Pending, "VOLUME_CONNECT_FAILED", message).with("instance_id", instance)
}
