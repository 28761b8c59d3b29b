//! InjectFile: a file is written inside the guest, whole or not at all.

use std::time::Duration;

use async_trait::async_trait;

use super::{Action, standing::admitted};
use crate::{
    error::{Error, Result},
    model::{InstanceId, Phase, Secret, Verb},
    plan::inside,
    step::{WriteGuestFile, inside as guest},
    task::Task,
};

/// Writes a file inside the guest: under another name beside it, which takes its place when all is well.
#[derive(Clone, Debug)]
pub struct InjectFile {
    /// Whose.
    pub instance: InstanceId,
    /// Its absolute path.
    pub path: String,
    /// Its bytes.
    pub contents: Secret<Vec<u8>>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner; the agent's own user unless said.
    pub owner: Option<String>,
}

/// A rename takes no time of its own.
const RENAME: Duration = Duration::from_secs(20);

#[async_trait]
impl Action for InjectFile {
    const VERB: Verb = Verb::InjectFile;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        admitted(&host, Self::VERB, instance).await?;
        guest::writes_and_runs(&host, instance).await?;
        let part = inside::part_of(instance, &self.path);
        let write = WriteGuestFile {
            instance,
            part: part.clone(),
            contents: Some(self.contents.clone()),
        };
        task.run(write).await?;
        let meta = (self.mode, self.owner.as_deref());
        let finish = inside::finish_file(&part, &self.path, meta);
        guest::run_well(&host, instance, &finish, RENAME)
            .await
            .map_err(|e| Error::from(e).in_phase(Phase::Upload))?;
        Ok(())
    }
}
