//! The host under the fake: one processor model, which knows a handful of features.

use async_trait::async_trait;

use super::Fake;
use crate::{
    hypervisor::{Node, Result},
    model::{CpuFit, CpuModel, CpuTimes, CpuTopology},
};

/// The features of its only model.
const MODEL: [&str; 3] = ["aes", "sse2", "svm"];
/// What it has besides.
const MORE: [&str; 1] = ["avx2"];

fn own() -> CpuModel {
    CpuModel {
        architecture: "x86_64".to_owned(),
        model: "Fake".to_owned(),
        vendor: Some("AMD".to_owned()),
        topology: CpuTopology {
            sockets: 1,
            cores: 4,
            threads: 2,
        },
        features: MORE.map(str::to_owned).to_vec(),
        disabled: vec!["svm".to_owned()],
    }
}

fn features() -> Vec<String> {
    let all = MODEL.into_iter().chain(MORE);
    all.filter(|name| *name != "svm")
        .map(str::to_owned)
        .collect()
}

fn compare(cpu: &CpuModel) -> CpuFit {
    let given = features();
    let asked = MODEL.map(str::to_owned);
    let asked = asked.iter().filter(|name| !cpu.disabled.contains(name));
    let lacks = asked
        .chain(&cpu.features)
        .find(|name| !given.contains(name));
    if cpu.model != own().model {
        let why = format!("no such model: {}", cpu.model);
        return CpuFit::Lacking { why };
    }
    match lacks {
        Some(name) => CpuFit::Lacking {
            why: format!("no such feature: {name}"),
        },
        None if *cpu == own() => CpuFit::Identical,
        None => CpuFit::Superset,
    }
}

#[async_trait]
impl Node for Fake {
    async fn cpu(&self) -> Result<CpuModel> {
        self.enter("cpu").await?;
        self.faults.leave("cpu").map(|()| own())
    }

    async fn cpu_features(&self, _model: Option<String>) -> Result<Vec<String>> {
        self.enter("cpu_features").await?;
        self.faults.leave("cpu_features").map(|()| features())
    }

    async fn compare_cpu(&self, cpu: CpuModel) -> Result<CpuFit> {
        self.enter("compare_cpu").await?;
        self.faults.leave("compare_cpu").map(|()| compare(&cpu))
    }

    async fn cpu_times(&self) -> Result<CpuTimes> {
        self.enter("cpu_times").await?;
        let times = CpuTimes {
            user: 4,
            kernel: 3,
            idle: 2,
            iowait: 1,
            mhz: 2000,
        };
        self.faults.leave("cpu_times").map(|()| times)
    }
}
