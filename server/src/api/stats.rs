//! StatsService: counters of one disk or interface, measured now; its streams stand before it.

mod codec;
mod stream;

use std::time::{Duration, SystemTime};

use computedriver::v1::{self, stats_service_server::StatsService};
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};

pub(super) use stream::Streams;

use super::{Api, convert, status::status};
use crate::{
    error::{Error, Kind},
    hypervisor::{
        HypervisorError,
        stats::{Groups, HostCounters, MonitorCounters},
    },
    model::InstanceId,
    plan,
};

/// A guest's monitor that works for somebody else is free again in milliseconds, unless the guest hangs.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is tried again until then.
const AGAIN: Duration = Duration::from_millis(20);

fn off(id: InstanceId) -> Error {
    HypervisorError::State {
        guest: id,
        message: "domain is not running".to_owned(),
    }
    .into()
}

/// A guest that the store knows and the hypervisor does not is not absent: it does not run.
fn known(id: InstanceId, e: HypervisorError) -> Error {
    match e {
        HypervisorError::NotFound(_) => off(id),
        e => e.into(),
    }
}

impl Api {
    /// Counters that only the guest's monitor knows.
    pub(super) async fn monitored(
        &self,
        id: InstanceId,
        groups: Groups,
    ) -> Result<MonitorCounters, Error> {
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.host.hypervisor.monitor_counters(id, groups).await {
                Err(HypervisorError::Busy) if Instant::now() < limit => sleep(AGAIN).await,
                counted => return counted.map_err(|e| known(id, e)),
            }
        }
    }

    /// Counters that the host keeps of a guest that is on.
    pub(super) async fn counted(
        &self,
        id: InstanceId,
        groups: Groups,
    ) -> Result<HostCounters, Error> {
        let counted = self.host.hypervisor.host_counters_of(id, groups).await;
        let counted = counted.map_err(|e| known(id, e))?;
        match counted.life {
            0 => Err(off(id)),
            _ => Ok(counted),
        }
    }

    async fn block(&self, request: &v1::GetBlockStatsRequest) -> Result<v1::BlockCounters, Error> {
        let id = convert::instance_id(&request.instance_id)?;
        let record = self.host.store.instance(id);
        let record = record.ok_or(HypervisorError::NotFound(id))?;
        let absent = || {
            let message = format!("instance {id} has no disk {}", request.disk_id);
            Error::new(Kind::NotFound, "DISK_NOT_FOUND", message)
                .with("instance_id", id)
                .with("disk_id", &request.disk_id)
        };
        let capabilities = self.host.hypervisor.capabilities().await?;
        let plan = plan::of(&record, &capabilities, &self.host.plan)?;
        let mut disks = plan.disks.iter();
        let disk = disks.find(|disk| disk.id.as_str() == request.disk_id);
        let disk = disk.ok_or_else(absent)?;
        let counted = self.monitored(id, Groups::BLOCK).await?;
        let mut counted = counted.disks.iter();
        let counted = counted.find(|(target, _)| *target == disk.target);
        let (_, counted) = counted.ok_or_else(absent)?;
        Ok(convert::block_counters(disk.id.as_str(), counted))
    }

    async fn interface(
        &self,
        request: &v1::GetInterfaceStatsRequest,
    ) -> Result<v1::InterfaceCounters, Error> {
        let id = convert::instance_id(&request.instance_id)?;
        let record = self.host.store.instance(id);
        let record = record.ok_or(HypervisorError::NotFound(id))?;
        let mut vifs = record.spec.vifs.iter();
        let vif = vifs.find(|vif| vif.id.as_str() == request.interface_id);
        let vif = vif.ok_or_else(|| {
            let message = format!("instance {id} has no interface {}", request.interface_id);
            Error::new(Kind::NotFound, "INTERFACE_NOT_FOUND", message)
                .with("instance_id", id)
                .with("interface_id", &request.interface_id)
        })?;
        let counted = self.counted(id, Groups::INTERFACE).await?;
        let mac = vif.mac.to_string();
        let mut counted = counted.interfaces.into_iter();
        let counted = counted.find(|(known, _)| *known == mac);
        // The host sees nothing of an interface that is plugged nowhere, or into QEMU's own network.
        let (_, counted) = counted.unwrap_or_default();
        Ok(convert::interface_counters(vif.id.as_str(), &counted))
    }
}

#[tonic::async_trait]
impl StatsService for Api {
    async fn get_block_stats(
        &self,
        request: Request<v1::GetBlockStatsRequest>,
    ) -> Result<Response<v1::GetBlockStatsResponse>, Status> {
        let counters = self.block(request.get_ref()).await;
        Ok(Response::new(v1::GetBlockStatsResponse {
            counters: Some(counters.map_err(|e| status(&e))?),
            collect_time: Some(convert::timestamp(SystemTime::now())),
        }))
    }

    async fn get_interface_stats(
        &self,
        request: Request<v1::GetInterfaceStatsRequest>,
    ) -> Result<Response<v1::GetInterfaceStatsResponse>, Status> {
        let counters = self.interface(request.get_ref()).await;
        Ok(Response::new(v1::GetInterfaceStatsResponse {
            counters: Some(counters.map_err(|e| status(&e))?),
            collect_time: Some(convert::timestamp(SystemTime::now())),
        }))
    }
}
