//! What the host has, has promised, uses and offers.

use computedriver::v1;
use serde_json::json;

use super::{
    Api,
    about::{architecture, hostname},
    feature,
};
use crate::{
    api::convert,
    error::{Error, Result},
    host::{Amount, Measured, Offer},
    operation::Gate,
};

/// The trait of a host that takes no new instances, which schedulers leave out.
const DISABLED: &str = "COMPUTE_STATUS_DISABLED";

pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn measured(told: Measured) -> v1::HostStats {
    v1::HostStats {
        time: Some(convert::timestamp(told.time)),
        cpus: told.cpus,
        memory_total_mib: told.memory.0 >> 20,
        memory_free_mib: told.memory_free.0 >> 20,
        disk_total_bytes: told.disk.0,
        disk_free_bytes: told.disk_free.0,
        image_cache_bytes: told.image_cache.0,
        running_instances: count(told.running),
        instances: count(told.instances),
        load_1m: told.load,
        cpu: told.cpu.map(convert::cpu_out),
    }
}

impl Api {
    /// What the host has and uses, no older than it may be.
    pub(super) async fn stats(&self, refresh: bool) -> Result<v1::HostStats> {
        let measure = async { self.host.measure().await.map(measured) };
        if refresh {
            self.recent.stats.renew(measure).await
        } else {
            self.recent.stats.get(super::recent::STATS, measure).await
        }
    }

    /// What the host has left, as of now.
    pub(super) async fn available(&self) -> Result<v1::AvailableResource> {
        let resources = self.host.resources().await?;
        let node = self.host.store.node();
        let amount = |(amount, used): (Amount, u64)| v1::ResourceAmount {
            total: amount.total,
            reserved: amount.reserved,
            allocation_ratio: amount.ratio,
            claimed: amount.claimed,
            left: amount.left,
            used,
        };
        Ok(v1::AvailableResource {
            vcpus: Some(amount(resources.vcpus)),
            memory_mib: Some(amount(resources.memory_mib)),
            disk_gib: Some(amount(resources.disk_gib)),
            running_instances: count(resources.running),
            instances: count(resources.instances),
            enabled: node.is_open() && self.operations.gate() == Gate::Open,
            hypervisor_hostname: hostname(),
            hypervisor: Some(self.hypervisor().await),
            disk_available_least_gib: resources.disk_least_gib,
            maintenance: node.maintenance.is_some(),
            disabled_note: node.note().to_owned(),
        })
    }

    /// What the host offers to a placement service.
    pub(super) async fn inventory(&self) -> Result<v1::GetInventoryResponse> {
        let offers = self.host.offers().await?;
        let mut traits = self.host.cpu_traits().await?;
        traits.extend(feature::traits());
        if !self.host.store.node().is_open() {
            traits.push(DISABLED.to_owned());
        }
        traits.sort_unstable();
        let told = json!({ "offers": offers, "traits": traits }).to_string();
        let generation = self.host.store.inventory_generation(told).await?;
        let inventory = |offer: Offer| v1::Inventory {
            resource_class: offer.class.to_owned(),
            total: offer.total,
            reserved: offer.reserved,
            min_unit: 1,
            max_unit: offer.total,
            step_size: 1,
            allocation_ratio: offer.ratio,
            used: offer.used,
        };
        Ok(v1::GetInventoryResponse {
            inventories: offers.into_iter().map(inventory).collect(),
            traits,
            generation,
        })
    }

    pub(super) fn nodes(&self) -> v1::GetAvailableNodesResponse {
        let node = v1::Node {
            name: hostname(),
            node_id: self.host.store.node().id.to_string(),
        };
        v1::GetAvailableNodesResponse { nodes: vec![node] }
    }

    pub(super) async fn connector(
        &self,
        request: v1::GetVolumeConnectorRequest,
    ) -> Result<v1::VolumeConnector, Error> {
        if !request.instance_id.is_empty() {
            convert::instance_id(&request.instance_id)?;
        }
        let own = self.host.initiator().await?;
        // Nobody else reaches this host by it.
        let address = Some(self.about.my_ip).filter(|ip| !ip.is_loopback());
        let (ports, nodes) = own
            .ports
            .into_iter()
            .map(|port| (port.port, port.node))
            .unzip();
        Ok(v1::VolumeConnector {
            host: hostname(),
            ip_address: address.map(|ip| ip.to_string()).unwrap_or_default(),
            iscsi_initiator: own.iqn.unwrap_or_default(),
            nvme_host_nqn: own.nqn.unwrap_or_default(),
            fc_wwpns: ports,
            fc_wwnns: nodes,
            // QEMU opens each volume over one path.
            multipath: false,
            architecture: architecture(),
            os_type: std::env::consts::OS.to_owned(),
        })
    }
}
