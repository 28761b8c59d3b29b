//! Calls about devices and disks of a running guest.
#![allow(unsafe_code)] // as in `ffi`; each block states why it is sound

use std::ffi::CString;

use virt::{domain::Domain, error::Error as VirtError, sys};

/// Asks a running guest to let go of the device of that alias, and does not wait for it.
pub(in super::super) fn detach(domain: &Domain, alias: &str) -> Result<(), VirtError> {
    let alias = CString::new(alias).unwrap_or_default();
    // SAFETY: the domain is alive for the time of the call, and the alias ends with a zero.
    let done = unsafe {
        sys::virDomainDetachDeviceAlias(
            domain.as_ptr(),
            alias.as_ptr(),
            sys::VIR_DOMAIN_AFFECT_LIVE,
        )
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(())
}

/// Size of a disk, as the guest sees it. The `virt` crate reads the answer also when there is none.
pub(in super::super) fn disk_size(domain: &Domain, target: &str) -> Result<u64, VirtError> {
    let target = CString::new(target).unwrap_or_default();
    let mut info = sys::virDomainBlockInfo {
        capacity: 0,
        allocation: 0,
        physical: 0,
    };
    // SAFETY: the domain is alive for the time of the call, the target ends with a zero, and `info` is libvirt's own
    // structure.
    let done =
        unsafe { sys::virDomainGetBlockInfo(domain.as_ptr(), target.as_ptr(), &raw mut info, 0) };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(info.capacity)
}
