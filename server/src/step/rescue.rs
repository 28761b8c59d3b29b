//! What an instance is rescued with: an image of its own, and a disk made from it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::disks::unwritable;
use crate::{
    domain::Format,
    error::{Error, Result},
    host::Host,
    image::{Base, DiskContent, ImageBackend, NewDisk, Qcow2, Raw},
    model::{InstanceId, InstanceRecord, Phase},
    plan::RESCUE_DISK,
    task::{Cx, Step},
};

/// Makes the rescue disk. On the way back it is removed.
#[derive(Debug, Serialize, Deserialize)]
pub struct MakeRescueDisk {
    /// Whose.
    pub instance: InstanceId,
    /// What it begins as; not needed for the way back.
    #[serde(skip)]
    pub base: Option<Base>,
    /// The format of its file; not needed for the way back.
    #[serde(skip)]
    pub raw: bool,
}

impl MakeRescueDisk {
    /// One over `base`, kept as this host keeps disks.
    pub fn new(host: &Host, instance: InstanceId, base: Base) -> Self {
        Self {
            instance,
            base: Some(base),
            raw: host.plan.disk_format == Format::Raw,
        }
    }
}

#[async_trait]
impl Step for MakeRescueDisk {
    type Output = ();
    const NAME: &'static str = "make rescue disk";
    const PHASE: Phase = Phase::CreateDisks;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        // What a crash has left of an earlier one.
        remove_rescue_disk(cx.host, self.instance)?;
        let Some(base) = self.base.clone() else {
            return Err(Error::internal("nothing to make a disk from"));
        };
        let disk = NewDisk {
            path: cx.host.paths.instance(self.instance).join(RESCUE_DISK),
            size: base.virtual_size,
            content: DiskContent::Base(base),
        };
        match self.raw {
            true => Raw.create(&disk).await?,
            false => Qcow2.create(&disk).await?,
        };
        Ok(())
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        remove_rescue_disk(host, self.instance)
    }
}

/// Removes the rescue disk of an instance that does not run from it; success when there is none.
fn remove_rescue_disk(host: &Host, instance: InstanceId) -> Result<()> {
    let path = host.paths.instance(instance).join(RESCUE_DISK);
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(unwritable("the rescue disk", &e))
        }
        _ => Ok(()),
    }
}

/// Forgets what an instance was rescued with, once it is not any more.
///
/// # Errors
/// When the host's file system says no.
pub fn forget_rescue(host: &Host, record: &InstanceRecord) -> Result<()> {
    remove_rescue_disk(host, record.spec.id)?;
    host.keeps_images(record.spec.id, &record.images);
    Ok(())
}
