//! The secret of a volume is given to the hypervisor, which keeps it for every start of the guest, or another one in its
//! place.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::forward::Forward;
use crate::{
    error::Result,
    host::Host,
    model::{InstanceId, InstanceRecord, Phase, Secret, SecretName, SecretUse, Volume},
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

/// Gives the hypervisor another secret of a volume. No secret is written down, so what a crash cuts is not taken back but
/// looked at: see `step::forward`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplaceSecret {
    /// Of which volume.
    pub name: SecretName,
    /// What it is for.
    pub usage: SecretUse,
    /// What tells the new secret from any other.
    pub mark: String,
    /// The instance with the new one.
    pub record: InstanceRecord,
    /// The new one.
    #[serde(skip)]
    pub value: Option<Secret<Vec<u8>>>,
    /// The one before.
    #[serde(skip)]
    pub before: Option<Secret<Vec<u8>>>,
}

impl ReplaceSecret {
    /// The end of a replacement that was cut, when the hypervisor has the new secret.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked.
    pub(super) async fn forward(self, host: &Host) -> Result<Option<Forward>> {
        let kept = host.hypervisor.kept_secret(self.name).await?;
        let is_new = kept.is_some_and(|kept| host.mark(self.name.volume, &kept) == self.mark);
        Ok(is_new.then_some(Forward {
            record: self.record,
            answer: None,
        }))
    }
}

#[async_trait]
impl Step for ReplaceSecret {
    type Output = ();
    const NAME: &'static str = "replace secret";
    const PHASE: Phase = Phase::ConnectVolumes;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let Some(value) = &self.value else {
            return Ok(());
        };
        let hypervisor = &cx.host.hypervisor;
        Ok(hypervisor.keep_secret(self.name, self.usage, value).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        match &self.before {
            Some(before) => {
                let keep = host.hypervisor.keep_secret(self.name, self.usage, before);
                Ok(keep.await?)
            }
            None => Ok(()),
        }
    }
}
