//! Copies of disks in memory: a file is written at once, and stands as made when asked.

use async_trait::async_trait;

use super::{Fake, is_on, wrong_state};
use crate::{
    hypervisor::{
        HypervisorError, Result,
        copy::{Copied, Copying, DiskCopy},
    },
    model::InstanceId,
};

/// What the fake writes as the content of a disk.
const CONTENT: &[u8] = b"the disk as it was";

#[async_trait]
impl Copying for Fake {
    async fn begin_copy(&self, id: InstanceId, copy: &DiskCopy) -> Result<()> {
        self.enter("begin_copy").await?;
        if !is_on(self.ours(id, |held, _| *held)?) {
            return Err(wrong_state(id, "domain is not running"));
        }
        std::fs::write(&copy.file, CONTENT).map_err(|e| HypervisorError::Failed {
            call: "begin_copy",
            message: e.to_string(),
            code: 0,
            domain: 0,
        })?;
        self.faults.leave("begin_copy")
    }

    async fn copied(&self, id: InstanceId) -> Result<Copied> {
        self.enter("copied").await?;
        self.ours(id, |_, _| ())?;
        self.faults.leave("copied").map(|()| Copied::Done)
    }

    async fn abort_copy(&self, _id: InstanceId) -> Result<()> {
        self.enter("abort_copy").await?;
        self.faults.leave("abort_copy")
    }
}
