//! Jobs on a guest: copies of its disks, and their end.

use std::{
    ffi::{CStr, c_uint},
    ptr, slice,
};

use virt::{domain::Domain, error::Error as VirtError, sys};

use super::stats::{Value, name, value};

/// A job as libvirt tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Job {
    /// One of `VIR_DOMAIN_JOB_…`.
    pub(in super::super) kind: u32,
    /// Bytes of disks so far, and in all.
    pub(in super::super) disk: (u64, u64),
    /// Bytes of memory so far, and in all.
    pub(in super::super) memory: (u64, u64),
    /// Whether it has failed.
    pub(in super::super) failed: bool,
    /// Why.
    pub(in super::super) error: String,
}

/// `virDomainGetJobStats`. `virt` takes libvirt's list for one of Rust's, also when there is none.
pub(in super::super) fn job(domain: &Domain, flags: c_uint) -> Result<Job, VirtError> {
    let (mut kind, mut params, mut length) = (0, ptr::null_mut(), 0);
    // SAFETY: the domain is alive for the time of the call; libvirt sets the list if and only if there is no error.
    let done = unsafe {
        sys::virDomainGetJobStats(
            domain.as_ptr(),
            &raw mut kind,
            &raw mut params,
            &raw mut length,
            flags,
        )
    };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    let mut job = Job {
        kind: u32::try_from(kind).unwrap_or_default(),
        ..Job::default()
    };
    if !params.is_null() {
        let count = usize::try_from(length).unwrap_or_default();
        // SAFETY: the list has that many parameters, and nothing borrows from it after this block.
        let list: &[sys::_virTypedParameter] = unsafe { slice::from_raw_parts(params, count) };
        for param in list {
            job.learn(name(param).unwrap_or_default(), value(param));
        }
        // SAFETY: the list came from libvirt and is not used any more.
        unsafe { sys::virTypedParamsFree(params, length) };
    }
    Ok(job)
}

impl Job {
    fn learn(&mut self, name: &str, value: Option<Value<'_>>) {
        match (name, value) {
            ("disk_processed", Some(Value::Number(done))) => self.disk.0 = done,
            ("disk_total", Some(Value::Number(total))) => self.disk.1 = total,
            ("memory_processed", Some(Value::Number(done))) => self.memory.0 = done,
            ("memory_total", Some(Value::Number(total))) => self.memory.1 = total,
            ("success", Some(Value::Number(success))) => self.failed = success == 0,
            ("errmsg", Some(Value::Text(why))) => why.clone_into(&mut self.error),
            _ => {}
        }
    }
}

/// `virDomainBackupBegin`, without a checkpoint.
pub(in super::super) fn backup_begin(domain: &Domain, xml: &CStr) -> Result<(), VirtError> {
    // SAFETY: the domain is alive for the time of the call, and libvirt keeps nothing of the text.
    let done = unsafe { sys::virDomainBackupBegin(domain.as_ptr(), xml.as_ptr(), ptr::null(), 0) };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(())
}

/// `virDomainAbortJob`
pub(in super::super) fn abort_job(domain: &Domain) -> Result<(), VirtError> {
    // SAFETY: the domain is alive for the time of the call.
    let done = unsafe { sys::virDomainAbortJob(domain.as_ptr()) };
    if done < 0 {
        return Err(VirtError::last_error());
    }
    Ok(())
}
