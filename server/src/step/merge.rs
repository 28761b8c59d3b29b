//! Two files of a disk that lie one on the other become one.
//!
//! Until that is done both are read as before, whatever was copied so far; from then on there is no way back, and none is
//! needed: the guest sees the same. So a merge that was done is written down in the instance's record, also by its way back.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    forward::define,
    mirror::{Looks, end, given_up, is_written, mirrored, writes},
    overlay::{is_on, pivot_down, wake},
    power::power,
};
use crate::{
    domain::{Disk, DiskSource, Format},
    error::Result,
    host::Host,
    hypervisor::{mirror::Mirrored, overlay::Merge},
    image::layer,
    model::{Amount, BlockDevice, InstanceId, InstanceRecord, Phase, PowerState},
    task::{Cx, Step, cancelled},
};

/// Merges two files of a guest's disk while it is on.
#[derive(Debug, Serialize, Deserialize)]
pub struct MergeLayers {
    /// Whose.
    pub instance: InstanceId,
    /// How its guest was.
    pub was: PowerState,
    /// Which files.
    pub merge: Merge,
    /// The file that goes.
    pub gone: PathBuf,
    /// The disk without it.
    pub to: Disk,
    /// The instance without it.
    pub record: InstanceRecord,
    /// What its caller is told then.
    pub answer: serde_json::Value,
}

#[async_trait]
impl Step for MergeLayers {
    type Output = ();
    const NAME: &'static str = "merge layers";
    const PHASE: Phase = Phase::Copy;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let (id, hypervisor) = (self.instance, &cx.host.hypervisor);
        hypervisor.begin_merge(id, &self.to, &self.merge).await?;
        self.copied(cx).await?;
        if let Merge::Top { .. } = self.merge {
            pivot_down(cx.host, (id, self.was), (&self.gone, &self.to)).await?;
        }
        match self.is_done(cx.host).await? {
            true => define(cx.host, &self.record).await,
            false => Err(given_up(id)),
        }
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let id = self.instance;
        end(host, id, &self.to.target, false).await?;
        if self.is_done(host).await? {
            self.finish(host).await?;
            host.store.put_instance(self.record.clone()).await?;
        }
        wake(host, (id, self.was)).await
    }
}

impl MergeLayers {
    /// Waits until the copy is done: a mirror when both sides are alike, else when it has ended.
    async fn copied(&self, cx: Cx<'_>) -> Result<()> {
        let top = matches!(self.merge, Merge::Top { .. });
        let mut looks = Looks::new(cx);
        loop {
            match mirrored(cx.host, self.instance, &self.to.target).await? {
                Mirrored::Ready if top => return Ok(()),
                Mirrored::None if top => return Err(given_up(self.instance)),
                Mirrored::None => return Ok(()),
                Mirrored::Ready => {}
                Mirrored::Copying { done, total } => looks.tell(done, total),
            }
            looks.later().await?;
        }
    }

    /// Whether the disk is without the file that goes. Of a guest that is off the files tell: one that was merged down from the
    /// top is blank, and of the others nothing rests on the one that goes.
    pub(super) async fn is_done(&self, host: &Host) -> Result<bool> {
        let id = self.instance;
        if is_on(power(host, id).await?) {
            let files = host.hypervisor.files(id, &self.to.target).await?;
            let top =
                matches!(&self.to.source, DiskSource::File(top) if files.first() == Some(top));
            let told = top && !files.contains(&self.gone);
            return match self.merge {
                Merge::Top { .. } => self.is_left(told).await,
                Merge::Up { .. } | Merge::Down { .. } => Ok(told),
            };
        }
        if let Merge::Top { .. } = self.merge {
            return Ok(layer::is_blank(&self.gone).await?);
        }
        let mut devices = self.record.spec.block_devices.iter();
        let device = devices.find(|device| device.id == self.to.id);
        match device.and_then(BlockDevice::volume) {
            Some(volume) => Ok(host.volumes.chained(volume).await.is_ok()),
            None => Ok(false),
        }
    }

    /// Whether the guest that is on has left the file that goes for the one below it. A crash may leave a hypervisor whose word
    /// of it, `told`, is not so; but while both are alike a guest writes to both, and else to its own only.
    async fn is_left(&self, told: bool) -> Result<bool> {
        let id = self.instance;
        if writes(id, self.gone.clone()).await? {
            return Ok(false);
        }
        Ok(told || is_written(id, &self.to).await?)
    }

    /// Does what is left to do once the disk is without the file that goes.
    pub(super) async fn finish(&self, host: &Host) -> Result<()> {
        if let Merge::Top { .. } = self.merge
            && let Err(e) = layer::forget(&self.gone).await
        {
            // What it holds is of no use to anybody any more.
            warn!(instance = %self.instance, error = %e, "a file that was merged keeps its content");
        }
        define(host, &self.record).await
    }
}

/// Which files of a guest that is off become one, and what that rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cold {
    /// `file` takes what is between it and `base`, or all that it rests on.
    Up {
        /// The file.
        file: PathBuf,
        /// What it rests on afterwards.
        base: Option<(PathBuf, Format)>,
    },
    /// `base` takes what is in `file`, which rests on it.
    Down {
        /// The file that goes.
        file: PathBuf,
        /// The one that rests on it, if any does.
        above: Option<PathBuf>,
        /// The one that it rests on.
        base: (PathBuf, Format),
    },
}

/// Merges two files of a guest's disk while it is off.
#[derive(Debug, Serialize, Deserialize)]
pub struct MergeFiles {
    /// Which.
    pub cold: Cold,
}

#[async_trait]
impl Step for MergeFiles {
    type Output = ();
    const NAME: &'static str = "merge files";
    const PHASE: Phase = Phase::Copy;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let report = cx.report.clone();
        let show = move |percent| {
            report.advance(Phase::Copy, "", Some(Amount::Percent(percent)));
        };
        tokio::select! {
            merged = self.merge(show) => merged,
            () = cx.cancel.cancelled() => Err(cancelled()),
        }
    }

    /// Whatever has been copied, and whatever a header names now: the disk's files, read one over the other as they were
    /// before, show what they showed.
    async fn revert(&self, _host: &Host) -> Result<()> {
        Ok(())
    }
}

impl MergeFiles {
    async fn merge(&self, show: impl Fn(u32)) -> Result<()> {
        match &self.cold {
            Cold::Up { file, base } => Ok(layer::rebase(file, base.clone(), show).await?),
            Cold::Down { file, above, base } => {
                layer::commit(file, show).await?;
                if let Some(above) = above {
                    layer::rename_base(above, base.clone()).await?;
                }
                Ok(())
            }
        }
    }
}
