//! Inside the guest, through its agent: programs are run to their end, a file is written beside its place, file systems
//! are frozen. The way back of each ends also when the agent does not answer any more: what is left then inside the guest
//! keeps no operation waiting.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    error::{Error, Result},
    host::Host,
    hypervisor::{
        HypervisorError,
        agent::{Ended, Program, wire::CHUNK},
    },
    model::{Amount, InstanceId, Phase, Secret},
    plan::inside,
    store::Quiesced,
    task::{Cx, Step, cancelled},
};

/// Between two looks at a program that runs: short ones are there at the first.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The scripts for files take no time of their own.
const SHORT: Duration = Duration::from_secs(20);
/// Of what a program complains of, so much is told.
const WORDS: usize = 300;

/// What the agent must be able to do to run programs.
pub const RUNS: [&str; 2] = ["guest-exec", "guest-exec-status"];
/// What it must be able to do to write files.
const WRITES: [&str; 3] = ["guest-file-open", "guest-file-write", "guest-file-close"];

/// Looks whether the guest's agent is there and can do all of this, before anything is begun.
///
/// # Errors
/// `GUEST_AGENT_UNAVAILABLE` when it cannot; the agent's own.
pub async fn able(host: &Host, guest: InstanceId, commands: &[&'static str]) -> Result<()> {
    let facts = host.hypervisor.agent_facts(guest).await?;
    let knows = |command: &&&str| facts.commands.iter().any(|known| known == **command);
    match commands.iter().find(|command| !knows(command)) {
        Some(command) => Err(HypervisorError::AgentLacks { guest, command }.into()),
        None => Ok(()),
    }
}

/// Looks whether the guest's agent can write a file and run a program, before anything is begun.
///
/// # Errors
/// As [`able`].
pub async fn writes_and_runs(host: &Host, guest: InstanceId) -> Result<()> {
    let able = able(host, guest, &[&RUNS[..], &WRITES[..]].concat()).await;
    able.map_err(|e| e.in_phase(Phase::Agent))
}

/// Runs a program inside the guest to its end.
///
/// # Errors
/// The agent's; `GUEST_AGENT_TIMEOUT` when it runs for longer than `limit`, and goes on.
pub async fn run(
    host: &Host,
    id: InstanceId,
    program: &Program,
    limit: Duration,
) -> Result<Ended, HypervisorError> {
    let end = Instant::now() + limit;
    let pid = host.hypervisor.run(id, program).await?;
    let mut pause = LOOK.0;
    while Instant::now() < end {
        tokio::time::sleep(pause).await;
        if let Some(ended) = host.hypervisor.ended(id, pid).await? {
            return Ok(ended);
        }
        pause = (pause * 2).min(LOOK.1);
    }
    Err(HypervisorError::AgentTimeout(id))
}

/// The same, and it must end well.
///
/// # Errors
/// `GUEST_AGENT_ERROR` with what it complained of.
pub async fn run_well(
    host: &Host,
    id: InstanceId,
    program: &Program,
    limit: Duration,
) -> Result<Ended, HypervisorError> {
    let ended = run(host, id, program, limit).await?;
    match ended.code {
        Some(0) => Ok(ended),
        code => Err(ended_badly(id, code, &ended.err)),
    }
}

/// A program that did not end well, in words.
pub fn ended_badly(guest: InstanceId, code: Option<i64>, words: &[u8]) -> HypervisorError {
    let how = match code {
        Some(code) => format!("ended with status {code}"),
        None => "was ended by a signal".to_owned(),
    };
    let words = String::from_utf8_lossy(words);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let words: String = words.trim().chars().map(plain).take(WORDS).collect();
    HypervisorError::AgentFailed {
        guest,
        message: format!("what it ran {how}: {words}"),
    }
}

/// Whether the agent may be there again in a moment.
pub fn is_away(e: &HypervisorError) -> bool {
    use HypervisorError as E;
    matches!(
        e,
        E::Agent(_) | E::AgentTimeout(_) | E::AgentFailed { .. } | E::Busy
    )
}

/// Whether nobody inside the guest can be asked now.
fn is_silent(e: &HypervisorError) -> bool {
    use HypervisorError as E;
    matches!(
        e,
        E::Agent(_) | E::AgentLacks { .. } | E::AgentTimeout(_) | E::AgentFailed { .. }
    ) || matches!(e, E::State { .. } | E::NotFound(_))
}

/// The way back ran, or there is nobody to run it.
fn taken_back<T>(id: InstanceId, what: &str, done: Result<T, HypervisorError>) -> Result<()> {
    match done {
        Err(e) if is_silent(&e) => {
            warn!(instance = %id, what, error = %e, "the guest keeps what an operation left in it");
            Ok(())
        }
        done => Ok(done.map(drop)?),
    }
}

/// Writes all of a file that is there already.
///
/// # Errors
/// The agent's; `OPERATION_CANCELLED`.
pub async fn write(cx: Cx<'_>, id: InstanceId, (path, bytes): (&str, &[u8])) -> Result<()> {
    let agent = &cx.host.hypervisor;
    let file = agent.open_file(id, path).await?;
    let total = Some(bytes.len() as u64);
    for (nth, chunk) in bytes.chunks(CHUNK).enumerate() {
        let written = match cx.cancel.is_cancelled() {
            true => Err(cancelled()),
            false => agent.write_file(id, file, chunk).await.map_err(Error::from),
        };
        if let Err(e) = written {
            // The agent would keep it open as long as it runs.
            let _ = agent.close_file(id, file).await;
            return Err(e);
        }
        let done = (nth * CHUNK + chunk.len()) as u64;
        let amount = Some(Amount::Bytes { done, total });
        cx.report.advance(Phase::Upload, "", amount);
    }
    Ok(agent.close_file(id, file).await?)
}

/// Writes a file inside the guest, under another name.
#[derive(Debug, Serialize, Deserialize)]
pub struct WriteGuestFile {
    /// Whose.
    pub instance: InstanceId,
    /// That name.
    pub part: String,
    /// Its bytes; not needed for the way back.
    #[serde(skip)]
    pub contents: Option<Secret<Vec<u8>>>,
}

#[async_trait]
impl Step for WriteGuestFile {
    type Output = ();
    const NAME: &'static str = "write guest file";
    const PHASE: Phase = Phase::Upload;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let Some(contents) = &self.contents else {
            return Err(Error::internal("nothing to write"));
        };
        let begin = inside::begin_file(&self.part);
        run_well(cx.host, self.instance, &begin, SHORT).await?;
        write(cx, self.instance, (&self.part, contents.expose())).await
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let removed = run_well(host, self.instance, &inside::drop_file(&self.part), SHORT).await;
        taken_back(self.instance, "a part of a file", removed)
    }
}

/// Makes the folder in the guest from which its agent is renewed.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpdateFolder {
    /// Whose.
    pub instance: InstanceId,
}

#[async_trait]
impl Step for UpdateFolder {
    type Output = ();
    const NAME: &'static str = "update folder";
    const PHASE: Phase = Phase::Upload;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        run_well(cx.host, self.instance, &inside::begin_update(), SHORT).await?;
        Ok(())
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let removed = run_well(host, self.instance, &inside::end_update(), SHORT).await;
        taken_back(self.instance, "the folder of an update", removed)
    }
}

/// Thaws a guest that is frozen by our own doing. One that does not hear it is left to whoever looks after thaws, who goes
/// on until it does, or is off.
///
/// # Errors
/// When it cannot be written down.
pub async fn thaw(host: &Host, id: InstanceId) -> Result<()> {
    let Err(e) = host.hypervisor.thaw(id).await else {
        return Ok(host.store.remove_quiesced(id).await?);
    };
    warn!(instance = %id, error = %e, "the guest cannot be thawed yet");
    let due = Quiesced {
        until: SystemTime::now(),
        filesystems: 0,
    };
    Ok(host.store.put_quiesced(id, due).await?)
}

/// Freezes the guest's file systems until a time that is written down first: whatever happens, they thaw then.
#[derive(Debug, Serialize, Deserialize)]
pub struct FreezeGuest {
    /// Which one.
    pub instance: InstanceId,
    /// Until when.
    pub until: SystemTime,
    /// Whether a guest that cannot be frozen is let go on.
    #[serde(default)]
    pub optional: bool,
}

#[async_trait]
impl Step for FreezeGuest {
    /// How many file systems; 0 when it could not be and need not be.
    type Output = u32;
    const NAME: &'static str = "freeze guest";
    const PHASE: Phase = Phase::Quiesce;

    async fn apply(&self, cx: Cx<'_>) -> Result<u32> {
        let (store, id, until) = (&cx.host.store, self.instance, self.until);
        let none = Quiesced {
            until,
            filesystems: 0,
        };
        store.put_quiesced(id, none).await?;
        let filesystems = match cx.host.hypervisor.freeze(id).await {
            Ok(filesystems) => filesystems,
            Err(e) if self.optional => {
                warn!(instance = %id, error = %e, "the guest cannot be frozen, and goes on");
                thaw(cx.host, id).await?;
                return Ok(0);
            }
            Err(e) => return Err(e.into()),
        };
        store
            .put_quiesced(id, Quiesced { until, filesystems })
            .await?;
        Ok(filesystems)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        // Written down before it was frozen, struck when it was thawed.
        let frozen = host.store.quiesced().borrow().contains_key(&self.instance);
        if frozen {
            thaw(host, self.instance).await?;
        }
        Ok(())
    }
}
