//! Calls about one guest.

use virt::{domain::Domain, error::Error as VirtError, sys};

/// Sends a guest an interrupt that it cannot mask.
pub(in super::super) fn inject_nmi(domain: &Domain) -> Result<(), VirtError> {
    // SAFETY: the domain is alive for the time of the call.
    let done = unsafe { sys::virDomainInjectNMI(domain.as_ptr(), 0) };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(())
}
