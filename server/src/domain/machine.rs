//! Board, processor and memory of a guest, and those devices that name nothing outside it.

use serde::{Deserialize, Serialize};

use super::{Graphics, Rng, Watchdog};
use crate::model::{Architecture, Bytes, VideoModel, VirtType};

/// What is the same wherever and for whomever the guest runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What runs its code.
    pub virt: VirtType,
    /// Its architecture; none leaves it to libvirt.
    pub architecture: Option<Architecture>,
    /// Canonical name of its board.
    pub board: Option<String>,
    /// Path of the emulator; none leaves it to libvirt.
    pub emulator: Option<String>,
    /// Memory.
    pub memory: Bytes,
    /// Virtual processors.
    pub vcpus: u32,
    /// What it may be given of both while it runs.
    #[serde(default)]
    pub room: Room,
    /// The processor that it sees; none leaves it to libvirt.
    pub cpu: Option<Cpu>,
    /// Shares and bounds of processor time.
    pub cpu_tune: CpuTune,
    /// Whether the firmware offers a boot menu.
    pub boot_menu: bool,
    /// What its real-time clock shows when it starts.
    pub clock: Clock,
    /// How its clocks tick.
    pub timers: Timers,
    /// Room for translated code under TCG; none leaves it to QEMU.
    pub tb_cache: Option<Bytes>,
    /// PCI Express ports, those for hot-plug included; zero on a board that has none.
    pub pcie_ports: u32,
    /// Remote screen.
    pub graphics: Option<Graphics>,
    /// Graphics card.
    pub video: VideoModel,
    /// Source of randomness.
    pub rng: Option<Rng>,
    /// Watchdog.
    pub watchdog: Option<Watchdog>,
    /// Seconds between the balloon's statistics; none has no balloon.
    pub balloon_period: Option<u32>,
    /// Channel of the QEMU guest agent.
    pub agent_channel: bool,
}

/// What a guest may be given while it runs; what is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Virtual processors that it has then at most.
    pub vcpus: Option<u32>,
    /// Memory that it has then at most.
    pub memory: Option<Bytes>,
}

/// Memory that a guest is given while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryModule {
    /// What it has before.
    pub from: Bytes,
    /// What it has with it.
    pub to: Bytes,
}

/// The processor that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Where its features come from.
    pub mode: CpuMode,
    /// How its threads are laid out; none leaves it to QEMU: all sockets.
    pub topology: Option<Topology>,
}

/// Where a guest's processor features come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuMode {
    /// The nearest named model to the host's, and what it has more.
    HostModel,
    /// The host's own.
    HostPassthrough,
    /// Everything that the accelerator can give.
    Maximum,
    /// A named model.
    Custom(String),
}

/// How a guest's threads are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Cores of each.
    pub cores: u32,
    /// Threads of each.
    pub threads: u32,
}

/// What a guest's real-time clock shows when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// Universal time.
    #[default]
    Utc,
    /// The host's local time.
    LocalTime,
}

/// How a guest's clocks tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timers {
    /// As the emulator has them.
    Emulated,
    /// As guests under KVM want them: late ticks are made up for, and there is no HPET.
    Kvm,
    /// The same, with the clock and the hints that Windows knows from Hyper-V.
    HyperV,
}

/// Shares and bounds of processor time; what is none is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTune {
    /// Weight against other guests.
    pub shares: Option<u64>,
    /// Length of a round, µs.
    pub period: Option<u64>,
    /// Time of each vCPU in a round, µs.
    pub quota: Option<u64>,
}
