//! Disks of a guest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{DiskBus, DiskId};

/// A disk backed by a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What its caller calls it.
    pub id: DiskId,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub format: Format,
    /// The file that it rests on, which no guest may write.
    pub backing: Option<Backing>,
    /// What the guest sees.
    pub device: DiskDevice,
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

/// A file that a disk takes from what was never written to itself. It rests on no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub format: Format,
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
}

impl IoTune {
    /// Names and values of what is bounded, in libvirt's words.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("total_bytes_sec", self.total_bytes),
            ("read_bytes_sec", self.read_bytes),
            ("write_bytes_sec", self.write_bytes),
            ("total_iops_sec", self.total_iops),
            ("read_iops_sec", self.read_iops),
            ("write_iops_sec", self.write_iops),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}
