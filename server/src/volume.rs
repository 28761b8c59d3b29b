//! How this host reaches the volumes of storage services.
//!
//! QEMU opens a volume by itself; what is done here is to look before it does. A volume that is not there, or is not
//! what its caller says, is refused while nothing has been touched: QEMU's monitor would wait for it, and the guest with
//! it. Nothing is left on the host by looking, so nothing has to be disconnected.

mod again;
mod error;
mod layer;
mod local;
mod nbd;
mod remote;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

pub use again::same;
pub use error::VolumeError;

use crate::model::{InstanceId, Layers, NbdServer, Secret, Seen, Volume, VolumeId, VolumeTarget};

/// How long a storage service may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// By what a storage service knows this host.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Its name for iSCSI.
    pub initiator: Option<String>,
    /// The secret of the volume's login.
    pub secret: Option<Secret<Vec<u8>>>,
}

/// The ways of this host to volumes.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// What is local must lie in one of these folders.
    folders: Arc<[PathBuf]>,
    /// What stands in for `qemu-img`.
    tool: Option<Arc<str>>,
    /// Drivers of QEMU that were found.
    drivers: Arc<Mutex<BTreeSet<String>>>,
    /// Volumes that are being given to an instance just now.
    held: Arc<Mutex<BTreeMap<VolumeId, InstanceId>>>,
}

impl Volumes {
    /// Ways to what is local lead into `folders` only.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders: folders.into(),
            ..Self::default()
        }
    }

    /// The same with another program in the place of `qemu-img`, for tests.
    #[must_use]
    pub fn with_tool(self, program: &str) -> Self {
        Self {
            tool: Some(program.into()),
            ..self
        }
    }

    fn tool(&self) -> &str {
        self.tool.as_deref().unwrap_or("qemu-img")
    }

    /// Whether this host's QEMU has the driver of that name for what is not on the host.
    pub async fn has_driver(&self, name: &str) -> bool {
        if self.drivers.lock().contains(name) {
            return true;
        }
        let has = remote::has(self.tool(), name).await;
        if has {
            self.drivers.lock().insert(name.to_owned());
        }
        has
    }

    /// Looks at a volume: the same one as it is kept, with what was seen of it.
    ///
    /// # Errors
    /// When it cannot be reached, or is not what its caller says.
    pub async fn connect(&self, volume: &Volume, own: &Credentials) -> Result<Volume, VolumeError> {
        let seen = match &volume.target {
            VolumeTarget::Local { path } => {
                let (path, folders) = (path.clone(), self.folders.clone());
                blocking(volume, move |volume| local::look(volume, &path, &folders)).await?
            }
            VolumeTarget::Nbd { server, export } => self.nbd(volume, server, export).await?,
            VolumeTarget::Iscsi(_) | VolumeTarget::Rbd(_) => Seen {
                path: None,
                block: false,
                size: remote::look(self.tool(), volume, own).await?,
                identity: None,
                initiator: own.initiator.clone(),
                layers: Layers::default(),
            },
        };
        Ok(Volume {
            seen: Some(seen),
            ..volume.without_secret()
        })
    }

    async fn nbd(
        &self,
        volume: &Volume,
        server: &NbdServer,
        export: &str,
    ) -> Result<Seen, VolumeError> {
        if let NbdServer::Unix(socket) = server {
            match self.allowed(volume.id, socket) {
                // Its server makes it.
                Err(VolumeError::Refused { volume, why }) => {
                    return Err(VolumeError::Unreachable { volume, why });
                }
                allowed => allowed.map(drop)?,
            }
        }
        let asked = tokio::time::timeout(PATIENCE, nbd::ask(server, export)).await;
        let asked = match asked {
            Ok(asked) => asked.map_err(|e| nbd::why(volume.id, &e))?,
            Err(late) => return Err(VolumeError::unreachable(volume.id, &late)),
        };
        if asked.read_only && !volume.read_only {
            return Err(VolumeError::ReadOnly { volume: volume.id });
        }
        Ok(Seen {
            path: None,
            block: false,
            size: asked.size,
            layers: Layers::default(),
            identity: None,
            initiator: None,
        })
    }

    /// What is behind a path, all links followed, when that lies in one of the folders.
    fn allowed(&self, volume: VolumeId, path: &Path) -> Result<PathBuf, VolumeError> {
        local::allowed(volume, path, &self.folders)
    }

    /// The file of that name beside the one that a guest writes to, when the guest may go on in it: it lies in one of the
    /// folders, is empty, is as large as the volume, and rests on the file that is written to now.
    ///
    /// # Errors
    /// When it is anything else.
    pub async fn over(&self, volume: &Volume, name: &str) -> Result<PathBuf, VolumeError> {
        let (name, folders) = (name.to_owned(), self.folders.clone());
        blocking(volume, move |volume| layer::over(volume, &name, &folders)).await
    }

    /// Looks whether a volume's files are there, and rest on each other as is known of them.
    ///
    /// # Errors
    /// When they do not.
    pub async fn chained(&self, volume: &Volume) -> Result<(), VolumeError> {
        let folders = self.folders.clone();
        blocking(volume, move |volume| layer::chain(volume, &folders)).await
    }

    /// Whether a file rests on another still, by what its header says.
    pub async fn rests_on(&self, over: &Path, under: &Path) -> bool {
        let (over, under) = (over.to_owned(), under.to_owned());
        let looked = tokio::task::spawn_blocking(move || layer::is_over(&over, &under)).await;
        looked.unwrap_or(true)
    }

    /// Keeps a volume from being given to another instance until this is dropped.
    ///
    /// # Errors
    /// `InUse` when that is going on already.
    pub fn hold(&self, volume: &Volume, instance: InstanceId) -> Result<Held, VolumeError> {
        let mut held = self.held.lock();
        if let Some(other) = held.get(&volume.id) {
            return Err(VolumeError::InUse {
                volume: volume.id,
                instance: *other,
            });
        }
        held.insert(volume.id, instance);
        Ok(Held {
            volume: volume.id,
            held: self.held.clone(),
        })
    }
}

/// Looks at files where that may block.
async fn blocking<T: Send + 'static>(
    volume: &Volume,
    look: impl FnOnce(&Volume) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    let (id, volume) = (volume.id, volume.clone());
    let looked = tokio::task::spawn_blocking(move || look(&volume)).await;
    looked.map_err(|e| VolumeError::unreachable(id, &e))?
}

/// A volume that nobody else is given meanwhile.
#[derive(Debug)]
pub struct Held {
    volume: VolumeId,
    held: Arc<Mutex<BTreeMap<VolumeId, InstanceId>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.lock().remove(&self.volume);
    }
}
