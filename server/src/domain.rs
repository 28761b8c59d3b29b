//! libvirt domain XML as types; write and read; no decisions.
//!
//! `plan` decides what a guest is made of, [`Domain::to_xml`] says it in libvirt's words, and [`read()`] takes from a live
//! definition what is known only there. Nothing here chooses a default: what is `None` is left out of the XML and
//! libvirt chooses. No secret is ever part of a domain.

mod alias;
mod backup;
mod device;
mod disk;
mod interface;
mod machine;
mod metadata;
mod overlay;
mod read;
mod secret;
mod write;
mod xml;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

pub use alias::id_of;
pub use backup::backup;
pub use device::{Device, Graphics, Rng, Watchdog, WatchdogAction, WatchdogModel};
pub use disk::{Backing, Burst, Cache, Disk, DiskDevice, DiskLogin, DiskSource, Format, IoTune};
pub use interface::{Bandwidth, Interface, InterfaceSource, Rate};
pub use machine::{Clock, Cpu, CpuMode, CpuTune, Machine, MemoryModule, Room, Timers, Topology};
pub use metadata::{METADATA_PREFIX, METADATA_URI, Metadata};
pub use overlay::overlay;
pub use read::{Live, LiveInterface, ReadError, read};
pub use secret::secret;

use crate::model::InstanceId;

/// What every domain name of ours begins with; the instance's id follows.
const NAME_PREFIX: &str = "computelet-";

/// A guest's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Whose it is; the domain's UUID too.
    pub id: InstanceId,
    /// Name for people.
    pub title: Option<String>,
    /// Our mark, and what our records say of it.
    pub metadata: Metadata,
    /// Board, processor, memory and the devices that name nothing outside the guest.
    pub machine: Machine,
    /// Kernel that QEMU loads itself.
    pub kernel: Option<Kernel>,
    /// Disks, in the order of their names in the guest.
    pub disks: Vec<Disk>,
    /// Network interfaces, in the order of the guest's slots.
    pub interfaces: Vec<Interface>,
    /// File that the serial console is appended to.
    pub console_log: Option<PathBuf>,
}

/// Kernel that QEMU loads itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The first ramdisk's file.
    pub ramdisk: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
}

impl Domain {
    /// The name that libvirt knows the guest of `id` by.
    pub fn name_of(id: InstanceId) -> String {
        format!("{NAME_PREFIX}{id}")
    }

    /// The XML that libvirt reads.
    ///
    /// Characters that XML cannot carry are written as U+FFFD; `plan` refuses them long before.
    pub fn to_xml(&self) -> String {
        write::domain(self)
    }
}
