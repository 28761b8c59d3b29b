//! How libvirt is to be used.

use std::{path::PathBuf, time::Duration};

/// Which libvirt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectTo {
    /// Its QEMU driver, in this process, with all it keeps below `root`.
    Embedded {
        /// The folder; made if need be. One process owns it.
        root: PathBuf,
    },
    /// One that runs already: `qemu:///system`, `test:///default`.
    Uri(String),
}

/// What guests are to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VirtChoice {
    /// KVM where it is offered and the processor can do it, else QEMU's translator.
    #[default]
    Auto,
    /// KVM, or the link does not come up.
    Kvm,
    /// QEMU's translator.
    Qemu,
}

/// How libvirt is to be used.
#[derive(Clone, Debug)]
pub struct LibvirtSettings {
    /// Which one.
    pub connect: ConnectTo,
    /// What guests are to run on.
    pub virt_type: VirtChoice,
    /// How long a call may take; starting and stopping a guest four times as long.
    pub call_timeout: Duration,
    /// How long a guest's monitor may take to tell its counters: one that says nothing for so long is stuck.
    pub monitor_timeout: Duration,
    /// How long a guest's agent may take to do as it is told; to freeze file systems four times as long.
    pub agent_timeout: Duration,
    /// Guests that may start or stop at the same time.
    pub workers: usize,
}

impl LibvirtSettings {
    /// What serves most hosts: four starts at a time use two cores 2.3 times as well as one, and libvirt itself waits
    /// 30 s for a guest's lock before it gives up.
    pub fn new(connect: ConnectTo) -> Self {
        Self {
            connect,
            virt_type: VirtChoice::Auto,
            call_timeout: Duration::from_secs(40),
            // A monitor answers in milliseconds, and in tenths of a second where a host is overloaded.
            monitor_timeout: Duration::from_secs(5),
            // With libvirt's own 5 s for a sign of life it is told before a caller's usual 20 s are over.
            agent_timeout: Duration::from_secs(14),
            workers: 4,
        }
    }
}
