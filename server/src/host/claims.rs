//! Who has claimed what of this host: Nova's claims.
//!
//! A claim is made before anything else of a spawn and given back by its undo or by destroy. The book is in memory; at
//! start it is written anew from the instances in the store, so it cannot drift from them.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Classify, Details, Kind, Shortage},
    model::{Bytes, InstanceId, InstanceSpec, Limits},
};

/// What one instance takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Virtual CPUs.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB: root, ephemeral, swap and blank disks at full size, each rounded up.
    pub disk_gib: u64,
}

/// What the host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Processors.
    pub cpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk of the state directory's file system in GiB.
    pub disk_gib: u64,
}

/// How much of it may be promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Virtual CPUs a processor.
    pub cpu_ratio: f64,
    /// Memory promised to memory there.
    pub memory_ratio: f64,
    /// Disk promised to disk there.
    pub disk_ratio: f64,
    /// Kept for the host itself.
    pub reserved: Totals,
}

/// One resource of the host, as its books have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    /// What the host has.
    pub total: u64,
    /// Kept for the host itself.
    pub reserved: u64,
    /// How often it may be promised.
    pub ratio: f64,
    /// What instances hold.
    pub claimed: u64,
    /// What a claim may still ask for.
    pub left: u64,
}

/// Why a claim was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host has too little left: {}", list(.shortages))]
pub struct ClaimError {
    /// Every resource that ran short.
    pub shortages: Vec<Shortage>,
}

fn list(shortages: &[Shortage]) -> String {
    let one = |s: &Shortage| format!("{} asked {}, left {}", s.resource, s.asked, s.left);
    shortages.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Classify for ClaimError {
    fn kind(&self) -> Kind {
        Kind::Exhausted
    }

    fn reason(&self) -> &'static str {
        "HOST_RESOURCES"
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("shortages", list(&self.shortages))]
    }

    fn details(&self) -> Details {
        Details {
            shortages: self.shortages.clone(),
            ..Details::default()
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    totals: Totals,
    held: BTreeMap<InstanceId, Claim>,
}

/// The book of claims.
#[derive(Debug)]
pub struct Claims {
    policy: Policy,
    book: Mutex<Book>,
}

impl Claim {
    /// What an instance takes; `root` is the size of its root disk, once that is known.
    pub fn of(spec: &InstanceSpec, root: Bytes) -> Self {
        let flavor = &spec.flavor;
        let blank = spec.block_devices.iter().map(|device| device.source.size());
        let disks = [Some(root), flavor.ephemeral, flavor.swap];
        let sizes = disks.into_iter().flatten().chain(blank);
        Self {
            vcpus: u64::from(flavor.vcpus),
            memory_mib: flavor.memory.mib_up(),
            disk_gib: sizes.map(Bytes::gib_up).fold(0, u64::saturating_add),
        }
    }
}

/// `(total − reserved) × ratio`, as a placement service counts it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "amounts stay far below 2^52; a float cast saturates"
)]
fn capacity(total: u64, ratio: f64, reserved: u64) -> u64 {
    (total.saturating_sub(reserved) as f64 * ratio).floor() as u64
}

impl Claims {
    /// An empty book of a host of which nothing is known yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            book: Mutex::default(),
        }
    }

    /// Learns what the host has.
    pub fn set_totals(&self, totals: Totals) {
        self.book.lock().totals = totals;
    }

    /// Takes `claim` for `id`, in place of what it held.
    ///
    /// # Errors
    /// When too little is left of anything; all shortages are named, nothing has changed.
    pub fn claim(&self, id: InstanceId, claim: Claim, limits: &Limits) -> Result<(), ClaimError> {
        let mut book = self.book.lock();
        let shortages = self.shortages(&book, id, claim, limits);
        if shortages.is_empty() {
            book.held.insert(id, claim);
            Ok(())
        } else {
            Err(ClaimError { shortages })
        }
    }

    /// Tells whether `claim` would be granted, and takes nothing.
    ///
    /// # Errors
    /// When too little is left of anything.
    pub fn check(&self, id: InstanceId, claim: Claim, limits: &Limits) -> Result<(), ClaimError> {
        let shortages = self.shortages(&self.book.lock(), id, claim, limits);
        if shortages.is_empty() {
            Ok(())
        } else {
            Err(ClaimError { shortages })
        }
    }

    /// Writes down what an instance of an earlier life holds, whatever is left.
    pub fn restore(&self, id: InstanceId, claim: Claim) {
        self.book.lock().held.insert(id, claim);
    }

    /// Gives back what `id` held; success when it held nothing.
    pub fn release(&self, id: InstanceId) {
        self.book.lock().held.remove(&id);
    }

    /// What all instances hold together.
    pub fn held(&self) -> Claim {
        sum(self.book.lock().held.values())
    }

    /// The whole book: processors, memory and disk.
    pub fn amounts(&self) -> [Amount; 3] {
        let (have, held) = {
            let book = self.book.lock();
            (book.totals, sum(book.held.values()))
        };
        let (policy, kept) = (&self.policy, &self.policy.reserved);
        let amount = |total, (reserved, ratio): (u64, f64), claimed| Amount {
            total,
            reserved,
            ratio,
            claimed,
            left: capacity(total, ratio, reserved).saturating_sub(claimed),
        };
        [
            amount(have.cpus, (kept.cpus, policy.cpu_ratio), held.vcpus),
            amount(
                have.memory_mib,
                (kept.memory_mib, policy.memory_ratio),
                held.memory_mib,
            ),
            amount(
                have.disk_gib,
                (kept.disk_gib, policy.disk_ratio),
                held.disk_gib,
            ),
        ]
    }

    fn shortages(
        &self,
        book: &Book,
        id: InstanceId,
        claim: Claim,
        limits: &Limits,
    ) -> Vec<Shortage> {
        let others = book.held.iter().filter(|(holder, _)| **holder != id);
        let used = sum(others.map(|(_, claim)| claim));
        let (have, policy) = (book.totals, &self.policy);
        let rows = [
            (
                "VCPU",
                claim.vcpus,
                used.vcpus,
                limits.vcpus,
                capacity(have.cpus, policy.cpu_ratio, policy.reserved.cpus),
            ),
            (
                "MEMORY_MB",
                claim.memory_mib,
                used.memory_mib,
                limits.memory.map(|m| m.0 >> 20),
                capacity(
                    have.memory_mib,
                    policy.memory_ratio,
                    policy.reserved.memory_mib,
                ),
            ),
            (
                "DISK_GB",
                claim.disk_gib,
                used.disk_gib,
                limits.disk.map(|d| d.0 >> 30),
                capacity(have.disk_gib, policy.disk_ratio, policy.reserved.disk_gib),
            ),
        ];
        let short =
            |(resource, asked, used, limit, capacity): (&str, u64, u64, Option<u64>, u64)| {
                let left = limit.unwrap_or(capacity).saturating_sub(used);
                (asked > left).then(|| Shortage {
                    resource: resource.to_owned(),
                    asked,
                    left,
                })
            };
        rows.into_iter().filter_map(short).collect()
    }
}

fn sum<'a>(claims: impl Iterator<Item = &'a Claim>) -> Claim {
    claims.fold(Claim::default(), |all, one| Claim {
        vcpus: all.vcpus.saturating_add(one.vcpus),
        memory_mib: all.memory_mib.saturating_add(one.memory_mib),
        disk_gib: all.disk_gib.saturating_add(one.disk_gib),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let reserved = Totals {
            cpus: 0,
            memory_mib: 512,
            disk_gib: 0,
        };
        let claims = Claims::new(Policy {
            cpu_ratio: 2.0,
            memory_ratio: 1.0,
            disk_ratio: 1.0,
            reserved,
        });
        claims.set_totals(Totals {
            cpus: 2,
            memory_mib: 1024,
            disk_gib: 10,
        });
        claims
    }

    fn claim(vcpus: u64, memory_mib: u64, disk_gib: u64) -> Claim {
        Claim {
            vcpus,
            memory_mib,
            disk_gib,
        }
    }

    #[test]
    fn every_shortage_is_named_with_what_was_asked_and_left() {
        let claims = claims();
        claims
            .claim(InstanceId::random(), claim(1, 256, 4), &Limits::default())
            .unwrap();
        let refused = claims
            .claim(InstanceId::random(), claim(9, 512, 6), &Limits::default())
            .unwrap_err();
        let told: Vec<_> = refused
            .shortages
            .iter()
            .map(|s| (s.resource.as_str(), s.asked, s.left))
            .collect();
        assert_eq!(told, [("VCPU", 9, 3), ("MEMORY_MB", 512, 256)]);
        let left = claims.amounts().map(|amount| (amount.left, amount.claimed));
        assert_eq!(left, [(3, 1), (256, 256), (6, 4)]);
        assert_eq!(claims.held(), claim(1, 256, 4));
    }

    #[test]
    fn a_claim_is_taken_once_and_given_back() {
        let claims = claims();
        let id = InstanceId::random();
        for _ in 0..3 {
            claims
                .claim(id, claim(4, 512, 10), &Limits::default())
                .unwrap();
        }
        assert_eq!(claims.held(), claim(4, 512, 10));
        claims.release(id);
        claims.release(id);
        assert_eq!(claims.held(), Claim::default());
    }

    #[test]
    fn the_callers_limits_stand_in_for_the_ratios() {
        let claims = claims();
        let limits = Limits {
            vcpus: Some(16),
            ..Limits::default()
        };
        claims
            .claim(InstanceId::random(), claim(9, 1, 1), &limits)
            .unwrap();
    }
}
