//! A guest's power through libvirt.

use async_trait::async_trait;
use virt::{connect::Connect, domain::DomainState, error::ErrorNumber, sys};

use super::{
    Call, HEARD, Kind, Libvirt,
    fault::Fault,
    ffi,
    guest::{Did, must, ours, wrong_state},
};
use crate::{
    hypervisor::{HypervisorError, Result, power::Ask, power::Power},
    model::{InstanceId, PowerState},
};

#[async_trait]
impl Power for Libvirt {
    async fn pause(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Monitor, "virDomainSuspend", id);
        let did = self.call(call, move |conn| pause(conn, id)).await?;
        self.stands(id, did, PowerState::Paused).await;
        Ok(())
    }

    async fn resume(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Monitor, "virDomainResume", id);
        let did = self.call(call, move |conn| resume(conn, id)).await?;
        self.stands(id, did, PowerState::Running).await;
        Ok(())
    }

    async fn shutdown(&self, id: InstanceId, by: Ask) -> Result<()> {
        match by {
            Ask::Acpi => {
                let call = Call::of(Kind::Monitor, "virDomainShutdownFlags", id);
                self.call(call, move |conn| shutdown(conn, id, by)).await
            }
            Ask::Agent => {
                let turn = self.turns.take(id).ok_or(HypervisorError::Busy)?;
                let call = Call::of(Kind::Agent, "virDomainShutdownFlags", id);
                let ask = move |conn: &Connect| {
                    let _turn = turn;
                    shutdown(conn, id, by)
                };
                self.call(call, ask).await
            }
        }
    }

    async fn interrupt(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Monitor, "virDomainInjectNMI", id);
        self.call(call, move |conn| {
            let domain = must(ours(conn, id)?, id)?;
            Ok(ffi::inject_nmi(&domain)?)
        })
        .await
    }
}

impl Libvirt {
    /// Waits until libvirt's event has told what was done, so that it is told before whatever the caller does next.
    pub(super) async fn stands(&self, id: InstanceId, did: Did, state: PowerState) {
        if did == Did::Change {
            let mut signal = self.exchange.signals.watch(id);
            let told = signal.wait_for(|signal| signal.state == Some(state));
            if tokio::time::timeout(HEARD, told).await.is_err() {
                tracing::debug!(instance = %id, "libvirt's event has not come yet");
            }
        }
    }
}

/// `virDomainSuspend`
fn pause(conn: &Connect, id: InstanceId) -> Result<Did, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    match domain.info()?.state.unwrap_or(DomainState::NoState) {
        DomainState::Paused => Ok(Did::Nothing),
        DomainState::Running | DomainState::Blocked => {
            domain.suspend()?;
            Ok(Did::Change)
        }
        other => Err(wrong_state(
            id,
            &format!("domain is not running but {other:?}"),
        )),
    }
}

/// `virDomainResume`
fn resume(conn: &Connect, id: InstanceId) -> Result<Did, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    match domain.info()?.state.unwrap_or(DomainState::NoState) {
        DomainState::Running | DomainState::Blocked => Ok(Did::Nothing),
        DomainState::Paused => {
            domain.resume()?;
            Ok(Did::Change)
        }
        other => Err(wrong_state(
            id,
            &format!("domain is not paused but {other:?}"),
        )),
    }
}

/// `virDomainShutdownFlags`
fn shutdown(conn: &Connect, id: InstanceId, by: Ask) -> Result<(), Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if !domain.is_active()? {
        return Ok(());
    }
    let flags = match by {
        Ask::Acpi => sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
        Ask::Agent => sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    };
    match domain.shutdown_flags(flags).map_err(Fault::from) {
        Err(fault) if fault.is(ErrorNumber::OperationInvalid) && !domain.is_active()? => Ok(()),
        // No channel at all.
        Err(fault) if by == Ask::Agent && fault.is(ErrorNumber::ArgumentUnsupported) => {
            Err(HypervisorError::Agent(id).into())
        }
        // The test driver knows one way only.
        Err(fault) if fault.is(ErrorNumber::InvalidArg) => Ok(domain.shutdown()?),
        done => done.map(drop),
    }
}
