//! Secrets in memory.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use async_trait::async_trait;

use super::Fake;
use crate::{
    domain::{Disk, Domain},
    hypervisor::{HypervisorError, Result, secret::Secrets},
    model::{Secret, SecretName, SecretUse},
};

/// Secrets by their names.
pub type KeptSecrets = BTreeMap<SecretName, (SecretUse, Secret<Vec<u8>>)>;

impl Fake {
    /// All that are kept, for comparing before with after.
    pub fn secrets(&self) -> KeptSecrets {
        self.secrets.lock().clone()
    }

    /// From now on no secret can be kept.
    pub fn keeps_no_secrets(&self) {
        self.careless.store(true, Ordering::Release);
    }

    /// Fails as an emulator does that is told of a secret which nobody keeps.
    pub(super) fn unlock<'a>(&self, disks: impl IntoIterator<Item = &'a Disk>) -> Result<()> {
        let kept = self.secrets.lock();
        let mut logins = disks.into_iter().filter_map(|disk| disk.source.login());
        let known = |id| kept.keys().any(|name| name.uuid() == id);
        match logins.find(|login| !known(login.secret)) {
            None => Ok(()),
            Some(login) => Err(HypervisorError::Failed {
                call: "secret",
                message: format!("no secret with the id {}", login.secret),
                code: 60,
                domain: 30,
            }),
        }
    }

    pub(super) fn unlock_all(&self, domain: &Domain) -> Result<()> {
        self.unlock(&domain.disks)
    }
}

#[async_trait]
impl Secrets for Fake {
    async fn keeps_secrets(&self) -> Result<bool> {
        self.enter("keeps_secrets").await?;
        let keeps = !self.careless.load(Ordering::Acquire);
        self.faults.leave("keeps_secrets").map(|()| keeps)
    }

    async fn keep_secret(
        &self,
        name: SecretName,
        usage: SecretUse,
        value: &Secret<Vec<u8>>,
    ) -> Result<()> {
        self.enter("keep_secret").await?;
        self.secrets.lock().insert(name, (usage, value.clone()));
        self.faults.leave("keep_secret")
    }

    async fn kept_secret(&self, name: SecretName) -> Result<Option<Secret<Vec<u8>>>> {
        self.enter("kept_secret").await?;
        let kept = self
            .secrets
            .lock()
            .get(&name)
            .map(|(_, value)| value.clone());
        self.faults.leave("kept_secret").map(|()| kept)
    }

    async fn forget_secret(&self, name: SecretName) -> Result<()> {
        self.enter("forget_secret").await?;
        self.secrets.lock().remove(&name);
        self.faults.leave("forget_secret")
    }

    async fn kept_secrets(&self) -> Result<Vec<SecretName>> {
        self.enter("kept_secrets").await?;
        let names = self.secrets.lock().keys().copied().collect();
        self.faults.leave("kept_secrets").map(|()| names)
    }
}
