//! The instance takes another share of the host; its guest is given processors, and its root disk grows.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    domain::Format,
    error::{Classify, Kind, Result},
    host::{Claim, Host},
    image::{DiskRef, ImageBackend, Qcow2, Raw},
    model::{Bytes, DiskFormat, InstanceId, Limits, Phase, PowerState},
    task::{Cx, Step},
};

/// Claims another share in place of the one that the instance has.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeClaim {
    /// Whose.
    pub instance: InstanceId,
    /// What it has.
    pub before: Claim,
    /// What it will have.
    pub after: Claim,
    /// Upper bounds in place of the host's ratios.
    pub limits: Limits,
}

#[async_trait]
impl Step for ChangeClaim {
    type Output = ();
    const NAME: &'static str = "change claim";
    const PHASE: Phase = Phase::Claim;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        Ok(cx
            .host
            .claims
            .claim(self.instance, self.after, &self.limits)?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        host.claims.restore(self.instance, self.before);
        Ok(())
    }
}

/// Gives a running guest more processors.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlugVcpus {
    /// Whose.
    pub instance: InstanceId,
    /// What it has.
    pub from: u32,
    /// What it will have.
    pub to: u32,
}

#[async_trait]
impl Step for PlugVcpus {
    type Output = ();
    const NAME: &'static str = "plug vcpus";
    const PHASE: Phase = Phase::Attach;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let plugged = cx.host.hypervisor.set_vcpus(self.instance, self.to);
        Ok(plugged.await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let guest = host.hypervisor.info(self.instance).await?;
        let on = matches!(guest.state, PowerState::Running | PowerState::Paused);
        if !on || guest.num_cpu <= self.from {
            return Ok(());
        }
        match host.hypervisor.set_vcpus(self.instance, self.from).await {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == Kind::Unavailable => Err(e.into()),
            // It may let go of them later, and has what is told when it is started anew.
            Err(e) => {
                warn!(instance = %self.instance, error = %e, "the guest keeps its processors for now");
                Ok(())
            }
        }
    }
}

/// Grows the root disk.
///
/// The way back leaves it grown: the guest may have written there already, and a disk that is larger than told harms
/// nobody, while one that is cut off loses what was written.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrowDisk {
    /// Whose.
    pub instance: InstanceId,
    /// Its file, in the instance's folder.
    pub file_name: String,
    /// The file's format.
    pub format: Format,
    /// Its name in the guest, when that runs; QEMU grows it then, and tells the guest.
    pub target: Option<String>,
    /// Its size.
    pub from: Bytes,
    /// The size to come.
    pub to: Bytes,
}

#[async_trait]
impl Step for GrowDisk {
    type Output = ();
    const NAME: &'static str = "grow disk";
    const PHASE: Phase = Phase::ResizeDisks;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        if let Some(target) = &self.target {
            let hypervisor = &cx.host.hypervisor;
            // One that failed after this may have left it larger than is told: QEMU would cut it off.
            if hypervisor.disk_size(self.instance, target).await? < self.to {
                let grown = hypervisor.resize_disk(self.instance, target, self.to);
                grown.await?;
            }
            return Ok(());
        }
        let disk = DiskRef {
            path: cx.host.paths.instance(self.instance).join(&self.file_name),
            format: match self.format {
                Format::Raw => DiskFormat::Raw,
                Format::Qcow2 => DiskFormat::Qcow2,
            },
            size: self.from,
            backing: None,
        };
        match self.format {
            Format::Raw => Raw.resize(&disk, self.to).await?,
            Format::Qcow2 => Qcow2.resize(&disk, self.to).await?,
        };
        Ok(())
    }

    async fn revert(&self, _host: &Host) -> Result<()> {
        Ok(())
    }
}
