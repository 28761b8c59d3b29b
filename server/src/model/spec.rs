//! What a caller asks for when it spawns an instance.
//!
//! Serialised, it is what the store keeps. Secrets, and contents that may hide some (user data, injected files),
//! are left out there: they live on the config drive only.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bytes, DiskId, InstanceId, Phase, Secret, Vif, Volume};

/// The size of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flavor {
    /// The caller's name for it.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// Root disk; none takes the image's own size.
    pub root: Option<Bytes>,
    /// Ephemeral disk; none for zero.
    pub ephemeral: Option<Bytes>,
    /// Swap disk; none for zero.
    pub swap: Option<Bytes>,
    /// The extra specs, all of them known and honoured.
    pub extra_specs: BTreeMap<String, String>,
    /// Virtual CPUs that it may be given while it runs; none for no more than it has.
    #[serde(default)]
    pub max_vcpus: Option<u32>,
    /// Memory that it may be given while it runs; none for no more than it has.
    #[serde(default)]
    pub max_memory: Option<Bytes>,
}

/// What guests take memory in while they run: the smallest block that Linux has for it.
pub const MEMORY_MODULE: Bytes = Bytes(128 << 20);

impl Flavor {
    /// Virtual CPUs that it may have without a restart.
    pub fn most_vcpus(&self) -> u32 {
        self.max_vcpus.unwrap_or_default().max(self.vcpus)
    }

    /// Memory that it may have without a restart.
    pub fn most_memory(&self) -> Bytes {
        self.max_memory.unwrap_or_default().max(self.memory)
    }
}

/// Formats of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// Sector for sector.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// VMware's format.
    Vmdk,
    /// VirtualBox's format.
    Vdi,
    /// Hyper-V's format.
    Vhdx,
    /// Virtual PC's format.
    Vpc,
    /// A CD-ROM image.
    Iso,
}

/// A file to fetch and to verify.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageFile {
    /// The caller's id for it.
    pub id: String,
    /// `file:` or `http(s):` address.
    pub location: String,
    /// What its bytes must hash to.
    pub sha256: Option<[u8; 32]>,
}

/// A disk image to fetch, to verify and to inspect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSource {
    /// Where it is.
    pub file: ImageFile,
    /// What the caller says it is.
    pub format: DiskFormat,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// SATA.
    Sata,
    /// IDE.
    Ide,
}

/// Virtual machine boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineType {
    /// PCI Express.
    Q35,
    /// i440FX.
    Pc,
}

/// What runs the guests' code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VirtType {
    /// The processor, through KVM.
    Kvm,
    /// QEMU's own translator (TCG).
    Qemu,
    /// libvirt's test driver.
    Test,
}

impl VirtType {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
            Self::Test => "test",
        }
    }
}

/// Processor architectures of guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86.
    #[default]
    X86_64,
}

/// Virtual graphics cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoModel {
    /// virtio-gpu.
    Virtio,
    /// Standard VGA.
    #[default]
    Vga,
    /// None at all.
    None,
}

/// Families of operating systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OsType {
    /// Its clock runs in UTC.
    #[default]
    Linux,
    /// Its clock runs in local time.
    Windows,
}

/// What the image says about the machine that it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageProperties {
    /// Bus of the disks; virtio unless said.
    pub disk_bus: Option<DiskBus>,
    /// Bus of the CD-ROM; by machine type unless said.
    pub cdrom_bus: Option<DiskBus>,
    /// Board; q35 unless said.
    pub machine: Option<MachineType>,
    /// Graphics; VGA unless said.
    pub video: VideoModel,
    /// Whether the guest runs the QEMU guest agent; a channel for it is made either way.
    pub guest_agent: bool,
    /// Whether snapshots must freeze the guest's file systems.
    pub require_quiesce: bool,
    /// What runs in it; it sets clock and timers.
    pub os: OsType,
    /// The distribution, for records only.
    pub os_distro: Option<String>,
    /// The administrator's account; by the operating system unless said.
    #[serde(default)]
    pub admin_user: Option<String>,
    /// Least root disk.
    pub min_disk: Bytes,
    /// Least memory.
    pub min_memory: Bytes,
}

impl ImageProperties {
    /// The administrator's account in the guest.
    pub fn administrator(&self) -> &str {
        let usual = match self.os {
            OsType::Linux => "root",
            OsType::Windows => "Administrator",
        };
        self.admin_user.as_deref().unwrap_or(usual)
    }
}

/// Kernel and ramdisk that QEMU loads itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: ImageFile,
    /// The first ramdisk.
    pub ramdisk: Option<ImageFile>,
    /// The kernel's command line.
    pub command_line: String,
}

/// A file to place on the config drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFile {
    /// Absolute path in the guest.
    pub path: String,
    /// Its bytes; never stored.
    #[serde(skip)]
    pub contents: Vec<u8>,
}

/// What backs a further disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockSource {
    /// An empty disk on this host.
    Blank {
        /// Its size.
        size: Bytes,
    },
    /// A volume of a storage service.
    Volume(Box<Volume>),
}

impl BlockSource {
    /// How much room it takes on this host at most.
    pub fn size(&self) -> Bytes {
        match self {
            Self::Blank { size } => *size,
            Self::Volume(_) => Bytes(0),
        }
    }
}

/// A further disk of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// The caller's name for it.
    pub id: DiskId,
    /// Wanted name in the guest, as `vdb`.
    pub device_name: Option<String>,
    /// Bus; that of the image's disks unless said.
    pub bus: Option<DiskBus>,
    /// Its turn among the disks that the firmware tries; none is never tried, the first is the root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_index: Option<u32>,
    /// What backs it.
    pub source: BlockSource,
}

impl BlockDevice {
    /// The volume that backs it, if one does.
    pub fn volume(&self) -> Option<&Volume> {
        match &self.source {
            BlockSource::Volume(volume) => Some(volume),
            BlockSource::Blank { .. } => None,
        }
    }

    /// Whether it is the root disk of its instance.
    pub fn is_root(&self) -> bool {
        self.boot_index == Some(0)
    }

    /// The same with another volume behind it, if one is.
    #[must_use]
    pub fn with_volume(&self, change: impl FnOnce(&Volume) -> Volume) -> Self {
        match &self.source {
            BlockSource::Blank { .. } => self.clone(),
            BlockSource::Volume(volume) => Self {
                source: BlockSource::Volume(Box::new(change(volume))),
                ..self.clone()
            },
        }
    }
}

/// Where a disk was put once: nothing that comes or goes beside it moves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name in the guest, as `vda`.
    pub target: String,
    /// Unit on the virtio-scsi controller, for disks on that bus.
    pub unit: Option<u32>,
}

/// Upper bounds of what the host may have claimed, in place of its own ratios: Nova's claim limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Virtual CPUs in all.
    pub vcpus: Option<u64>,
    /// Memory in all.
    pub memory: Option<Bytes>,
    /// Disk in all.
    pub disk: Option<Bytes>,
}

/// What a caller waits for beyond RUNNING.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitTarget {
    /// A phase that the guest itself shows.
    Phase(Phase),
    /// A regular expression on the console's bytes.
    Console(String),
}

/// What a caller waits for beyond RUNNING, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitFor {
    /// What must be seen.
    pub target: WaitTarget,
    /// How long after RUNNING.
    pub timeout: Duration,
}

/// The whole of what a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The caller's name for the instance.
    pub id: InstanceId,
    /// Host name in the guest.
    pub hostname: String,
    /// Name for people.
    pub display_name: String,
    /// The caller's own words about it; shown in the guest's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its size.
    pub flavor: Flavor,
    /// What its root disk is made of; none when that is a volume.
    pub image: Option<ImageSource>,
    /// What the image, or the caller in its place, says about the machine.
    pub properties: ImageProperties,
    /// Kernel and ramdisk that QEMU loads itself.
    pub kernel: Option<DirectKernel>,
    /// Files for the config drive.
    pub injected_files: Vec<InjectedFile>,
    /// For cloud-init; never stored.
    #[serde(skip)]
    pub user_data: Vec<u8>,
    /// Keys that may log in.
    pub public_keys: Vec<String>,
    /// Password of the guest's administrator; never stored.
    #[serde(skip)]
    pub admin_password: Option<Secret<String>>,
    /// Network interfaces, in the order of the guest's slots.
    pub vifs: Vec<Vif>,
    /// Wanted name of the root disk in the guest, as `vda`.
    pub root_device_name: Option<String>,
    /// Further disks.
    pub block_devices: Vec<BlockDevice>,
    /// Where the disks are since the first of them came or went; empty before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<DiskId, Pin>,
    /// Upper bounds in place of the host's ratios.
    pub limits: Limits,
    /// Whether a config drive is made.
    pub config_drive: bool,
    /// What the caller waits for beyond RUNNING.
    pub wait_for: Option<WaitFor>,
}

impl InstanceSpec {
    /// The volume that is its root disk, when one is: no image is made into one then.
    pub fn root_volume(&self) -> Option<&Volume> {
        let root = self.block_devices.iter().find(|device| device.is_root());
        root.and_then(BlockDevice::volume)
    }

    /// The spec as it is kept: as if it had been stored and read back.
    pub fn without_secrets(&self) -> Self {
        let bare = |file: &InjectedFile| InjectedFile {
            path: file.path.clone(),
            contents: Vec::new(),
        };
        let devices = self.block_devices.iter();
        let devices = devices.map(|device| device.with_volume(Volume::without_secret));
        Self {
            injected_files: self.injected_files.iter().map(bare).collect(),
            user_data: Vec::new(),
            admin_password: None,
            block_devices: devices.collect(),
            ..self.clone()
        }
    }
}
