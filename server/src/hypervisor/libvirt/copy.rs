//! Copies of disks through libvirt's push backups: QEMU keeps what the guest overwrites until it has been copied, and the
//! guest's own chain of files is not touched.

use std::ffi::{CStr, CString};

use async_trait::async_trait;
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

use super::{
    Libvirt,
    call::{Call, Kind},
    fault::Fault,
    ffi,
    guest::{must, ours},
};
use crate::{
    domain,
    hypervisor::{
        HypervisorError, Result,
        copy::{Copied, Copying, DiskCopy},
    },
    model::InstanceId,
};

#[async_trait]
impl Copying for Libvirt {
    async fn begin_copy(&self, id: InstanceId, copy: &DiskCopy) -> Result<()> {
        let xml = domain::backup(&copy.target, &copy.file, copy.format);
        let xml = CString::new(xml).map_err(|_| HypervisorError::Unsupported {
            message: "a file's name with a zero in it".to_owned(),
        })?;
        let call = Call::of(Kind::Monitor, "virDomainBackupBegin", id);
        self.call(call, move |conn| begin(conn, id, &xml)).await
    }

    async fn copied(&self, id: InstanceId) -> Result<Copied> {
        let call = Call::reading(Kind::Monitor, "virDomainGetJobStats", id);
        self.call(call, move |conn| copied(&must(ours(conn, id)?, id)?))
            .await
    }

    async fn abort_copy(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Monitor, "virDomainAbortJob", id);
        self.call(call, move |conn| abort(conn, id)).await
    }
}

/// `virDomainBackupBegin`
fn begin(conn: &Connect, id: InstanceId, xml: &CStr) -> Result<(), Fault> {
    let domain = must(ours(conn, id)?, id)?;
    let begun = ffi::backup_begin(&domain, xml).map_err(Fault::from);
    match begun {
        // So libvirt says, too, of a guest that went off just now.
        Err(fault) if fault.is(ErrorNumber::OperationUnsupported) && !domain.is_active()? => {
            let message = "the guest has stopped".to_owned();
            Err(HypervisorError::State { guest: id, message }.into())
        }
        begun => begun,
    }
}

/// `virDomainGetJobStats`, of the job that runs or of the one that ended last.
fn copied(domain: &Domain) -> Result<Copied, Fault> {
    let now = ffi::job(domain, 0)?;
    if now.kind != sys::VIR_DOMAIN_JOB_NONE {
        let (done, total) = now.disk;
        return Ok(Copied::Running { done, total });
    }
    let ended = sys::VIR_DOMAIN_JOB_STATS_COMPLETED | sys::VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED;
    let ended = ffi::job(domain, ended)?;
    if ended.kind == sys::VIR_DOMAIN_JOB_COMPLETED && !ended.failed {
        return Ok(Copied::Done);
    }
    Ok(Copied::Failed(ended.error))
}

/// `virDomainAbortJob`
fn abort(conn: &Connect, id: InstanceId) -> Result<(), Fault> {
    let Some(domain) = ours(conn, id)? else {
        return Ok(());
    };
    if !domain.is_active()? {
        return Ok(());
    }
    match ffi::abort_job(&domain).map_err(Fault::from) {
        // There is none.
        Err(fault) if fault.is(ErrorNumber::OperationInvalid) => Ok(()),
        done => done,
    }
}
