//! InjectNetworkInfo and ResetNetwork: a guest's interfaces get the addresses that their vifs have, or are brought down
//! and up.

use std::time::Duration;

use async_trait::async_trait;

use super::{Action, standing::admitted};
use crate::{
    error::{Details, Error, Kind, Result, Violation},
    host::Host,
    hypervisor::agent::{GuestInterface, Program},
    model::{InstanceId, InterfaceId, MacAddress, Phase, Verb, Vif},
    plan::inside,
    step::inside as guest,
    task::Task,
};

/// Sets the addresses of the guest's interfaces.
#[derive(Clone, Debug)]
pub struct InjectNetworkInfo {
    /// Whose.
    pub instance: InstanceId,
    /// Only these; all when there are none.
    pub interfaces: Vec<InterfaceId>,
}

/// Brings the guest's interfaces down and up.
#[derive(Clone, Copy, Debug)]
pub struct ResetNetwork {
    /// Whose.
    pub instance: InstanceId,
}

/// A network service may wait for an answer to DHCP.
const SETTLE: Duration = Duration::from_secs(60);
const ASKS: &str = "guest-network-get-interfaces";

#[async_trait]
impl Action for InjectNetworkInfo {
    const VERB: Verb = Verb::InjectNetworkInfo;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, id) = (task.host().clone(), self.instance);
        let record = admitted(&host, Self::VERB, id).await?.record;
        let vifs = self.chosen(&record.spec.vifs)?;
        task.report().begin(Phase::Agent, "setting addresses");
        let set = async {
            let told = asked(&host, id).await?;
            let mut programs = Vec::new();
            for vif in vifs {
                let there = find(&told, vif).ok_or_else(|| absent(&vif.id))?;
                programs.push(inside::set_addresses(vif, there));
            }
            run_all(&host, id, programs).await?;
            Ok(host.hypervisor.guest_interfaces(id).await?)
        };
        let told = set.await.map_err(|e: Error| e.in_phase(Phase::Agent))?;
        task.report().end(Phase::Agent);
        task.answer(&told)
    }
}

impl InjectNetworkInfo {
    /// The vifs that are meant and have an address.
    fn chosen<'a>(&self, vifs: &'a [Vif]) -> Result<Vec<&'a Vif>> {
        let known = |id: &&InterfaceId| vifs.iter().any(|vif| vif.id == **id);
        if let Some(id) = self.interfaces.iter().find(|id| !known(id)) {
            return Err(absent(id));
        }
        let bare = |vif: &&Vif| self.interfaces.contains(&vif.id) && !inside::has_address(vif);
        if let Some(vif) = vifs.iter().find(bare) {
            return Err(bare_of_addresses(&vif.id));
        }
        let meant = |vif: &&Vif| self.interfaces.is_empty() || self.interfaces.contains(&vif.id);
        let chosen = vifs.iter().filter(meant);
        Ok(chosen.filter(|vif| inside::has_address(vif)).collect())
    }
}

#[async_trait]
impl Action for ResetNetwork {
    const VERB: Verb = Verb::ResetNetwork;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, id) = (task.host().clone(), self.instance);
        let record = admitted(&host, Self::VERB, id).await?.record;
        task.report()
            .begin(Phase::Agent, "bringing interfaces down and up");
        let reset = async {
            let told = asked(&host, id).await?;
            let vifs = record.spec.vifs.iter();
            let there = vifs.filter_map(|vif| find(&told, vif));
            let programs = there.map(|there| inside::reset(&there.name)).collect();
            run_all(&host, id, programs).await
        };
        reset.await.map_err(|e| e.in_phase(Phase::Agent))?;
        task.report().end(Phase::Agent);
        Ok(())
    }
}

async fn asked(host: &Host, id: InstanceId) -> Result<Vec<GuestInterface>> {
    guest::able(host, id, &[&guest::RUNS[..], &[ASKS]].concat()).await?;
    Ok(host.hypervisor.guest_interfaces(id).await?)
}

async fn run_all(host: &Host, id: InstanceId, programs: Vec<Program>) -> Result<()> {
    for program in programs {
        guest::run_well(host, id, &program, SETTLE).await?;
    }
    Ok(())
}

/// The guest's interface with the vif's address on the wire.
fn find<'a>(told: &'a [GuestInterface], vif: &Vif) -> Option<&'a GuestInterface> {
    let is_it = |told: &&GuestInterface| {
        let mac = told.mac.as_deref().map(str::parse::<MacAddress>);
        matches!(mac, Some(Ok(mac)) if mac == vif.mac)
    };
    told.iter().find(is_it)
}

fn bare_of_addresses(id: &InterfaceId) -> Error {
    let message = format!("interface {id} has no fixed address that the guest could be given");
    let fault = Violation {
        field: "interface_ids".to_owned(),
        description: format!("must not have {id}, which has no fixed address"),
    };
    let details = Details {
        violations: vec![fault],
        ..Details::default()
    };
    Error::new(Kind::Invalid, "INVALID_REQUEST", message)
        .detailed(details)
        .with("interface_id", id)
}

fn absent(id: &InterfaceId) -> Error {
    let message = format!("there is no interface {id}, or the guest does not see it");
    Error::new(Kind::NotFound, "INTERFACE_NOT_FOUND", message).with("interface_id", id)
}
