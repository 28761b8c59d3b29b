//! A screen's socket.

use std::os::fd::{FromRawFd, OwnedFd};

use virt::{domain::Domain, error::Error as VirtError, sys};

/// A socket to the guest's first screen, without its password. Takes a turn at the guest's monitor.
pub(in super::super) fn open_screen(domain: &Domain) -> Result<OwnedFd, VirtError> {
    let first = 0;
    // SAFETY: the domain is alive for the time of the call.
    let fd = unsafe {
        sys::virDomainOpenGraphicsFD(
            domain.as_ptr(),
            first,
            sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH,
        )
    };
    if fd < 0 {
        return Err(VirtError::last_error());
    }
    // SAFETY: libvirt has just made it, and gives it away to its caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
