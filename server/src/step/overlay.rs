//! A running guest's disk goes on in a new file over the old one, and comes back from it.
//!
//!   from ◀── every write ── guest          from ◀── to ◀── every write ── guest
//!
//! The way back is a merge: `from` takes what was written to `to` meanwhile, and the guest goes on with `from`. It stands
//! still for the moment of that, until `to` has forgotten all that it held. So a file over another that is not blank is the
//! one that counts, whenever whoever was at work on it died, and also when nobody can be asked any more.

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    forward::define,
    mirror::{alike, end, given_up, is_written},
    power::power,
};
use crate::{
    domain::{Disk, DiskSource},
    error::Result,
    host::Host,
    hypervisor::overlay::Merge,
    image::layer,
    model::{InstanceId, InstanceRecord, Phase, PowerState},
    task::{Cx, Step},
};

/// Has a running guest's disk go on in a new file.
#[derive(Debug, Serialize, Deserialize)]
pub struct OverlayDisk {
    /// Whose.
    pub instance: InstanceId,
    /// How its guest was.
    pub was: PowerState,
    /// The disk as it was.
    pub from: Disk,
    /// The disk with the new file.
    pub to: Disk,
    /// The instance as it is once that is done.
    pub record: InstanceRecord,
    /// What its caller is told then.
    pub answer: serde_json::Value,
}

#[async_trait]
impl Step for OverlayDisk {
    type Output = ();
    const NAME: &'static str = "overlay disk";
    const PHASE: Phase = Phase::Attach;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let hypervisor = &cx.host.hypervisor;
        Ok(hypervisor.overlay(self.instance, &self.to).await?)
    }

    /// What the guest has written meanwhile is in the new file only: it is brought back.
    async fn revert(&self, host: &Host) -> Result<()> {
        let (id, hypervisor) = (self.instance, &host.hypervisor);
        let DiskSource::File(new) = &self.to.source else {
            return Ok(());
        };
        // Whoever is at work on the guest is waited for.
        end(host, id, &self.to.target, false).await?;
        if !is_on(power(host, id).await?) {
            if new.try_exists().unwrap_or(true) && !layer::is_blank(new).await? {
                layer::commit(new, |_| {}).await?;
                layer::forget(new).await?;
            }
            return Ok(());
        }
        if hypervisor.reads(id, &self.to).await? {
            if let Err(e) = self.merge_down(host, new).await {
                if !hypervisor.reads(id, &self.to).await? {
                    return Err(e);
                }
                warn!(instance = %id, error = %e, "a guest cannot come back from a new file");
                self.stay(host).await?;
            }
        } else if self.is_over(host).await? {
            self.stay(host).await?;
        } else if hypervisor.reads(id, &self.from).await? {
            layer::forget(new).await?;
        }
        wake(host, (id, self.was)).await
    }
}

impl OverlayDisk {
    /// Whether the guest that is on goes on in the new file. A crash between QEMU's step over and the hypervisor's word of it
    /// leaves one that says that it does not; but a guest writes to one of both only.
    pub(super) async fn is_over(&self, host: &Host) -> Result<bool> {
        if host.hypervisor.reads(self.instance, &self.to).await? {
            return Ok(true);
        }
        let id = self.instance;
        Ok(is_written(id, &self.to).await? && !is_written(id, &self.from).await?)
    }

    /// What the guest has written is nowhere else: there it stays, and the instance knows.
    async fn stay(&self, host: &Host) -> Result<()> {
        warn!(instance = %self.instance, "a guest stays with the file that it was to come back from");
        define(host, &self.record).await?;
        Ok(host.store.put_instance(self.record.clone()).await?)
    }

    async fn merge_down(&self, host: &Host, new: &Path) -> Result<()> {
        let (id, target) = (self.instance, &self.to.target);
        let DiskSource::File(base) = self.from.source.clone() else {
            return Ok(());
        };
        let merge = Merge::Top { base };
        let begun = host.hypervisor.begin_merge(id, &self.from, &merge);
        begun.await?;
        alike(host, id, target).await?;
        pivot_down(host, (id, self.was), (new, &self.from)).await
    }
}

/// Lets the guest, of whose disk `top` is a mirror now, go on with `to`, on which that rests. It stands still meanwhile: what
/// it has written is in both when `top` forgets it.
pub(super) async fn pivot_down(
    host: &Host,
    (id, was): (InstanceId, PowerState),
    (top, to): (&Path, &Disk),
) -> Result<()> {
    if power(host, id).await? == PowerState::Running {
        host.hypervisor.pause(id).await?;
    }
    end(host, id, &to.target, true).await?;
    if !host.hypervisor.reads(id, to).await? {
        return Err(given_up(id));
    }
    layer::forget(top).await?;
    wake(host, (id, was)).await
}

/// Lets a guest run that stands still for one of these steps only.
pub(super) async fn wake(host: &Host, (id, was): (InstanceId, PowerState)) -> Result<()> {
    match (was, power(host, id).await?) {
        (PowerState::Running, PowerState::Paused) => Ok(host.hypervisor.resume(id).await?),
        _ => Ok(()),
    }
}

pub(super) fn is_on(power: PowerState) -> bool {
    matches!(power, PowerState::Running | PowerState::Paused)
}
