//! Buries the QEMU processes that end below us.
//!
//! libvirt makes QEMU a daemon, so it is nobody's child, and waits until its process id is gone: as long as whoever
//! inherits it takes to bury it. Some inits take two seconds. So we inherit it ourselves, as the subreaper of all that is
//! started below us, and bury it at once: a guest is then destroyed in the 0.2 s that libvirt itself takes.
//!
//! What must never be taken is a child that somebody waits for by its id: a command of ours, or one of libvirt's. A
//! child that we started is in our session, or leads one of its own. What is in another's session was inherited.

use std::{fs, io, time::Duration};

use rustix::process::{Pid, WaitOptions};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::MissedTickBehavior,
};
use tracing::{debug, warn};

use super::process::{Process, Status};

/// Signals may merge and children may be told of late; nothing stays unburied longer than this.
const SWEEP: Duration = Duration::from_secs(5);

/// The task that buries; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Reaper(JoinHandle<()>);

impl Reaper {
    /// Makes this process inherit, and starts the task. Needs a tokio runtime.
    pub(super) fn start() -> io::Result<Self> {
        // Before the driver starts anything: what is orphaned earlier goes to somebody else.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut ended = signal(SignalKind::child())?;
        Ok(Self(tokio::spawn(async move {
            let mut sweep = tokio::time::interval(SWEEP);
            sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                // Either is reason enough; neither is more urgent.
                tokio::select! {
                    _ = ended.recv() => {}
                    _ = sweep.tick() => {}
                }
                // Looking at every child reads a file each, which takes too long for a runtime's thread.
                if tokio::task::spawn_blocking(bury).await.is_err() {
                    warn!("burying orphans failed");
                }
            }
        })))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Buries all that was inherited and has ended.
fn bury() {
    let children = children().unwrap_or_else(|e| {
        warn!(error = %e, "cannot list child processes");
        Vec::new()
    });
    // Not by getsid: in a pid namespace whose session was begun outside, ours is 0, which is no process id.
    let session = match Process::read(rustix::process::getpid().as_raw_pid()) {
        Ok(me) => me.session,
        Err(e) => return warn!(error = %e, "this process cannot be looked at"),
    };
    for pid in children {
        let Ok(process) = Process::read(pid) else {
            continue;
        };
        let inherited = process.session != session && process.session != pid;
        if process.status != Status::Zombie || !inherited {
            continue;
        }
        let Some(id) = Pid::from_raw(pid) else {
            continue;
        };
        match rustix::process::waitpid(Some(id), WaitOptions::NOHANG) {
            Ok(_) => debug!(pid, command = process.command, "an orphan ended"),
            Err(e) => debug!(pid, error = %e, "an orphan could not be buried"),
        }
    }
}

/// Children of all our threads: an orphan is given to any of them.
fn children() -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may end while we look.
        let Ok(listed) = fs::read_to_string(thread?.path().join("children")) else {
            continue;
        };
        children.extend(
            listed
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    Ok(children)
}
