//! Questions to a guest's agent that `virt` does not wrap.

use std::{collections::BTreeMap, ptr, slice, time::Duration};

use virt::{domain::Domain, error::Error as VirtError, sys};

use super::{
    Value,
    stats::{name, value},
};

/// Values by libvirt's names for them.
pub(in super::super) type Told = BTreeMap<String, Fact>;

/// A value that a guest told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Fact {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// `virDomainAgentSetResponseTimeout`: how long the agent may take for each command that has no time of its own.
pub(in super::super) fn agent_timeout(domain: &Domain, limit: Duration) -> Result<(), VirtError> {
    let seconds = i32::try_from(limit.as_secs().max(1)).unwrap_or(i32::MAX);
    // SAFETY: the domain is alive for the time of the call.
    let done = unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), seconds, 0) };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(())
}

/// `virDomainFSFreeze` of all file systems; answers how many.
pub(in super::super) fn freeze(domain: &Domain) -> Result<u32, VirtError> {
    // SAFETY: the domain is alive for the time of the call; no mount points are named.
    count(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), ptr::null_mut(), 0, 0) })
}

/// `virDomainFSThaw` of all file systems; answers how many.
pub(in super::super) fn thaw(domain: &Domain) -> Result<u32, VirtError> {
    // SAFETY: as in `freeze`.
    count(unsafe { sys::virDomainFSThaw(domain.as_ptr(), ptr::null_mut(), 0, 0) })
}

fn count(done: i32) -> Result<u32, VirtError> {
    u32::try_from(done).map_err(|_| VirtError::last_error())
}

/// `virDomainGetGuestInfo` of some kinds.
pub(in super::super) fn guest_info(domain: &Domain, kinds: u32) -> Result<Told, VirtError> {
    let (mut params, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the domain is alive for the time of the call; libvirt sets both if and only if it answers with no error.
    let done = unsafe {
        sys::virDomainGetGuestInfo(domain.as_ptr(), kinds, &raw mut params, &raw mut length, 0)
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    if params.is_null() {
        return Ok(Told::new());
    }
    let count = usize::try_from(length).unwrap_or_default();
    // SAFETY: libvirt's list has that many parameters, and lives until it is freed below.
    let list = unsafe { slice::from_raw_parts(params, count) };
    let told = list.iter().filter_map(|param| {
        let fact = match value(param)? {
            Value::Number(number) => Fact::Number(number),
            Value::Text(text) => Fact::Text(text.to_owned()),
        };
        Some((name(param)?.to_owned(), fact))
    });
    let told = told.collect();
    // SAFETY: the list came from libvirt, and nothing borrows from it any more.
    unsafe { sys::virTypedParamsFree(params, length) };
    Ok(told)
}
