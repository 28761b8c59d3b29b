//! Secrets that the hypervisor keeps for its emulators: a definition names one by its id, and never holds it.

use async_trait::async_trait;

use super::Result;
use crate::model::{Secret, SecretName, SecretUse};

/// Secrets of volumes. They outlive the guest's run, the server and the host's.
#[async_trait]
pub trait Secrets {
    /// Whether any can be kept. An error says that this cannot be told now, never that none can.
    async fn keeps_secrets(&self) -> Result<bool>;

    /// Keeps a secret, in place of what was kept under that name before.
    async fn keep_secret(
        &self,
        name: SecretName,
        usage: SecretUse,
        value: &Secret<Vec<u8>>,
    ) -> Result<()>;

    /// What is kept under a name.
    async fn kept_secret(&self, name: SecretName) -> Result<Option<Secret<Vec<u8>>>>;

    /// Forgets one; absent is a success.
    async fn forget_secret(&self, name: SecretName) -> Result<()>;

    /// The names of all that are ours; none where no secret can be kept.
    async fn kept_secrets(&self) -> Result<Vec<SecretName>>;
}
