//! The libvirt calls that `virt` does not wrap. Knows C; decides nothing.
#![allow(unsafe_code)] // each block states why it is sound

mod agent;
mod console;
pub(super) mod device;
mod guest;
pub(super) mod identity;
mod job;
pub(super) mod mirror;
mod node;
pub(super) mod overlay;
mod save;
mod secret;
mod stats;

use std::{
    ffi::{CStr, c_void},
    time::Duration,
};

use virt::{connect::Connect, domain::Domain, error::Error as VirtError, sys};

pub(super) use agent::{Fact, Told, agent_timeout, freeze, guest_info, thaw};
pub(super) use console::open_screen;
pub(super) use guest::inject_nmi;
pub(super) use job::{abort_job, backup_begin, job};
pub(super) use node::{compare_hypervisor_cpu, cpu_times};
pub(super) use save::{define_saved, saved_definition};
pub(super) use secret::{secret_usage, secret_value};
pub(super) use stats::{Record, Stats, Value};

unsafe extern "C" {
    fn free(memory: *mut c_void);
}

/// Whether somebody is at work on a running guest's monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Nobody.
    Free,
    /// Somebody, for so long; or it is broken.
    Taken(Duration),
}

/// Asks who is at work on a guest. Takes no turn at its monitor.
pub(super) fn control(domain: &Domain) -> Result<Control, VirtError> {
    let mut info = sys::virDomainControlInfo {
        state: 0,
        details: 0,
        stateTime: 0,
    };
    // SAFETY: the domain is alive for the time of the call, and `info` is libvirt's own structure.
    let done = unsafe { sys::virDomainGetControlInfo(domain.as_ptr(), &raw mut info, 0) };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(match info.state {
        sys::VIR_DOMAIN_CONTROL_OK => Control::Free,
        _ => Control::Taken(Duration::from_millis(info.stateTime)),
    })
}

/// Memory of the host in KiB, what a balloon holds included.
pub(super) fn memory(conn: &Connect) -> Result<u64, VirtError> {
    const ALL: i32 = sys::VIR_NODE_MEMORY_STATS_ALL_CELLS;
    let mut count = 0;
    // SAFETY: the connection is alive; without a buffer libvirt only says how many values there are.
    let done = unsafe {
        sys::virNodeGetMemoryStats(conn.as_ptr(), ALL, std::ptr::null_mut(), &raw mut count, 0)
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    let empty = sys::virNodeMemoryStats {
        field: [0; 80],
        value: 0,
    };
    let mut stats = vec![empty; usize::try_from(count).unwrap_or_default()];
    // SAFETY: the buffer has room for `count` values, which is what libvirt is told.
    let done = unsafe {
        sys::virNodeGetMemoryStats(conn.as_ptr(), ALL, stats.as_mut_ptr(), &raw mut count, 0)
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    let is_total = |stat: &&sys::virNodeMemoryStats| {
        let name: Vec<u8> = stat
            .field
            .iter()
            .map(|letter| letter.cast_unsigned())
            .collect();
        CStr::from_bytes_until_nul(&name).is_ok_and(|name| name.to_bytes() == b"total")
    };
    let total = stats.iter().find(is_total).map(|stat| stat.value);
    total.ok_or_else(VirtError::last_error)
}
