//! A guest's memory on disk through libvirt: its managed save image, which every start of the guest restores from.

use std::path::PathBuf;

use async_trait::async_trait;
use virt::{connect::Connect, domain::DomainState, error::ErrorNumber, sys};

use super::{
    Call, Kind, Libvirt,
    fault::Fault,
    ffi,
    guest::{Did, create, must, ours, unreadable, wrong_state},
    repoint::{Moved, repointed},
};
use crate::{
    hypervisor::{Result, save::Save, signals::Change},
    model::{EventKind, InstanceId, PowerState},
};

const DISCARDED: Change = Change::new(EventKind::Stopped, PowerState::Shutdown, "destroyed");

#[async_trait]
impl Save for Libvirt {
    async fn save(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Long, "virDomainManagedSave", id);
        let did = self.call(call, move |conn| save(conn, id)).await?;
        self.stands(id, did, PowerState::Suspended).await;
        Ok(())
    }

    async fn saving(&self, id: InstanceId) -> Result<Option<(u64, u64)>> {
        let call = Call::reading(Kind::Monitor, "virDomainGetJobStats", id);
        self.call(call, move |conn| {
            let job = ffi::job(&must(ours(conn, id)?, id)?, 0)?;
            Ok((job.kind != sys::VIR_DOMAIN_JOB_NONE).then_some(job.memory))
        })
        .await
    }

    async fn stop_saving(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Monitor, "virDomainAbortJob", id);
        self.call(call, move |conn| {
            let domain = must(ours(conn, id)?, id)?;
            match ffi::abort_job(&domain).map_err(Fault::from) {
                Err(fault) if fault.is(ErrorNumber::OperationInvalid) => Ok(()),
                // Drivers that cannot save have nothing to stop.
                Err(fault) if fault.is(ErrorNumber::NoSupport) => Ok(()),
                done => done,
            }
        })
        .await
    }

    async fn restore(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Long, "virDomainCreateWithFlags", id);
        let told = self.exchange.signals.turns(id);
        let did = self.call(call, move |conn| restore(conn, id)).await?;
        self.heard(id, told, did).await;
        Ok(())
    }

    async fn repoint(&self, id: InstanceId, disks: &[(String, PathBuf)]) -> Result<()> {
        let disks = disks.to_vec();
        let call = Call::of(Kind::Slow, "virDomainManagedSaveDefineXML", id);
        self.call(call, move |conn| repoint(conn, id, &disks)).await
    }

    async fn discard(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Slow, "virDomainManagedSaveRemove", id);
        let did = self.call(call, move |conn| discard(conn, id)).await?;
        if did == Did::Change {
            // libvirt says nothing of it.
            self.exchange.signals.change(id, DISCARDED);
        }
        Ok(())
    }
}

/// `virDomainManagedSave`
fn save(conn: &Connect, id: InstanceId) -> Result<Did, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if !domain.is_active()? && domain.has_managed_save(0)? {
        return Ok(Did::Nothing);
    }
    domain.managed_save(0)?;
    Ok(Did::Change)
}

/// `virDomainManagedSaveDefineXML`
fn repoint(conn: &Connect, id: InstanceId, disks: &[Moved]) -> Result<(), Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if domain.is_active()? || !domain.has_managed_save(0)? {
        return Ok(());
    }
    let saved = ffi::saved_definition(&domain)?;
    match repointed(&saved, disks).map_err(|e| unreadable(&e))? {
        Some(changed) => Ok(ffi::define_saved(&domain, &changed)?),
        None => Ok(()),
    }
}

/// `virDomainCreateWithFlags`, of a guest that has a managed save image.
fn restore(conn: &Connect, id: InstanceId) -> Result<Did, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if domain.is_active()? {
        if domain
            .info()?
            .state
            .is_known_and(|state| state == DomainState::PMSuspended)
        {
            domain.pm_wakeup(0)?;
            return Ok(Did::Change);
        }
        return Ok(Did::Nothing);
    }
    if !domain.has_managed_save(0)? {
        return Err(wrong_state(id, "domain has nothing saved"));
    }
    create(&domain, sys::VIR_DOMAIN_NONE)?;
    Ok(Did::Change)
}

/// `virDomainManagedSaveRemove`
fn discard(conn: &Connect, id: InstanceId) -> Result<Did, Fault> {
    let Some(domain) = ours(conn, id)? else {
        return Ok(Did::Nothing);
    };
    if !domain.has_managed_save(0)? {
        return Ok(Did::Nothing);
    }
    domain.managed_save_remove(0)?;
    Ok(Did::Change)
}
