//! The ports in one bag, and the host's own book-keeping.

mod claims;

use std::{path::PathBuf, sync::Arc};

pub use claims::{Claim, ClaimError, Claims, Policy, Totals};

use crate::{hypervisor::Hypervisor, model::InstanceId, store::Store};

/// Where the host keeps what.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The state directory.
    pub state: PathBuf,
}

impl Paths {
    /// The folder of one instance.
    pub fn instance(&self, id: InstanceId) -> PathBuf {
        self.instances().join(id.to_string())
    }

    /// The folder of all instances.
    pub fn instances(&self) -> PathBuf {
        self.state.join("instances")
    }
}

/// Everything that a step may touch.
#[derive(Debug)]
pub struct Host {
    /// Runs the guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Keeps what must survive.
    pub store: Store,
    /// Who has claimed what of this host.
    pub claims: Claims,
    /// Where things lie.
    pub paths: Paths,
}
