//! Volumes as this host meets them: with its own name and with the secrets that the hypervisor keeps.

use tracing::warn;

use super::Host;
use crate::{
    error::{Error, Result},
    hypervisor::HypervisorError,
    model::{
        BlockDevice, InstanceId, InstanceRecord, InstanceState, Secret, SecretName, Volume,
        VolumeId, VolumeTarget,
    },
    volume::{self, Credentials, VolumeError},
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
        volume.with_login(|login| {
            if let Some(secret) = &login.secret {
                login.mark = self.mark(volume.id, secret);
            }
        })
    }

    /// What tells a volume's secret from another one: a keyed hash.
    pub fn mark(&self, volume: VolumeId, secret: &Secret<Vec<u8>>) -> String {
        let id = volume.to_string();
        let parts: [&[u8]; 3] = [b"volume", id.as_bytes(), secret.expose()];
        self.store.fingerprinter().of(&parts)
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

    /// The same disks as they are now, before a guest is given them back: a block device where its path leads, and what is
    /// not on this host asked for once more. QEMU would wait for a server that is gone, and the starts of other guests
    /// behind it.
    ///
    /// # Errors
    /// Those of [`Host::connect`]; and when a path leads nowhere any more, or to what is not the disk that it was.
    pub async fn found_again(
        &self,
        instance: InstanceId,
        devices: &[BlockDevice],
    ) -> Result<Vec<BlockDevice>> {
        let found = self.volumes.found_again(devices).await?;
        let asked = found.iter().map(|device| async move {
            match device.volume() {
                Some(known) if known.is_remote() => {
                    let found = self.connect(instance, known).await?;
                    volume::same(known, &found)?;
                    Ok(device.with_volume(|_| found))
                }
                _ => Ok(device.clone()),
            }
        });
        futures::future::try_join_all(asked).await
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
        if !self.hypervisor.keeps_secrets().await? {
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

    /// Removes all secrets of an instance that goes; what is left is removed at the next start.
    pub async fn drop_all_secrets(&self, record: &InstanceRecord) {
        let instance = record.spec.id;
        for volume in volumes(record).filter(|volume| volume.login().is_some()) {
            let volume = volume.id;
            let name = SecretName { instance, volume };
            if let Err(e) = self.hypervisor.forget_secret(name).await {
                warn!(%instance, %volume, error = %e, "the secret of a volume is left until the next start");
            }
        }
    }

    /// Whether an instance that is whole needs that secret.
    pub fn needs_secret(&self, name: SecretName) -> bool {
        let record = self.store.instance(name.instance);
        record.is_some_and(|record| record.state == InstanceState::Active && has(&record, name))
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

fn volumes(record: &InstanceRecord) -> impl Iterator<Item = &Volume> {
    let devices = record.spec.block_devices.iter();
    devices.filter_map(BlockDevice::volume)
}

/// Whether an instance has the volume that a secret is for.
fn has(record: &InstanceRecord, name: SecretName) -> bool {
    volumes(record).any(|volume| volume.id == name.volume && volume.login().is_some())
}
