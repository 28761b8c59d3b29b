//! Counters → wire.

use computedriver::v1;

use crate::hypervisor::stats::{
    BalloonCounters, BlockCounters, CpuCounters, InterfaceCounters, MemoryUse,
};

/// What does not fit is none: no counter of a sound host comes near.
pub(super) fn wire(counter: Option<u64>) -> Option<i64> {
    i64::try_from(counter?).ok()
}

pub(crate) fn cpu_counters(counted: &CpuCounters) -> v1::CpuDiagnostics {
    v1::CpuDiagnostics {
        id: counted.id,
        time_ns: wire(counted.time_ns),
        delay_ns: wire(counted.delay_ns),
    }
}

/// What the guest says of its memory is of little use without what it has.
pub(crate) fn memory(
    memory: Option<MemoryUse>,
    told: Option<BalloonCounters>,
) -> Option<v1::MemoryDiagnostics> {
    let (memory, told) = (memory?, told.unwrap_or_default());
    Some(v1::MemoryDiagnostics {
        maximum_kib: memory.maximum_kib,
        current_kib: memory.current_kib,
        unused_kib: told.unused_kib,
        available_kib: told.available_kib,
        rss_kib: memory.rss_kib,
    })
}

pub(crate) fn block_counters(id: &str, counted: &BlockCounters) -> v1::BlockCounters {
    v1::BlockCounters {
        disk_id: id.to_string(),
        rd_req: wire(counted.rd_req),
        rd_bytes: wire(counted.rd_bytes),
        wr_req: wire(counted.wr_req),
        wr_bytes: wire(counted.wr_bytes),
        errs: wire(counted.errs),
        fl_req: wire(counted.fl_req),
        rd_time_ns: wire(counted.rd_time_ns),
        wr_time_ns: wire(counted.wr_time_ns),
        fl_time_ns: wire(counted.fl_time_ns),
    }
}

pub(crate) fn interface_counters(id: &str, counted: &InterfaceCounters) -> v1::InterfaceCounters {
    v1::InterfaceCounters {
        interface_id: id.to_string(),
        rx_bytes: wire(counted.rx_bytes),
        rx_packets: wire(counted.rx_packets),
        rx_errs: wire(counted.rx_errs),
        rx_drop: wire(counted.rx_drop),
        tx_bytes: wire(counted.tx_bytes),
        tx_packets: wire(counted.tx_packets),
        tx_errs: wire(counted.tx_errs),
        tx_drop: wire(counted.tx_drop),
    }
}
