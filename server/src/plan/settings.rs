//! What the host's owner has settled for all guests.

use std::{fmt, time::Duration};

use crate::{
    domain::{Cache, Format},
    model::{Bytes, MachineType},
};

/// What the host's owner has settled for all guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// Board of guests whose image asks for none.
    pub machine: MachineType,
    /// The processor that guests see.
    pub cpu: CpuChoice,
    /// Format of root, ephemeral and blank disks.
    pub disk_format: Format,
    /// How the host caches disks.
    pub disk_cache: Cache,
    /// Whether guests have a VNC screen on loopback.
    pub vnc: bool,
    /// PCI Express ports left free on q35, one for each device that can be plugged into a running guest.
    pub spare_ports: u32,
    /// Room for translated code of each guest under TCG; none leaves it to QEMU.
    pub tb_cache: Option<Bytes>,
    /// Seconds between the balloon's statistics.
    pub balloon_period: u32,
    /// How long a guest is asked to switch itself off before its power is cut, where no caller says; zero is not at all.
    pub shutdown_timeout: Duration,
    /// How long a rescue lasts; none until it is ended.
    pub rescue_timeout: Option<Duration>,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            machine: MachineType::Q35,
            cpu: CpuChoice::Auto,
            disk_format: Format::Qcow2,
            // Data that the guest has flushed survives the host, and no page is cached twice.
            disk_cache: Cache::None,
            vnc: true,
            // As many volumes and interfaces as most guests ever see; each free port costs the firmware a moment.
            spare_ports: 8,
            // QEMU's own default may take a GiB beside the guest's memory, which no claim counts.
            tb_cache: Some(Bytes(64 << 20)),
            balloon_period: 10,
            shutdown_timeout: Duration::from_secs(60),
            rescue_timeout: None,
        }
    }
}

/// The processor that guests see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CpuChoice {
    /// `host-model` under KVM, `maximum` under TCG.
    #[default]
    Auto,
    /// The nearest named model to the host's, and what it has more: migrates between like hosts.
    HostModel,
    /// The host's own, under KVM only.
    HostPassthrough,
    /// Everything that the accelerator can give.
    Maximum,
    /// A model by libvirt's name.
    Custom(String),
}

impl fmt::Display for CpuChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::HostModel => "host-model",
            Self::HostPassthrough => "host-passthrough",
            Self::Maximum => "maximum",
            Self::Custom(model) => model,
        })
    }
}
