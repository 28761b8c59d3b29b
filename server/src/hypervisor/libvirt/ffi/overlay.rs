//! Calls about the files that a disk rests on.
#![allow(unsafe_code)] // as in `ffi`; each block states why it is sound

use std::{
    ffi::{CString, c_uint},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
};

use virt::{domain::Domain, error::Error as VirtError, sys};

use super::mirror::{done, name};

fn path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// `virDomainSnapshotCreateXML`, of disks only, onto files that are there, and nothing of it is kept.
pub(in super::super) fn snapshot(domain: &Domain, xml: &str) -> Result<(), VirtError> {
    let xml = name(xml);
    let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        | sys::VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        | sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
    // SAFETY: the domain is alive for the time of the call, and the text ends with a zero.
    let made = unsafe { sys::virDomainSnapshotCreateXML(domain.as_ptr(), xml.as_ptr(), flags) };
    if made.is_null() {
        return Err(VirtError::last_error());
    }
    // SAFETY: libvirt gave us this reference, and it is not used any more.
    done(unsafe { sys::virDomainSnapshotFree(made) })
}

/// `virDomainBlockRebase` or `virDomainBlockPull`.
pub(in super::super) fn pull(
    domain: &Domain,
    (target, base): (&str, Option<&Path>),
    flags: c_uint,
) -> Result<(), VirtError> {
    let target = name(target);
    let Some(base) = base.map(path) else {
        // SAFETY: the domain is alive for the time of the call, and the name ends with a zero.
        return done(unsafe { sys::virDomainBlockPull(domain.as_ptr(), target.as_ptr(), 0, 0) });
    };
    // SAFETY: the domain is alive for the time of the call, and both texts end with a zero.
    done(unsafe {
        sys::virDomainBlockRebase(domain.as_ptr(), target.as_ptr(), base.as_ptr(), 0, flags)
    })
}

/// `virDomainBlockCommit` of `top`, or of the file that the guest writes to, into `base`.
pub(in super::super) fn commit(
    domain: &Domain,
    target: &str,
    (base, top): (&Path, Option<&Path>),
    flags: c_uint,
) -> Result<(), VirtError> {
    let (target, base, top) = (name(target), path(base), top.map(path));
    let top = top.as_ref().map_or(ptr::null(), |top| top.as_ptr());
    // SAFETY: the domain is alive for the time of the call, and the texts, which end with a zero, live until its end.
    done(unsafe {
        sys::virDomainBlockCommit(
            domain.as_ptr(),
            target.as_ptr(),
            base.as_ptr(),
            top,
            0,
            flags,
        )
    })
}
