//! The secret of a volume is given to the hypervisor, which keeps it for every start of the guest.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    host::Host,
    model::{InstanceId, Phase, Secret, SecretName, SecretUse, Volume},
    task::{Cx, Step},
};

/// Gives the hypervisor a secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeepSecret {
    /// Of which volume.
    pub name: SecretName,
    /// What it is for.
    pub usage: SecretUse,
    /// The secret; not needed for the way back.
    #[serde(skip)]
    pub value: Option<Secret<Vec<u8>>>,
}

impl KeepSecret {
    /// Of a volume as its caller describes it; none when it has no secret.
    pub fn of(instance: InstanceId, volume: &Volume) -> Option<Self> {
        let (login, usage) = volume.login()?;
        let volume = volume.id;
        Some(Self {
            name: SecretName { instance, volume },
            usage,
            value: Some(login.secret.clone()?),
        })
    }
}

#[async_trait]
impl Step for KeepSecret {
    type Output = ();
    const NAME: &'static str = "keep secret";
    const PHASE: Phase = Phase::ConnectVolumes;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let Some(value) = &self.value else {
            return Ok(());
        };
        let hypervisor = &cx.host.hypervisor;
        Ok(hypervisor.keep_secret(self.name, self.usage, value).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        // A repeat had better luck, before this could be taken back.
        if host.needs_secret(self.name) {
            return Ok(());
        }
        Ok(host.hypervisor.forget_secret(self.name).await?)
    }
}
