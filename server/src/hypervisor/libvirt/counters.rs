//! What is counted of guests: what the host knows, read of all at once, and what only a guest's monitor knows.
//!
//! The first never asks a monitor, so that a guest that hangs keeps nobody waiting: libvirt's bulk call for states and
//! interfaces, and /proc for all that the kernel counts of an emulator. The second is one guest at a time, on threads of
//! its own.

mod emulator;
mod host;
mod life;
mod monitor;
mod question;
mod rows;
mod tap;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

pub(super) use self::{
    emulator::folder,
    host::{all, one},
    monitor::ask,
    question::Turn,
};
use self::{
    emulator::{Emulators, Sight},
    life::Lives,
    question::Questions,
    tap::Taps,
};
use super::process::Halt;
use crate::{
    hypervisor::{HypervisorError, Result, stats::Groups},
    model::InstanceId,
};

/// A disk that is only slow lets go of an emulator within this.
const DEVICE: Duration = Duration::from_millis(5);

/// What is remembered of guests from one counting to the next, and who counts now.
#[derive(Debug)]
pub(super) struct Counters {
    emulators: Emulators,
    lives: Lives,
    taps: Taps,
    questions: Arc<Questions>,
    /// A sweep over very many guests takes a worker for long; the others are for everybody else.
    sweep: Arc<Semaphore>,
}

impl Counters {
    /// `folder` is where libvirt keeps the process ids of its emulators, when that is on this host.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            emulators: Emulators::new(folder),
            lives: Lives::default(),
            taps: Taps::default(),
            questions: Arc::default(),
            sweep: Arc::new(Semaphore::new(1)),
        }
    }

    /// The one sweep at a time; `Busy` when the one before does not end within `limit`.
    pub(super) async fn sweep(&self, limit: Duration) -> Result<OwnedSemaphorePermit> {
        match timeout(limit, self.sweep.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(HypervisorError::Busy),
        }
    }

    /// Tells this start of the guest from all others.
    fn life(&self, id: InstanceId, sight: Option<&Sight>, run: u32) -> u64 {
        self.lives.tell(id, run, sight.map(Sight::life))
    }

    /// What tells the guest's emulator from all others, as far as it can be seen.
    pub(super) fn seen_life(&self, id: InstanceId) -> Option<u64> {
        self.emulators.look(id).map(|sight| sight.life())
    }

    /// Processor time of that emulator, if it is still the guest's.
    pub(super) fn cpu_time_ns(&self, id: InstanceId, life: u64) -> Option<u64> {
        let sight = self.emulators.again(id)?;
        (sight.life() == life).then(|| sight.cpu_time_ns())
    }

    /// Whether to look at the guest before it is asked: what was never seen cannot be seen to hang.
    pub(super) fn is_unseen(&self, id: InstanceId) -> bool {
        self.emulators.is_unseen(id)
    }

    /// A guest's turn to be asked by its monitor, or what it has said to somebody else since. `Busy` when it has not
    /// answered an earlier question for long, and when its emulator can be seen not to run: a thread that asked it would
    /// be lost to those that answer.
    pub(super) async fn turn(&self, id: InstanceId, groups: Groups) -> Result<Turn> {
        let turn = self.questions.turn(id, groups).await;
        let turn = turn.ok_or(HypervisorError::Busy)?;
        if matches!(turn, Turn::Answered(_)) {
            return Ok(turn);
        }
        match self.emulators.halt(id) {
            None => Ok(turn),
            Some(Halt::Stopped) => Err(HypervisorError::Busy),
            Some(Halt::Device) => {
                sleep(DEVICE).await;
                match self.emulators.halt(id) {
                    None => Ok(turn),
                    Some(_) => Err(HypervisorError::Busy),
                }
            }
        }
    }
}
