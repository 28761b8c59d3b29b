//! The host's processor: what it has done, and whether another can be given here.

use computedriver::v1;

use super::{Api, about::unsupported};
use crate::{
    api::convert,
    error::{Error, Kind, Result},
    hypervisor::HypervisorError,
    model::CpuFit,
};

/// What the hypervisor does not do is not served here.
fn served(rpc: &str, e: HypervisorError) -> Error {
    match e {
        HypervisorError::Unsupported { message } => unsupported(rpc, &message),
        e => e.into(),
    }
}

impl Api {
    pub(super) async fn cpu_times(&self) -> Result<v1::GetHostCpuStatsResponse> {
        let times = self.host.hypervisor.cpu_times().await;
        let times = times.map_err(|e| served("GetHostCpuStats", e))?;
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(v1::GetHostCpuStatsResponse {
            user_ns: signed(times.user),
            kernel_ns: signed(times.kernel),
            idle_ns: signed(times.idle),
            iowait_ns: signed(times.iowait),
            frequency_mhz: times.mhz,
        })
    }

    pub(super) async fn compare(
        &self,
        request: v1::CompareCpuRequest,
    ) -> Result<v1::CompareCpuResponse> {
        let cpu = convert::cpu(request)?;
        let model = cpu.model.clone();
        let fit = self.host.hypervisor.compare_cpu(cpu).await;
        let comparison = match fit.map_err(|e| served("CompareCpu", e))? {
            CpuFit::Identical => v1::CpuComparison::Identical,
            CpuFit::Superset => v1::CpuComparison::Superset,
            CpuFit::Lacking { why } => {
                let message = format!("CPU {model} cannot be given by this host: {why}");
                let e = Error::new(Kind::Precondition, "INVALID_CPU_INFO", message);
                return Err(e.with("model", model).with("why", why));
            }
        };
        Ok(v1::CompareCpuResponse {
            comparison: comparison.into(),
        })
    }
}
