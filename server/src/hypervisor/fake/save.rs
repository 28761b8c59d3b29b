//! Memory of guests that exist in memory only.

use std::path::PathBuf;

use async_trait::async_trait;

use super::{DESTROYED, Fake, wrong_state};
use crate::{
    domain::DiskSource,
    hypervisor::{Result, save::Save, signals::Change},
    model::{EventKind, InstanceId, PowerState},
};

const SAVED: Change = Change::new(EventKind::Suspended, PowerState::Suspended, "saved");
const RESTORED: Change = Change::new(EventKind::Started, PowerState::Running, "restored");

#[async_trait]
impl Save for Fake {
    async fn save(&self, id: InstanceId) -> Result<()> {
        self.enter("save").await?;
        let saved = self.ours(id, |held, _| match held {
            PowerState::Running | PowerState::Paused => {
                *held = PowerState::Suspended;
                Ok(true)
            }
            PowerState::Suspended => Ok(false),
            _ => Err(wrong_state(id, "domain is not running")),
        })??;
        if saved {
            self.signals.change(id, SAVED);
        }
        self.faults.leave("save")
    }

    async fn saving(&self, id: InstanceId) -> Result<Option<(u64, u64)>> {
        self.enter("saving").await?;
        let memory = self.ours(id, |_, domain| domain.machine.memory.0)?;
        self.faults
            .leave("saving")
            .map(|()| Some((memory / 2, memory)))
    }

    async fn stop_saving(&self, id: InstanceId) -> Result<()> {
        self.enter("stop_saving").await?;
        self.ours(id, |_, _| ())?;
        self.faults.leave("stop_saving")
    }

    async fn restore(&self, id: InstanceId) -> Result<()> {
        self.enter("restore").await?;
        let restored = self.ours(id, |held, _| match held {
            PowerState::Suspended => {
                *held = PowerState::Running;
                Ok(true)
            }
            PowerState::Running | PowerState::Paused => Ok(false),
            _ => Err(wrong_state(id, "domain has nothing saved")),
        })??;
        if restored {
            self.signals.change(id, RESTORED);
        }
        self.faults.leave("restore")
    }

    async fn repoint(&self, id: InstanceId, disks: &[(String, PathBuf)]) -> Result<()> {
        self.enter("repoint").await?;
        self.guest(id, |guest| {
            let saved = guest.state == PowerState::Suspended;
            for (target, path) in disks.iter().filter(|_| saved) {
                if let Some(disk) = guest.live_disk(target) {
                    disk.source = DiskSource::Block(path.clone());
                }
            }
        })?;
        self.faults.leave("repoint")
    }

    async fn discard(&self, id: InstanceId) -> Result<()> {
        self.enter("discard").await?;
        let discarded = self.ours(id, |held, _| {
            let saved = *held == PowerState::Suspended;
            if saved {
                *held = PowerState::Shutdown;
            }
            saved
        })?;
        if discarded {
            self.signals.change(id, DESTROYED);
        }
        self.faults.leave("discard")
    }
}
