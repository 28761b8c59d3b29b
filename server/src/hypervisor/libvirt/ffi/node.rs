//! Calls about the host itself.

use std::ffi::{CStr, CString};

use virt::{connect::Connect, error::Error as VirtError, sys};

use crate::model::CpuTimes;

/// Compares what guests can be given with a processor. One that cannot be given is libvirt's error, which says why.
pub(in super::super) fn compare_hypervisor_cpu(
    conn: &Connect,
    arch: &str,
    virt: &str,
    xml: &str,
) -> Result<sys::virCPUCompareResult, VirtError> {
    let (arch, virt, xml) = (CString::new(arch)?, CString::new(virt)?, CString::new(xml)?);
    // SAFETY: the connection and the texts live through the call; emulator and board may be null, which takes libvirt's
    // own choice.
    let told = unsafe {
        sys::virConnectCompareHypervisorCPU(
            conn.as_ptr(),
            std::ptr::null(),
            arch.as_ptr(),
            std::ptr::null(),
            virt.as_ptr(),
            xml.as_ptr(),
            sys::VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
        )
    };
    if told < 0 {
        return Err(VirtError::last_error());
    }
    Ok(told)
}

/// What all processors together have done; without their frequency.
pub(in super::super) fn cpu_times(conn: &Connect) -> Result<CpuTimes, VirtError> {
    const ALL: i32 = sys::VIR_NODE_CPU_STATS_ALL_CPUS;
    let mut count = 0;
    // SAFETY: the connection is alive; without a buffer libvirt only says how many values there are.
    let done = unsafe {
        sys::virNodeGetCPUStats(conn.as_ptr(), ALL, std::ptr::null_mut(), &raw mut count, 0)
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    let empty = sys::virNodeCPUStats {
        field: [0; 80],
        value: 0,
    };
    let mut stats = vec![empty; usize::try_from(count).unwrap_or_default()];
    // SAFETY: the buffer has room for `count` values, which is what libvirt is told.
    let done = unsafe {
        sys::virNodeGetCPUStats(conn.as_ptr(), ALL, stats.as_mut_ptr(), &raw mut count, 0)
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    let mut times = CpuTimes::default();
    for stat in &stats {
        let name: Vec<u8> = stat
            .field
            .iter()
            .map(|letter| letter.cast_unsigned())
            .collect();
        match CStr::from_bytes_until_nul(&name).map(CStr::to_bytes) {
            Ok(b"user") => times.user = stat.value,
            Ok(b"kernel") => times.kernel = stat.value,
            Ok(b"idle") => times.idle = stat.value,
            Ok(b"iowait") => times.iowait = stat.value,
            _ => {}
        }
    }
    Ok(times)
}
