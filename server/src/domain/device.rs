//! The smaller devices of a guest.

use serde::{Deserialize, Serialize};

use super::{Disk, Interface, MemoryModule, alias, write};
use crate::model::Bytes;

/// A device that may come and go while its guest runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// A disk.
    Disk(Box<Disk>),
    /// A network interface.
    Interface(Box<Interface>),
    /// More memory.
    Memory(MemoryModule),
}

impl Device {
    /// The caller's id of it; memory has none.
    pub fn id(&self) -> &str {
        match self {
            Self::Disk(disk) => disk.id.as_str(),
            Self::Interface(nic) => nic.id.as_str(),
            Self::Memory(_) => "memory",
        }
    }

    /// The name that the hypervisor has for it.
    pub fn alias(&self) -> String {
        match self {
            Self::Disk(disk) => alias::disk(&disk.id),
            Self::Interface(nic) => alias::interface(&nic.id),
            Self::Memory(module) => alias::memory(module),
        }
    }

    /// It alone in the XML that libvirt reads.
    pub fn to_xml(&self) -> String {
        write::device(self)
    }
}

/// Remote screens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Graphics {
    /// VNC on loopback, on a port that libvirt picks: whoever wants it comes through the server.
    Vnc,
}

/// A source of randomness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng {
    /// Most bytes in a period; none for no bound.
    pub bytes: Option<Bytes>,
    /// Length of the period, ms; one second when none.
    pub period: Option<u32>,
}

/// A watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// The device that the guest sees.
    pub model: WatchdogModel,
    /// What happens when the guest forgets it.
    pub action: WatchdogAction,
}

/// Watchdog devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchdogModel {
    /// The one of q35's own chipset.
    Itco,
    /// Intel 6300ESB, a PCI card.
    I6300esb,
}

impl WatchdogModel {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Itco => "itco",
            Self::I6300esb => "i6300esb",
        }
    }
}

/// What happens when a guest forgets its watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchdogAction {
    /// Nothing but an event.
    None,
    /// The guest is paused.
    Pause,
    /// Its power is cut.
    Poweroff,
    /// It is reset.
    Reset,
}

impl WatchdogAction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pause => "pause",
            Self::Poweroff => "poweroff",
            Self::Reset => "reset",
        }
    }
}
