//! What a caller waits for beyond RUNNING: the guest's console and its agent are watched until they show it.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::watch;

use crate::{
    boot::BootWatch,
    console::{ConsoleLog, Until},
    error::{Error, Kind, Result},
    hypervisor::{HypervisorError, Signal},
    model::{InstanceId, Phase, PowerState, WaitFor, WaitTarget},
    plan,
    task::{Task, cancelled},
};

/// Between two questions to an agent whose channel is open: it opens the channel a moment before it listens.
const AGENT_PAUSE: Duration = Duration::from_millis(500);

/// What is noted before a guest starts, so that nothing of its boot is missed, nor anything older taken for it.
#[derive(Debug)]
pub(in crate::action) struct Before {
    signals: watch::Receiver<Signal>,
    log: u64,
}

impl Before {
    /// Notes it.
    ///
    /// # Errors
    /// When the console's log cannot be looked at.
    pub(in crate::action) async fn start(task: &Task, id: InstanceId) -> Result<Self> {
        let end = log(task, id).end().await?;
        Ok(Self {
            signals: task.host().hypervisor.signals(id),
            log: end.unwrap_or(0),
        })
    }
}

fn log(task: &Task, id: InstanceId) -> ConsoleLog {
    ConsoleLog::new(task.host().paths.instance(id).join(plan::CONSOLE_LOG))
}

/// Waits until the guest shows what is waited for.
///
/// # Errors
/// `WAIT_TIMEOUT`; `GUEST_CRASHED` when the guest stops first; `OPERATION_CANCELLED`.
pub(in crate::action) async fn wait(
    task: &Task,
    id: InstanceId,
    (wait_for, before): (&WaitFor, Before),
) -> Result<()> {
    let phase = match &wait_for.target {
        WaitTarget::Phase(phase) => *phase,
        WaitTarget::Console(_) => Phase::ConsolePattern,
    };
    let Before { signals, log } = before;
    let shown = async {
        // The agent shows itself beside the console, whose phases are told meanwhile.
        match phase {
            Phase::Agent => tokio::select! {
                agent = agent(task, id, signals.clone()) => agent,
                console = console(task, id, (wait_for, log)) => console,
            },
            _ => console(task, id, (wait_for, log)).await,
        }
    };
    // Biased: what the guest has shown counts, also when it stops or the time ends at the same moment.
    tokio::select! {
        biased;
        shown = shown => shown,
        stopped = stopped(id, signals.clone()) => Err(stopped.in_phase(phase)),
        () = task.cancel().cancelled() => Err(cancelled().in_phase(phase)),
        () = tokio::time::sleep(wait_for.timeout) => Err(late(id, wait_for.timeout).in_phase(phase)),
    }
}

fn late(id: InstanceId, timeout: Duration) -> Error {
    let message = format!("guest {id} did not show what was waited for within {timeout:?}");
    Error::new(Kind::Deadline, "WAIT_TIMEOUT", message).with("instance_id", id)
}

/// Ends when the guest has stopped by itself.
async fn stopped(id: InstanceId, mut signals: watch::Receiver<Signal>) -> Error {
    let over = |signal: &Signal| {
        matches!(
            signal.state,
            Some(PowerState::Shutdown | PowerState::Crashed)
        )
    };
    if signals.wait_for(over).await.is_err() {
        std::future::pending::<()>().await;
    }
    let message = format!("guest {id} stopped before it showed what was waited for");
    Error::new(Kind::Pending, "GUEST_CRASHED", message).with("instance_id", id)
}

/// Tells the phases that the console shows, until the one that is waited for.
async fn console(task: &Task, id: InstanceId, (wait_for, from): (&WaitFor, u64)) -> Result<()> {
    let pattern = match &wait_for.target {
        WaitTarget::Console(pattern) => Some(pattern.parse()?),
        WaitTarget::Phase(_) => None,
    };
    let report = task.report();
    let mut since = Instant::now();
    let mut boot = BootWatch::new(pattern);
    let log = log(task, id);
    let mut chunks = std::pin::pin!(log.follow(&task.host().watcher, from, Until::Removed));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        for seen in boot.feed(&chunk.bytes) {
            // A guest tells only what it has reached: the way there began at what was seen before.
            report.begin_since(seen.phase, "seen on the console", since);
            report.shown(seen.phase, &seen.line);
            since = Instant::now();
        }
        let reached = match &wait_for.target {
            WaitTarget::Phase(phase) => boot.has_reached(*phase),
            WaitTarget::Console(_) => boot.has_reached(Phase::ConsolePattern),
        };
        if reached {
            return Ok(());
        }
    }
    // The log never ends while the guest is there; that it stopped is told by its signals.
    std::future::pending().await
}

/// Waits until the agent's channel is open and the agent answers.
async fn agent(task: &Task, id: InstanceId, mut signals: watch::Receiver<Signal>) -> Result<()> {
    let report = task.report();
    report.begin(Phase::Agent, "waiting for the guest agent");
    loop {
        if signals.wait_for(|signal| signal.agent).await.is_err() {
            std::future::pending::<()>().await;
        }
        match task.host().hypervisor.ping_agent(id).await {
            Ok(()) => {
                report.end(Phase::Agent);
                return Ok(());
            }
            Err(HypervisorError::Unsupported { message }) => {
                return Err(HypervisorError::Unsupported { message }.into());
            }
            // Not yet, or the hypervisor is away: the limit of the wait bounds both.
            Err(_) => tokio::time::sleep(AGENT_PAUSE).await,
        }
    }
}
