//! HostService.

mod about;
mod cpu;
mod feature;
pub(super) mod recent;
mod report;
mod resource;
mod switch;

use std::time::{Duration, SystemTime};

use computedriver::v1::{self, host_service_server::HostService};
use tonic::{Request, Response, Status};

use super::{Api, convert, status::status, stream::Answers};
use crate::{
    error::{Error, Result},
    sys,
};

type Reply<T> = Result<Response<T>, Status>;

/// The answer as the wire has it.
fn reply<T>(answer: Result<T>) -> Reply<T> {
    answer.map(Response::new).map_err(|e| status(&e))
}

#[tonic::async_trait]
impl HostService for Api {
    async fn get_readiness(
        &self,
        _: Request<v1::GetReadinessRequest>,
    ) -> Reply<v1::GetReadinessResponse> {
        Ok(Response::new(self.readiness()))
    }

    async fn get_capabilities(
        &self,
        _: Request<v1::GetCapabilitiesRequest>,
    ) -> Reply<v1::GetCapabilitiesResponse> {
        Ok(Response::new(self.capabilities().await))
    }

    async fn get_host_ip_addr(
        &self,
        _: Request<v1::GetHostIpAddrRequest>,
    ) -> Reply<v1::GetHostIpAddrResponse> {
        Ok(Response::new(v1::GetHostIpAddrResponse {
            ip_address: self.about.my_ip.to_string(),
        }))
    }

    async fn get_host_uptime(
        &self,
        _: Request<v1::GetHostUptimeRequest>,
    ) -> Reply<v1::GetHostUptimeResponse> {
        let uptime = sys::uptime::read()
            .map_err(|e| status(&Error::internal(format!("uptime cannot be read: {e}"))))?;
        let since = Duration::from_secs_f64(uptime.seconds);
        let [load_1m, load_5m, load_15m] = uptime.load;
        Ok(Response::new(v1::GetHostUptimeResponse {
            boot_time: SystemTime::now().checked_sub(since).map(convert::timestamp),
            uptime: Some(convert::duration(since)),
            server_start_time: Some(convert::timestamp(self.about.started)),
            load_1m,
            load_5m,
            load_15m,
        }))
    }

    async fn get_host_stats(
        &self,
        request: Request<v1::GetHostStatsRequest>,
    ) -> Reply<v1::GetHostStatsResponse> {
        let stats = self.stats(request.into_inner().refresh).await;
        reply(stats.map(|stats| v1::GetHostStatsResponse { stats: Some(stats) }))
    }

    async fn get_host_cpu_stats(
        &self,
        _: Request<v1::GetHostCpuStatsRequest>,
    ) -> Reply<v1::GetHostCpuStatsResponse> {
        reply(self.cpu_times().await)
    }

    async fn get_available_resource(
        &self,
        _: Request<v1::GetAvailableResourceRequest>,
    ) -> Reply<v1::GetAvailableResourceResponse> {
        let resource = self.available().await;
        reply(resource.map(|resource| v1::GetAvailableResourceResponse {
            resource: Some(resource),
        }))
    }

    async fn report_available_resource(
        &self,
        _: Request<v1::ReportAvailableResourceRequest>,
    ) -> Reply<Answers<v1::ReportAvailableResourceResponse>> {
        reply(self.report().await)
    }

    async fn get_inventory(
        &self,
        _: Request<v1::GetInventoryRequest>,
    ) -> Reply<v1::GetInventoryResponse> {
        reply(self.inventory().await)
    }

    async fn compare_cpu(
        &self,
        request: Request<v1::CompareCpuRequest>,
    ) -> Reply<v1::CompareCpuResponse> {
        reply(self.compare(request.into_inner()).await)
    }

    async fn host_power_action(
        &self,
        request: Request<v1::HostPowerActionRequest>,
    ) -> Reply<v1::HostPowerActionResponse> {
        self.host_power(request).await.map(Response::new)
    }

    async fn host_maintenance_mode(
        &self,
        request: Request<v1::HostMaintenanceModeRequest>,
    ) -> Reply<v1::HostMaintenanceModeResponse> {
        reply(self.set_maintenance(request).await)
    }

    async fn set_host_enabled(
        &self,
        request: Request<v1::SetHostEnabledRequest>,
    ) -> Reply<v1::SetHostEnabledResponse> {
        reply(self.set_enabled(request).await)
    }

    async fn get_available_nodes(
        &self,
        _: Request<v1::GetAvailableNodesRequest>,
    ) -> Reply<v1::GetAvailableNodesResponse> {
        Ok(Response::new(self.nodes()))
    }

    async fn get_volume_connector(
        &self,
        request: Request<v1::GetVolumeConnectorRequest>,
    ) -> Reply<v1::GetVolumeConnectorResponse> {
        let connector = self.connector(request.into_inner()).await;
        reply(connector.map(|connector| v1::GetVolumeConnectorResponse {
            connector: Some(connector),
        }))
    }
}
