//! What the hypervisor knows of the host that it runs on: its processor, above all.

use async_trait::async_trait;

use super::Result;
use crate::model::{CpuFit, CpuModel, CpuTimes};

/// The host as the hypervisor sees it.
#[async_trait]
pub trait Node: Send + Sync {
    /// The best processor that a guest can be given here, with the host's own topology. `Unsupported` when it does not
    /// tell.
    async fn cpu(&self) -> Result<CpuModel>;

    /// Every feature of a processor that guests are given here: of the named model, or of the best there is.
    /// `Unsupported` when it does not tell.
    async fn cpu_features(&self, model: Option<String>) -> Result<Vec<String>>;

    /// Whether a guest that saw `cpu` could run here. `Unsupported` when it cannot compare.
    async fn compare_cpu(&self, cpu: CpuModel) -> Result<CpuFit>;

    /// What the host's processors have done. `Unsupported` when it does not tell.
    async fn cpu_times(&self) -> Result<CpuTimes>;
}
