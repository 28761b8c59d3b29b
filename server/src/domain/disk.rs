//! Disks of a guest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{DiskBus, DiskId, Iscsi, NbdServer, Qos, Rbd};

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an element of its own"
)]
pub struct Disk {
    /// What its caller calls it.
    pub id: DiskId,
    /// Where its bytes are.
    pub source: DiskSource,
    /// What is in it.
    pub format: Format,
    /// The file that it rests on, which the guest does not write to.
    pub backing: Option<Backing>,
    /// What the guest sees.
    pub device: DiskDevice,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Whether other guests write to it too.
    pub shared: bool,
    /// How it is attached.
    pub bus: DiskBus,
    /// Its name, as `vda`.
    pub target: String,
    /// Unit on the virtio-scsi controller, for disks on that bus.
    pub unit: Option<u32>,
    /// How the host caches it.
    pub cache: Cache,
    /// Whether the guest's discards free room on the host.
    pub discard: bool,
    /// Serial number that the guest reads.
    pub serial: Option<String>,
    /// Its turn when the firmware looks for a boot sector; none is never looked at.
    pub boot_order: Option<u32>,
    /// Bounds of its traffic.
    pub tune: IoTune,
}

/// Where a disk's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// In a file.
    File(PathBuf),
    /// On a block device of this host.
    Block(PathBuf),
    /// With a server of network block devices.
    Nbd {
        /// Who serves it.
        server: NbdServer,
        /// Under which name.
        export: String,
    },
    /// On a logical unit of an iSCSI target.
    Iscsi {
        /// Which.
        unit: Iscsi,
        /// The name by which the target knows this host.
        initiator: Option<String>,
        /// How QEMU proves who it is.
        login: Option<DiskLogin>,
    },
    /// In an image of a Ceph pool.
    Rbd {
        /// Which.
        image: Rbd,
        /// How QEMU proves who it is.
        login: Option<DiskLogin>,
    },
}

impl DiskSource {
    /// How QEMU proves who it is, where somebody asks.
    pub fn login(&self) -> Option<&DiskLogin> {
        match self {
            Self::Iscsi { login, .. } | Self::Rbd { login, .. } => login.as_ref(),
            Self::File(_) | Self::Block(_) | Self::Nbd { .. } => None,
        }
    }
}

/// How QEMU proves to a storage service who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLogin {
    /// The user.
    pub user: String,
    /// The secret that the hypervisor keeps for it, by its id.
    pub secret: Uuid,
}

/// A file that a disk takes from what was never written to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub format: Format,
    /// Whether it is this disk's alone, so that what was written above it may be merged into it.
    #[serde(default)]
    pub own: bool,
    /// The file that it rests on itself.
    #[serde(default)]
    pub backing: Option<Box<Backing>>,
}

impl Disk {
    /// Its files on this host, the one that the guest writes to first.
    pub fn files(&self) -> Vec<&PathBuf> {
        let DiskSource::File(top) = &self.source else {
            return Vec::new();
        };
        let below = std::iter::successors(self.backing.as_ref(), |above| above.backing.as_deref());
        let below = below.map(|backing| &backing.path);
        std::iter::once(top).chain(below).collect()
    }
}

/// What a guest sees of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskDevice {
    /// A hard disk.
    Disk,
    /// A CD-ROM, read only.
    Cdrom,
}

impl DiskDevice {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Cdrom => "cdrom",
        }
    }
}

/// Formats that a guest's disks may have on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Sector for sector.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl Format {
    /// The format as libvirt and QEMU write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// How the host caches a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Not at all (O_DIRECT).
    #[default]
    None,
    /// A write is done when the host's cache has it; flushes are honoured.
    Writeback,
    /// A write is done when the disk has it; reads are cached.
    Writethrough,
    /// Not at all, and a write is done when the disk has it.
    Directsync,
    /// Flushes are ignored: what a crash of the host leaves is garbage.
    Unsafe,
}

impl Cache {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Writeback => "writeback",
            Self::Writethrough => "writethrough",
            Self::Directsync => "directsync",
            Self::Unsafe => "unsafe",
        }
    }
}

/// Bounds of a disk's traffic, a second; what is none is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoTune {
    /// Bytes both ways; excludes the two below.
    pub total_bytes: Option<u64>,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Requests both ways; excludes the two below.
    pub total_iops: Option<u64>,
    /// Requests to read.
    pub read_iops: Option<u64>,
    /// Requests to write.
    pub write_iops: Option<u64>,
    /// Bounds that volumes have besides.
    #[serde(default)]
    pub burst: Burst,
}

/// Bounds while a burst lasts; what is none is the hypervisor's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// Bytes both ways, read and written.
    pub bytes: [Option<u64>; 3],
    /// Requests both ways, read and written.
    pub iops: [Option<u64>; 3],
    /// Bytes that count as one request.
    pub request_size: Option<u64>,
    /// How long it may last, in seconds.
    pub seconds: Option<u64>,
}

impl From<Qos> for IoTune {
    fn from(qos: Qos) -> Self {
        let Qos {
            bytes, requests, ..
        } = qos;
        Self {
            total_bytes: bytes.total,
            read_bytes: bytes.read,
            write_bytes: bytes.write,
            total_iops: requests.total,
            read_iops: requests.read,
            write_iops: requests.write,
            burst: Burst {
                bytes: [bytes.total_burst, bytes.read_burst, bytes.write_burst],
                iops: [
                    requests.total_burst,
                    requests.read_burst,
                    requests.write_burst,
                ],
                request_size: qos.request_size,
                seconds: qos.burst.map(|burst| burst.as_secs()),
            },
        }
    }
}

impl IoTune {
    /// Names and values of what is bounded, in libvirt's words.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Burst {
            bytes,
            iops,
            request_size,
            seconds,
        } = self.burst;
        // libvirt has a length for each bound of a burst, and takes none without its bound.
        let lasting = |bound: Option<u64>| bound.and(seconds);
        [
            ("total_bytes_sec", self.total_bytes),
            ("read_bytes_sec", self.read_bytes),
            ("write_bytes_sec", self.write_bytes),
            ("total_iops_sec", self.total_iops),
            ("read_iops_sec", self.read_iops),
            ("write_iops_sec", self.write_iops),
            ("total_bytes_sec_max", bytes[0]),
            ("read_bytes_sec_max", bytes[1]),
            ("write_bytes_sec_max", bytes[2]),
            ("total_iops_sec_max", iops[0]),
            ("read_iops_sec_max", iops[1]),
            ("write_iops_sec_max", iops[2]),
            ("size_iops_sec", request_size),
            ("total_bytes_sec_max_length", lasting(bytes[0])),
            ("read_bytes_sec_max_length", lasting(bytes[1])),
            ("write_bytes_sec_max_length", lasting(bytes[2])),
            ("total_iops_sec_max_length", lasting(iops[0])),
            ("read_iops_sec_max_length", lasting(iops[1])),
            ("write_iops_sec_max_length", lasting(iops[2])),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}
