//! UpdateAgent: a program that installs a new agent is fetched once for this host, verified, put into the guest and run
//! there, beside the agent that it may stop and replace.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Action, standing::admitted};
use crate::{
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::{HypervisorError, agent::AgentFacts},
    image::{CachedImage, ImageProgress},
    model::{Bytes, ImageFile, InstanceId, Phase, Verb},
    plan::inside,
    step::{UpdateFolder, inside as guest},
    task::{Cx, Task, cancelled},
};

/// Renews the guest's agent.
#[derive(Clone, Debug)]
pub struct UpdateAgent {
    /// Whose.
    pub instance: InstanceId,
    /// The program, with what it must hash to.
    pub program: ImageFile,
}

/// The agent that runs afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Its version.
    pub version: String,
}

/// All of it goes through a serial port.
const LARGEST: Bytes = Bytes(64 << 20);
/// A package manager may have to wait for another one.
const INSTALL: Duration = Duration::from_secs(600);
/// An agent that was replaced just now comes up.
const COME_BACK: Duration = Duration::from_secs(60);
/// Between two questions to an agent that may be away.
const PAUSE: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_secs(20);

#[async_trait]
impl Action for UpdateAgent {
    const VERB: Verb = Verb::UpdateAgent;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        admitted(&host, Self::VERB, instance).await?;
        guest::writes_and_runs(&host, instance).await?;
        let program = self.fetch(task).await?;
        task.run(UpdateFolder { instance }).await?;
        self.put(task, &program).await?;
        let report = task.report().clone();
        report.begin(Phase::Agent, "the new agent is installed");
        let installed = tokio::select! {
            biased;
            () = task.cancel().cancelled() => Err(cancelled()),
            installed = install(&host, instance) => installed,
        };
        let facts = installed.map_err(|e| e.in_phase(Phase::Agent))?;
        report.end(Phase::Agent);
        let version = facts.version;
        task.answer(&Updated { version })
    }
}

impl UpdateAgent {
    /// The program, on this host; a guest's neighbours have it from the cache.
    async fn fetch(&self, task: &Task) -> Result<Arc<CachedImage>> {
        let report = task.report().clone();
        report.begin(Phase::FetchImage, "fetching the program");
        let shown = report.clone();
        let show =
            move |progress: ImageProgress| shown.advance(progress.phase, "", Some(progress.amount));
        let fetched = tokio::select! {
            biased;
            fetched = task.host().images.ensure_file(&self.program, show) => fetched.map_err(Error::from),
            () = task.cancel().cancelled() => Err(cancelled()),
        };
        let fetched = fetched.and_then(|cached| match cached.record.source_size {
            size if size > LARGEST => Err(too_large(size)),
            _ => Ok(cached),
        });
        let fetched = fetched.map_err(|e| e.in_phase(Phase::FetchImage))?;
        report.end(Phase::FetchImage);
        Ok(fetched)
    }

    async fn put(&self, task: &Task, program: &CachedImage) -> Result<()> {
        let bytes = tokio::fs::read(&program.path).await;
        let bytes = bytes.map_err(|e| Error::internal(format!("the program is gone: {e}")))?;
        let report = task.report();
        report.begin(Phase::Upload, "writing the program into the guest");
        let cx = Cx {
            host: task.host(),
            report,
            cancel: task.cancel(),
        };
        guest::write(cx, self.instance, (&inside::updater(), &bytes))
            .await
            .map_err(|e| e.in_phase(Phase::Upload))?;
        report.end(Phase::Upload);
        Ok(())
    }
}

fn too_large(size: Bytes) -> Error {
    let message = format!("the program has {size}, at most {LARGEST} go into a guest");
    Error::new(Kind::Precondition, "IMAGE_UNACCEPTABLE", message)
}

/// Runs the program to its end, and waits for an agent that answers.
async fn install(host: &Host, id: InstanceId) -> Result<AgentFacts> {
    guest::run_well(host, id, &inside::start_update(), SHORT).await?;
    let end = Instant::now() + INSTALL;
    let said = loop {
        tokio::time::sleep(PAUSE).await;
        match guest::run(host, id, &inside::ask_update(), SHORT).await {
            Ok(ended) if ended.code == Some(0) => break ended.out,
            Ok(ended) if ended.code == Some(inside::STILL) => {}
            Ok(ended) => return Err(guest::ended_badly(id, ended.code, &ended.err).into()),
            Err(e) if guest::is_away(&e) => {}
            Err(e) => return Err(e.into()),
        }
        if Instant::now() > end {
            return Err(HypervisorError::AgentTimeout(id).into());
        }
    };
    let (status, words) = match said.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&said[..at], &said[at + 1..]),
        None => (&said[..], &[][..]),
    };
    let status: Option<i64> = String::from_utf8_lossy(status).trim().parse().ok();
    if status != Some(0) {
        let failed = Error::from(guest::ended_badly(id, status, words));
        return Err(match status {
            Some(status) => failed.with("exit_status", status),
            None => failed,
        });
    }
    come_back(host, id).await
}

/// The agent, once it answers again; the folder of the update is removed then.
async fn come_back(host: &Host, id: InstanceId) -> Result<AgentFacts> {
    let end = Instant::now() + COME_BACK;
    loop {
        let removed = guest::run_well(host, id, &inside::end_update(), SHORT).await;
        let facts = match removed {
            Ok(_) => host.hypervisor.agent_facts(id).await,
            Err(e) => Err(e),
        };
        match facts {
            Err(e) if guest::is_away(&e) && Instant::now() < end => {
                tokio::time::sleep(PAUSE).await;
            }
            facts => return Ok(facts?),
        }
    }
}
