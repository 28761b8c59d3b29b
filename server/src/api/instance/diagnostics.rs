//! GetDiagnostics: all that is measured of an instance, now.

use std::time::SystemTime;

use computedriver::v1;
use tonic::Status;

use super::super::{Api, convert, status::status};
use crate::{
    error::Result,
    hypervisor::{
        HypervisorError,
        stats::{Groups, HostCounters, MonitorCounters},
    },
    model::InstanceRecord,
    plan::Plan,
    step::plan_of,
};

impl Api {
    pub(super) async fn diagnosed(
        &self,
        request: &v1::GetDiagnosticsRequest,
    ) -> Result<v1::GetDiagnosticsResponse, Status> {
        let told = Box::pin(self.diagnosis(&request.instance_id)).await;
        told.map_err(|e| status(&e))
    }

    async fn diagnosis(&self, id: &str) -> Result<v1::GetDiagnosticsResponse> {
        let id = convert::instance_id(id)?;
        let record = self.host.store.instance(id);
        let record = record.ok_or(HypervisorError::NotFound(id))?;
        let plan = plan_of(&self.host, &record).await?;
        let host = self.counted(id, Groups::HOST).await?;
        let monitor = self.monitored(id, Groups::MONITOR).await?;
        let driver = self.host.hypervisor.capabilities().await?.driver.clone();
        let up = record
            .launched
            .map(|since| SystemTime::now().duration_since(since));
        Ok(v1::GetDiagnosticsResponse {
            state: convert::power_state(host.state).into(),
            diagnostics: Some(v1::Diagnostics {
                uptime: up.and_then(|up| up.ok()).map(convert::duration),
                cpus: host.cpus.iter().map(convert::cpu_counters).collect(),
                memory: convert::memory(host.memory, monitor.balloon),
                disks: disks(&plan, &monitor),
                interfaces: interfaces(&record, &host),
                driver,
                config_drive: record.spec.config_drive,
            }),
        })
    }
}

fn disks(plan: &Plan, monitor: &MonitorCounters) -> Vec<v1::BlockCounters> {
    let known = plan.disks.iter().filter_map(|disk| {
        let mut counted = monitor.disks.iter();
        let (_, counted) = counted.find(|(target, _)| *target == disk.target)?;
        Some(convert::block_counters(disk.id.as_str(), counted))
    });
    known.collect()
}

/// The host sees nothing of an interface that is plugged nowhere, or into QEMU's own network.
fn interfaces(record: &InstanceRecord, host: &HostCounters) -> Vec<v1::InterfaceCounters> {
    let vifs = record.spec.vifs.iter().map(|vif| {
        let mac = vif.mac.to_string();
        let mut counted = host.interfaces.iter();
        let counted = counted.find(|(known, _)| *known == mac);
        let counted = counted.map(|(_, counted)| *counted).unwrap_or_default();
        convert::interface_counters(vif.id.as_str(), &counted)
    });
    vifs.collect()
}
