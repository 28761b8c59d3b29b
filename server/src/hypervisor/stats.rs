//! What is counted of guests, of two kinds: what the host itself knows, and what only a guest's own monitor knows.
//!
//! The first is read of all guests at once and waits for none of them. The second is asked of one guest at a time, and
//! a guest that hangs answers it late or never. Counters are cumulative since the guest's start; absent is not zero.

use bitflags::bitflags;

use crate::model::{InstanceId, PowerState};

bitflags! {
    /// Which counters are wanted.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Groups: u8 {
        /// Processor time of the whole guest.
        const CPU = 1;
        /// Processor time of each of its vCPUs.
        const VCPU = 1 << 1;
        /// The memory it has, and what it takes of the host.
        const MEMORY = 1 << 2;
        /// Counters of its interfaces.
        const INTERFACE = 1 << 3;
        /// What the guest itself says of its memory. Asks the monitor.
        const BALLOON = 1 << 4;
        /// Counters of its disks. Asks the monitor.
        const BLOCK = 1 << 5;
    }
}

impl Groups {
    /// Those that only a guest's monitor knows.
    pub const MONITOR: Self = Self::BALLOON.union(Self::BLOCK);

    /// Those that the host itself knows.
    pub const HOST: Self = Self::MONITOR.complement();
}

/// Counters that the host itself keeps of a guest. A group that was not asked for, or that this hypervisor does not
/// tell, is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCounters {
    /// Which guest.
    pub id: InstanceId,
    /// Whether it runs; `Unknown` when this one guest could not be read, without a life and counters then.
    pub state: PowerState,
    /// Another one after each start of the guest, so that it tells counters that began again at 0. 0 while it is off.
    pub life: u64,
    /// Processor time, ns.
    pub cpu_time_ns: Option<u64>,
    /// Of each vCPU, in ascending order of their numbers.
    pub cpus: Vec<CpuCounters>,
    /// Its memory.
    pub memory: Option<MemoryUse>,
    /// Of each interface that the host sees, by its MAC address as the definition writes it.
    pub interfaces: Vec<(String, InterfaceCounters)>,
}

/// Counters of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuCounters {
    /// Its number, from 0.
    pub id: u32,
    /// Time it ran, ns.
    pub time_ns: Option<u64>,
    /// Time it was ready to run and did not, ns.
    pub delay_ns: Option<u64>,
}

/// Memory of a guest, as the host sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What it may grow to, KiB.
    pub maximum_kib: u64,
    /// What it has, KiB.
    pub current_kib: Option<u64>,
    /// What it takes of the host, KiB.
    pub rss_kib: Option<u64>,
}

/// Counters of an interface, as the guest sees it: received is what came to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Bytes received.
    pub rx_bytes: Option<u64>,
    /// Packets received.
    pub rx_packets: Option<u64>,
    /// Errors on receiving.
    pub rx_errs: Option<u64>,
    /// Packets dropped on receiving.
    pub rx_drop: Option<u64>,
    /// Bytes sent.
    pub tx_bytes: Option<u64>,
    /// Packets sent.
    pub tx_packets: Option<u64>,
    /// Errors on sending.
    pub tx_errs: Option<u64>,
    /// Packets dropped on sending.
    pub tx_drop: Option<u64>,
}

/// Counters that only the guest's monitor knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonitorCounters {
    /// As [`HostCounters::life`], at the time of the answer.
    pub life: u64,
    /// Of each disk, by its target: `vda`.
    pub disks: Vec<(String, BlockCounters)>,
    /// What the guest itself says of its memory; none when its balloon driver does not tell.
    pub balloon: Option<BalloonCounters>,
}

/// Counters of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounters {
    /// Read requests.
    pub rd_req: Option<u64>,
    /// Bytes read.
    pub rd_bytes: Option<u64>,
    /// Time of reads, ns.
    pub rd_time_ns: Option<u64>,
    /// Write requests.
    pub wr_req: Option<u64>,
    /// Bytes written.
    pub wr_bytes: Option<u64>,
    /// Time of writes, ns.
    pub wr_time_ns: Option<u64>,
    /// Flush requests.
    pub fl_req: Option<u64>,
    /// Time of flushes, ns.
    pub fl_time_ns: Option<u64>,
    /// Errors.
    pub errs: Option<u64>,
}

/// What a guest says of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonCounters {
    /// What it leaves unused, KiB.
    pub unused_kib: Option<u64>,
    /// What it could use without swapping, KiB.
    pub available_kib: Option<u64>,
}
