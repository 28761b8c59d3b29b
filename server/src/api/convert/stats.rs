//! Counters → wire.

use computedriver::v1;

use crate::hypervisor::stats::{BlockCounters, InterfaceCounters};

/// What does not fit is none: no counter of a sound host comes near.
pub(super) fn wire(counter: Option<u64>) -> Option<i64> {
    i64::try_from(counter?).ok()
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
