//! The ports in one bag, and the host's own book-keeping.

mod claims;
mod inventory;
mod measure;
mod resources;
mod volume;

use std::{path::PathBuf, sync::Arc};

pub use claims::{Amount, Claim, ClaimError, Claims, Policy, Totals};
pub use inventory::Offer;
pub use measure::Measured;
pub use resources::Resources;

use crate::{
    console::Watcher,
    error::{Error, Kind, Result},
    export::Exports,
    hypervisor::Hypervisor,
    image::{ImageKey, Images},
    journal::Journal,
    model::InstanceId,
    plan::PlanSettings,
    store::Store,
    vif::Vifs,
    volume::Volumes,
};

/// Where the host keeps what.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The state directory.
    pub state: PathBuf,
}

impl Paths {
    /// The folder of one instance.
    pub fn instance(&self, id: InstanceId) -> PathBuf {
        self.instances().join(id.to_string())
    }

    /// The folder of all instances.
    pub fn instances(&self) -> PathBuf {
        self.state.join("instances")
    }
}

/// Everything that a step may touch.
#[derive(Debug)]
pub struct Host {
    /// Runs the guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Images, and the disks made of them.
    pub images: Images,
    /// Where images of guests go.
    pub exports: Exports,
    /// Plugs interfaces.
    pub vifs: Vifs,
    /// Reaches volumes.
    pub volumes: Volumes,
    /// What the host's owner has settled for all guests.
    pub plan: PlanSettings,
    /// Wakes readers of console logs.
    pub watcher: Watcher,
    /// Keeps what must survive.
    pub store: Store,
    /// Tells what happened.
    pub journal: Journal,
    /// Who has claimed what of this host.
    pub claims: Claims,
    /// Where things lie.
    pub paths: Paths,
}

impl Host {
    /// Removes the folder of an instance with all that is in it; absent is a success. Something else in its place is not
    /// ours, and stays.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub async fn remove_instance_folder(&self, id: InstanceId) -> Result<()> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match tokio::fs::remove_dir_all(self.paths.instance(id)).await {
            Err(e) if !matches!(e.kind(), NotFound | NotADirectory) => Err(Error::internal(
                format!("the folder of instance {id} cannot be removed: {e}"),
            )),
            _ => Ok(()),
        }
    }

    /// Has the cache keep these images for an instance, and no others; named as its record names them.
    pub fn keeps_images(&self, id: InstanceId, names: &[String]) {
        let keys: Vec<_> = names
            .iter()
            .filter_map(|name| ImageKey::read(name))
            .collect();
        self.images.pin_only(&keys, id);
    }

    /// Whether new instances are taken.
    ///
    /// # Errors
    /// `HOST_DISABLED` while the host is disabled or in maintenance, with the note of whoever did it.
    pub fn admit_instance(&self) -> Result<()> {
        let node = self.store.node();
        if node.is_open() {
            return Ok(());
        }
        let maintenance = node.maintenance.is_some();
        let what = if maintenance {
            "in maintenance"
        } else {
            "disabled"
        };
        let note = match node.note() {
            "" => String::new(),
            note => format!(": {note}"),
        };
        let message = format!("the host is {what} and takes no new instances{note}");
        let e = Error::new(Kind::Precondition, "HOST_DISABLED", message);
        Err(e.with("maintenance", maintenance).with("note", node.note()))
    }

    /// Learns from the hypervisor and the file system what the host has.
    ///
    /// # Errors
    /// When either cannot be asked.
    pub async fn learn_totals(&self) -> Result<()> {
        let capabilities = self.hypervisor.capabilities().await?;
        let disk = rustix::fs::statvfs(&self.paths.state)
            .map_err(|e| Error::internal(format!("the state directory cannot be measured: {e}")))?;
        self.claims.set_totals(Totals {
            cpus: u64::from(capabilities.cpus),
            memory_mib: capabilities.memory >> 20,
            disk_gib: (disk.f_blocks * disk.f_frsize) >> 30,
        });
        Ok(())
    }
}
