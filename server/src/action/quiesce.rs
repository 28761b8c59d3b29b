//! Quiesce and Unquiesce: the guest's file systems are frozen for a while, and thawed.
//!
//! Until when is written down before anything is frozen; `upkeep` looks after that, also after a restart.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Action, standing::admitted};
use crate::{
    error::{Error, Kind, Result},
    hypervisor::HypervisorError,
    model::{InstanceId, Phase, Verb},
    step::FreezeGuest,
    store::Quiesced,
    task::Task,
};

/// Freezes the guest's file systems.
#[derive(Clone, Copy, Debug)]
pub struct Quiesce {
    /// Whose.
    pub instance: InstanceId,
    /// For how long.
    pub time: Duration,
}

/// Thaws the guest's file systems.
#[derive(Clone, Copy, Debug)]
pub struct Unquiesce {
    /// Whose.
    pub instance: InstanceId,
}

/// What the caller of a freeze is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// How many file systems.
    pub filesystems: u32,
    /// Until when.
    pub until: SystemTime,
}

/// What the caller of a thaw is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thawed {
    /// How many file systems.
    pub filesystems: u32,
}

/// A thaw that is due is soon done.
const DUE: Duration = Duration::from_secs(30);

#[async_trait]
impl Action for Quiesce {
    const VERB: Verb = Verb::Quiesce;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, id) = (task.host().clone(), self.instance);
        admitted(&host, Self::VERB, id).await?;
        let mut all = host.store.quiesced();
        // One whose time is over is being thawed just now; it is not frozen for long.
        let is_due = |known: &Quiesced| known.until <= SystemTime::now();
        let thawed = all.wait_for(|all| !all.get(&id).is_some_and(is_due));
        let _ = tokio::time::timeout(DUE, thawed).await;
        let known = all.borrow().get(&id).copied();
        if let Some(known) = known
            && host.hypervisor.is_frozen(id).await?
        {
            let until = SystemTime::now() + self.time;
            let filesystems = known.filesystems;
            host.store
                .put_quiesced(id, Quiesced { until, filesystems })
                .await?;
            return task.answer(&Frozen { filesystems, until });
        }
        let until = SystemTime::now() + self.time;
        let freeze = FreezeGuest {
            instance: id,
            until,
            optional: false,
        };
        let filesystems = task.run(freeze).await.map_err(|e| failed(id, e))?;
        task.answer(&Frozen { filesystems, until })
    }
}

/// An agent that says no could not freeze.
fn failed(id: InstanceId, e: Error) -> Error {
    if e.reason() != "GUEST_AGENT_ERROR" {
        return e;
    }
    let message = format!("the file systems of {id} cannot be frozen: {e}");
    let failed = Error::new(Kind::Precondition, "QUIESCE_FAILED", message);
    failed.with("instance_id", id).in_phase(Phase::Quiesce)
}

#[async_trait]
impl Action for Unquiesce {
    const VERB: Verb = Verb::Unquiesce;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, id) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, id).await?;
        let filesystems = match standing.already {
            // Paused or saved it may be frozen, and its agent cannot be asked: it is thawed as soon as it can.
            true => {
                let known = host.store.quiesced().borrow().contains_key(&id);
                if known {
                    let until = SystemTime::now();
                    let due = Quiesced {
                        until,
                        filesystems: 0,
                    };
                    host.store.put_quiesced(id, due).await?;
                }
                0
            }
            false => {
                task.report().begin(Phase::Quiesce, "thawing file systems");
                let thawed = host.hypervisor.thaw(id).await;
                let thawed = thawed.map_err(|e: HypervisorError| Error::from(e));
                let thawed = thawed.map_err(|e| e.in_phase(Phase::Quiesce))?;
                host.store.remove_quiesced(id).await?;
                task.report().end(Phase::Quiesce);
                thawed
            }
        };
        task.answer(&Thawed { filesystems })
    }
}
