//! SetAdminPassword: an account of the guest gets a new password.

use async_trait::async_trait;

use super::{Action, standing::admitted};
use crate::{
    error::{Error, Result},
    model::{InstanceId, Phase, Secret, Verb},
    task::Task,
};

/// Sets a password inside the guest. Nothing of it is kept here.
#[derive(Clone, Debug)]
pub struct SetAdminPassword {
    /// Whose.
    pub instance: InstanceId,
    /// The account; the administrator's unless said.
    pub account: Option<String>,
    /// The password.
    pub password: Secret<String>,
}

#[async_trait]
impl Action for SetAdminPassword {
    const VERB: Verb = Verb::SetAdminPassword;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let host = task.host().clone();
        let standing = admitted(&host, Self::VERB, self.instance).await?;
        let properties = &standing.record.spec.properties;
        let account = self.account.as_deref();
        let account = account.unwrap_or_else(|| properties.administrator());
        task.report().begin(Phase::Agent, "setting a password");
        host.hypervisor
            .set_password(self.instance, account, &self.password)
            .await
            .map_err(|e| Error::from(e).in_phase(Phase::Agent))?;
        task.report().end(Phase::Agent);
        Ok(())
    }
}
