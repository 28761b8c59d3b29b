//! Files of disks in memory: what is merged is so at once.

use std::path::PathBuf;

use async_trait::async_trait;

use super::{Fake, wrong_state};
use crate::{
    domain::Disk,
    hypervisor::{
        Result,
        overlay::{Merge, Overlays},
    },
    model::InstanceId,
};

impl Fake {
    fn put(&self, id: InstanceId, to: &Disk) -> Result<()> {
        self.guest(id, |guest| match guest.live_disk(&to.target) {
            Some(disk) => {
                to.clone_into(disk);
                Ok(())
            }
            None => Err(wrong_state(id, "domain is not running")),
        })?
    }
}

#[async_trait]
impl Overlays for Fake {
    async fn overlay(&self, id: InstanceId, to: &Disk) -> Result<()> {
        self.enter("overlay").await?;
        self.put(id, to)?;
        self.faults.leave("overlay")
    }

    async fn begin_merge(&self, id: InstanceId, to: &Disk, merge: &Merge) -> Result<()> {
        self.enter("begin_merge").await?;
        match merge {
            Merge::Up { .. } | Merge::Down { .. } => self.put(id, to)?,
            Merge::Top { .. } => {
                let key = (id, to.target.clone());
                self.mirrors.lock().insert(key, to.clone());
            }
        }
        self.faults.leave("begin_merge")
    }

    async fn files(&self, id: InstanceId, target: &str) -> Result<Vec<PathBuf>> {
        self.enter("files").await?;
        let files = self.guest(id, |guest| {
            let live = guest.live_disk(target).cloned();
            let mut defined = guest.domain.iter().flat_map(|domain| &domain.disks);
            let disk = live.or_else(|| defined.find(|disk| disk.target == target).cloned());
            disk.map(|disk| disk.files().into_iter().cloned().collect())
        })?;
        self.faults.leave("files")?;
        Ok(files.unwrap_or_default())
    }
}
