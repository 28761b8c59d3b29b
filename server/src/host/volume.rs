//! Volumes as this host meets them: with its own name and with the secrets that the hypervisor keeps.

use tracing::warn;

use super::Host;
use crate::{
    error::{Error, Result},
    hypervisor::HypervisorError,
    model::{BlockDevice, InstanceId, InstanceRecord, Secret, SecretName, Volume, VolumeTarget},
    volume::{Credentials, VolumeError},
};

impl Host {
    /// The same device with its secret's mark: from here on it can be told from one with another secret.
    #[must_use]
    pub fn marked(&self, device: &BlockDevice) -> BlockDevice {
        device.with_volume(|volume| self.marked_volume(volume))
    }

    /// The same of a volume.
    #[must_use]
    pub fn marked_volume(&self, volume: &Volume) -> Volume {
        let id = volume.id.to_string();
        volume.with_login(|login| {
            let secret = login.secret.as_ref().map(Secret::expose);
            if let Some(secret) = secret {
                let parts: [&[u8]; 3] = [b"volume", id.as_bytes(), secret];
                login.mark = self.store.fingerprinter().of(&parts);
            }
        })
    }

    /// Looks at a volume that an instance has or is to have: the same one as it is kept, with what was seen of it.
    ///
    /// # Errors
    /// When it cannot be reached, is not what its caller says, or has a secret that nobody here may keep.
    pub async fn connect(&self, instance: InstanceId, volume: &Volume) -> Result<Volume> {
        let own = self.credentials(instance, volume).await?;
        Ok(self.volumes.connect(volume, &own).await?)
    }

    /// The same device, its volume looked at, if it is one.
    ///
    /// # Errors
    /// Those of [`Host::connect`].
    pub async fn connected(
        &self,
        instance: InstanceId,
        device: &BlockDevice,
    ) -> Result<BlockDevice> {
        let Some(volume) = device.volume() else {
            return Ok(device.clone());
        };
        let connected = self.connect(instance, volume).await?;
        Ok(device.with_volume(|_| connected))
    }

    async fn credentials(&self, instance: InstanceId, volume: &Volume) -> Result<Credentials> {
        let initiator = match &volume.target {
            VolumeTarget::Iscsi(_) => self.initiator().await?.iqn,
            _ => None,
        };
        let Some((login, _)) = volume.login() else {
            return Ok(Credentials {
                initiator,
                secret: None,
            });
        };
        let volume = volume.id;
        if !self.hypervisor.capabilities().await?.secrets {
            return Err(VolumeError::NoSecrets { volume }.into());
        }
        let name = SecretName { instance, volume };
        let secret = match &login.secret {
            Some(said) => Some(said.clone()),
            None => self.hypervisor.kept_secret(name).await?,
        };
        let lost = || Error::internal(format!("the secret of volume {volume} is lost"));
        Ok(Credentials {
            initiator,
            secret: Some(secret.ok_or_else(lost)?),
        })
    }

    /// Removes the secrets of an instance's volumes that it does not have any more.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked, or does not let one go.
    pub async fn forget_secrets(&self, instance: InstanceId) -> Result<()> {
        let record = self.store.instance(instance);
        for name in self.hypervisor.kept_secrets().await? {
            let known = record.as_ref().is_some_and(|record| has(record, name));
            if name.instance == instance && !known {
                self.hypervisor.forget_secret(name).await?;
            }
        }
        Ok(())
    }

    /// The same for after a change whose end is written down: what is left is removed at the next start.
    pub async fn drop_secrets(&self, instance: InstanceId) {
        if let Err(e) = self.forget_secrets(instance).await {
            warn!(%instance, error = %e, "the secret of a volume is left until the next start");
        }
    }

    /// Removes secrets of volumes that nobody has. One whose instance the store does not know, but the hypervisor, stays
    /// with its guest.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked, or does not let one go.
    pub async fn sweep_secrets(&self, busy: impl Fn(InstanceId) -> bool) -> Result<()> {
        for name in self.hypervisor.kept_secrets().await? {
            let stays = match self.store.instance(name.instance) {
                _ if busy(name.instance) => true,
                Some(record) => has(&record, name),
                None => match self.hypervisor.info(name.instance).await {
                    Err(HypervisorError::NotFound(_)) => false,
                    Err(e) => return Err(e.into()),
                    Ok(_) => true,
                },
            };
            if !stays {
                self.hypervisor.forget_secret(name).await?;
            }
        }
        Ok(())
    }
}

/// Whether an instance has the volume that a secret is for.
fn has(record: &InstanceRecord, name: SecretName) -> bool {
    let mut volumes = record
        .spec
        .block_devices
        .iter()
        .filter_map(BlockDevice::volume);
    volumes.any(|volume| volume.id == name.volume && volume.login().is_some())
}
