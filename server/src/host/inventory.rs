//! What the host offers to a placement service: resource classes and the traits of its processor.

use serde::Serialize;

use super::{Amount, Host};
use crate::{
    error::Result,
    hypervisor::HypervisorError,
    plan::{self, CpuChoice},
};

/// One resource class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Offer {
    /// Its standard name.
    pub class: &'static str,
    /// What the host has.
    pub total: u64,
    /// Kept for the host itself.
    pub reserved: u64,
    /// How often the rest may be promised.
    pub ratio: f64,
    /// What instances hold: no part of what the host offers.
    #[serde(skip)]
    pub used: u64,
}

/// The trait of a host whose processor runs several threads a core.
const HYPERTHREADING: &str = "HW_CPU_HYPERTHREADING";

impl Offer {
    fn of(class: &'static str, amount: Amount) -> Self {
        Self {
            class,
            total: amount.total,
            reserved: amount.reserved,
            ratio: amount.ratio,
            used: amount.claimed,
        }
    }
}

impl Host {
    /// Processors, memory and disk.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked, or the file system cannot be measured.
    pub async fn offers(&self) -> Result<[Offer; 3]> {
        self.learn_totals().await?;
        let [cpus, memory, disk] = self.claims.amounts();
        Ok([
            Offer::of("VCPU", cpus),
            Offer::of("MEMORY_MB", memory),
            Offer::of("DISK_GB", disk),
        ])
    }

    /// Traits of the processor that guests are given; none when the hypervisor does not tell.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked.
    pub async fn cpu_traits(&self) -> Result<Vec<String>> {
        let model = match &self.plan.cpu {
            CpuChoice::Custom(model) => Some(model.clone()),
            _ => None,
        };
        let mut traits = match self.hypervisor.cpu_features(model).await {
            Ok(features) => plan::cpu_traits(&features),
            Err(HypervisorError::Unsupported { .. }) => Vec::new(),
            Err(e) => return Err(e.into()),
        };
        let best = self.best_cpu().await?;
        if best.is_some_and(|cpu| cpu.topology.threads > 1) {
            traits.push(HYPERTHREADING.to_owned());
        }
        Ok(traits)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestHost;

    #[tokio::test]
    async fn offers_count_what_instances_hold() {
        let t = TestHost::new().await;
        t.spawned(t.spec()).await;
        let [cpus, memory, _] = t.host.offers().await.unwrap();
        assert_eq!(
            (cpus.class, cpus.total, cpus.used, cpus.ratio),
            ("VCPU", 8, 1, 16.0)
        );
        assert_eq!((memory.class, memory.used), ("MEMORY_MB", 64));
    }

    #[tokio::test]
    async fn traits_are_of_what_guests_are_given() {
        let t = TestHost::new().await;
        let traits = t.host.cpu_traits().await.unwrap();
        // The fake's model has svm and does without it.
        let given = ["HW_CPU_X86_AESNI", "HW_CPU_X86_AVX2", "HW_CPU_X86_SSE2"];
        assert_eq!(traits[..3], given.map(str::to_owned));
        assert_eq!(traits[3..], ["HW_CPU_HYPERTHREADING".to_owned()]);
    }

    #[tokio::test]
    async fn a_generation_grows_with_each_change_and_survives() {
        let t = TestHost::new().await;
        let number = |t: &TestHost, inventory: &str| {
            let (store, inventory) = (t.host.store.clone(), inventory.to_owned());
            async move { store.inventory_generation(inventory).await.unwrap() }
        };
        assert_eq!(number(&t, "a").await, 1);
        assert_eq!(number(&t, "a").await, 1);
        assert_eq!(number(&t, "b").await, 2);
        let next = t.next_life().await;
        assert_eq!(number(&next, "b").await, 2);
        assert_eq!(number(&next, "a").await, 3);
    }
}
