//! Calls about block copies.
#![allow(unsafe_code)] // as in `ffi`; each block states why it is sound

use std::{ffi::CString, ptr};

use virt::{domain::Domain, error::Error as VirtError, sys};

pub(super) fn name(target: &str) -> CString {
    CString::new(target).unwrap_or_default()
}

pub(super) fn done(answer: i32) -> Result<(), VirtError> {
    if answer < 0 {
        return Err(VirtError::last_error());
    }
    Ok(())
}

/// Begins a copy of a disk onto what is there already, and writes to both from then on.
pub(in super::super) fn begin(
    domain: &Domain,
    (target, xml): (&str, &str),
    bandwidth: Option<u64>,
) -> Result<(), VirtError> {
    let (target, xml) = (name(target), name(xml));
    let flags = sys::VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
        | sys::VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        | sys::VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES;
    let (mut params, mut count, mut room) = (ptr::null_mut(), 0, 0);
    if let Some(bandwidth) = bandwidth {
        // SAFETY: libvirt makes and grows the list that the three describe; the name is a constant of its own.
        done(unsafe {
            sys::virTypedParamsAddULLong(
                &raw mut params,
                &raw mut count,
                &raw mut room,
                sys::VIR_DOMAIN_BLOCK_COPY_BANDWIDTH.as_ptr(),
                bandwidth,
            )
        })?;
    }
    // SAFETY: the domain is alive for the time of the call, both texts end with a zero, and the list is libvirt's own.
    let begun = done(unsafe {
        sys::virDomainBlockCopy(
            domain.as_ptr(),
            target.as_ptr(),
            xml.as_ptr(),
            params,
            count,
            flags,
        )
    });
    // SAFETY: the list came from libvirt, or is none, and is not used any more.
    unsafe { sys::virTypedParamsFree(params, count) };
    begun
}

/// How far the job on a disk is, and of how much; none when there is none.
pub(in super::super) fn look(
    domain: &Domain,
    target: &str,
) -> Result<Option<(u64, u64)>, VirtError> {
    let target = name(target);
    let mut info = sys::virDomainBlockJobInfo {
        type_: 0,
        bandwidth: 0,
        cur: 0,
        end: 0,
    };
    // SAFETY: the domain is alive for the time of the call, the name ends with a zero, `info` is libvirt's own structure.
    let found = unsafe {
        sys::virDomainGetBlockJobInfo(domain.as_ptr(), target.as_ptr(), &raw mut info, 0)
    };
    done(found)?;
    Ok((found > 0).then_some((info.cur, info.end)))
}

/// Asks the job on a disk to end, and does not wait for it.
pub(in super::super) fn end(domain: &Domain, target: &str, pivot: bool) -> Result<(), VirtError> {
    let target = name(target);
    let flags = match pivot {
        true => sys::VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT,
        false => 0,
    };
    let flags = flags | sys::VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC;
    // SAFETY: the domain is alive for the time of the call, and the name ends with a zero.
    done(unsafe { sys::virDomainBlockJobAbort(domain.as_ptr(), target.as_ptr(), flags) })
}
