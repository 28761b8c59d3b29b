//! The instance's folder: its disks, its kernel, and its config drive.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    config_drive::{ConfigDrive, RANDOM_SEED_BYTES},
    domain::Format,
    error::{Error, Kind, Result},
    host::Host,
    image::{Base, DiskContent, DiskRef, Filesystem, ImageBackend, NewDisk, Qcow2, Raw},
    model::{Bytes, DiskId, InstanceId, InstanceSpec, Phase},
    plan::{DiskPlan, DiskRole, Plan},
    step::{Fetched, definition::EPHEMERAL},
    sys::file::{self, Durable, Part, clone_or_copy},
    task::{Cx, Step},
};

/// The kernel that QEMU loads itself, in the instance's folder.
pub(crate) const KERNEL: &str = "kernel";
/// Its ramdisk.
pub(crate) const RAMDISK: &str = "ramdisk";

/// Makes the instance's folder and the disks in it, and copies the kernel that QEMU loads itself there.
///
/// libvirt gives a kernel to QEMU's user and, unlike with what a disk rests on, there is no way to tell it not to: a file
/// that the cache holds for all must not be what it is handed.
#[derive(Debug, Serialize, Deserialize)]
pub struct CreateDisks {
    /// Whose.
    pub instance: InstanceId,
    /// The disks to make; the config drive is not among them.
    pub disks: Vec<DiskPlan>,
    /// What the root disk begins as; none when that is a volume.
    pub base: Option<Base>,
    /// The root disk's size.
    pub root: Bytes,
    /// The cached kernel; none when the guest boots from its disk.
    pub kernel: Option<PathBuf>,
    /// The cached ramdisk.
    pub ramdisk: Option<PathBuf>,
    /// Whether the instance was there already: the way back leaves its folder, and a step before this one puts back what
    /// was there.
    #[serde(default)]
    pub beside: bool,
}

/// What a domain must know of an instance's folder.
#[derive(Clone, Debug, Default)]
pub struct CreatedDisks {
    /// What disks rest on, of those that rest on something.
    pub backing: BTreeMap<DiskId, Base>,
    /// The kernel's file.
    pub kernel: Option<PathBuf>,
    /// The ramdisk's file.
    pub ramdisk: Option<PathBuf>,
}

impl CreateDisks {
    /// The disks of a plan.
    pub fn new(plan: &Plan, fetched: &Fetched, root: Bytes) -> Self {
        let disks = plan
            .disks
            .iter()
            .filter(|disk| !matches!(disk.role, DiskRole::ConfigDrive | DiskRole::Volume));
        Self {
            instance: plan.instance,
            disks: disks.cloned().collect(),
            base: fetched.base.clone(),
            root,
            kernel: fetched.kernel.clone(),
            ramdisk: fetched.ramdisk.clone(),
            beside: false,
        }
    }

    async fn make(&self, host: &Host, disk: &DiskPlan) -> Result<DiskRef> {
        let size = disk.size.unwrap_or(self.root);
        let content = match disk.role {
            DiskRole::Root | DiskRole::Rescue => {
                let base = self.base.clone();
                let missing = || Error::internal("nothing to make a root disk from");
                DiskContent::Base(base.ok_or_else(missing)?)
            }
            DiskRole::Ephemeral => DiskContent::Base(
                host.images
                    .formatted(Filesystem::Ext4, EPHEMERAL, size)
                    .await?,
            ),
            DiskRole::Swap => DiskContent::Swap {
                label: "swap".to_owned(),
                uuid: Uuid::new_v4(),
            },
            DiskRole::Blank | DiskRole::ConfigDrive | DiskRole::Volume => DiskContent::Blank,
        };
        let path = host.paths.instance(self.instance).join(&disk.file_name);
        let format = disk.format;
        let disk = NewDisk {
            path,
            size,
            content,
        };
        Ok(match format {
            Format::Qcow2 => Qcow2.create(&disk).await?,
            Format::Raw => Raw.create(&disk).await?,
        })
    }
}

#[async_trait]
impl Step for CreateDisks {
    type Output = CreatedDisks;
    const NAME: &'static str = "create disks";
    const PHASE: Phase = Phase::CreateDisks;

    async fn apply(&self, cx: Cx<'_>) -> Result<CreatedDisks> {
        let folder = cx.host.paths.instance(self.instance);
        // QEMU's own user must get through to its disks; what others may read is a matter of each file.
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&folder);
        made.map_err(|e| unwritable("the instance's folder", &e))?;
        let mut created = CreatedDisks::default();
        for disk in &self.disks {
            if let Some(base) = self.make(cx.host, disk).await?.backing {
                created.backing.insert(disk.id.clone(), base);
            }
        }
        created.kernel = copied(self.kernel.as_ref(), folder.join(KERNEL)).await?;
        created.ramdisk = copied(self.ramdisk.as_ref(), folder.join(RAMDISK)).await?;
        Ok(created)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        if self.beside {
            return Ok(());
        }
        host.remove_instance_folder(self.instance).await
    }
}

/// Copies a cached file, if there is one; the file system shares the blocks where it can.
async fn copied(cached: Option<&PathBuf>, target: PathBuf) -> Result<Option<PathBuf>> {
    let Some(cached) = cached.cloned() else {
        return Ok(None);
    };
    let copy = move || {
        let part = Part::create(&target)?;
        clone_or_copy(&File::open(cached)?, part.file())?;
        part.keep(Durable::Lazily)?;
        Ok(target)
    };
    let copied = tokio::task::spawn_blocking(copy).await;
    let copied = copied.unwrap_or_else(|e| Err(io::Error::other(e)));
    copied.map(Some).map_err(|e| unwritable("the kernel", &e))
}

pub(super) fn unwritable(what: &str, e: &io::Error) -> Error {
    if file::is_full(e) {
        return Error::new(
            Kind::Exhausted,
            "HOST_DISK_FULL",
            format!("{what} cannot be written: the file system is full"),
        );
    }
    Error::internal(format!("{what} cannot be written: {e}"))
}

/// Writes the config drive beside the disks. It goes with the folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct WriteConfigDrive {
    /// Whose.
    pub instance: InstanceId,
    /// Its file in the instance's folder.
    pub file_name: String,
    /// What is told; holds secrets, and is not needed for the way back.
    #[serde(skip)]
    pub spec: Option<Arc<InstanceSpec>>,
    /// EC2's words for the guest's disks.
    pub mapping: BTreeMap<String, String>,
}

impl WriteConfigDrive {
    /// The config drive of a plan, when it has one.
    pub fn new(spec: Arc<InstanceSpec>, plan: &Plan) -> Option<Self> {
        let drive = plan
            .disks
            .iter()
            .find(|disk| disk.role == DiskRole::ConfigDrive)?;
        let mut mapping = BTreeMap::new();
        for disk in &plan.disks {
            let device = format!("/dev/{}", disk.target);
            if disk.is_root() {
                mapping.insert("ami".to_owned(), disk.target.clone());
                mapping.insert("root".to_owned(), device);
                continue;
            }
            match disk.role {
                DiskRole::Ephemeral => drop(mapping.insert("ephemeral0".to_owned(), device)),
                DiskRole::Swap => drop(mapping.insert("swap".to_owned(), device)),
                _ => {}
            }
        }
        Some(Self {
            instance: plan.instance,
            file_name: drive.file_name.clone(),
            spec: Some(spec),
            mapping,
        })
    }

    fn write(&self, path: &Path) -> Result<()> {
        let Some(spec) = &self.spec else {
            return Err(Error::internal("nothing to write"));
        };
        let mut random_seed = [0; RANDOM_SEED_BYTES];
        for sixteen in random_seed.chunks_mut(16) {
            sixteen.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        let written =
            jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let drive = ConfigDrive {
            spec,
            random_seed: &random_seed,
            written,
            block_device_mapping: &self.mapping,
        };
        let image = drive.image()?;
        let write = || {
            let part = Part::create(path)?;
            image.write_to(&mut part.file())?;
            part.keep(Durable::Lazily)
        };
        write().map_err(|e| unwritable("the config drive", &e))
    }
}

#[async_trait]
impl Step for WriteConfigDrive {
    type Output = ();
    const NAME: &'static str = "write config drive";
    const PHASE: Phase = Phase::ConfigDrive;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let path = cx.host.paths.instance(self.instance).join(&self.file_name);
        // Some 400 kB at most written to the page cache: shorter than a hop to another thread.
        self.write(&path)
    }

    async fn revert(&self, _host: &Host) -> Result<()> {
        Ok(())
    }
}
