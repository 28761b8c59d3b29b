//! States of an instance.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Bytes, InstanceSpec, OperationId};

/// What the guest's virtual power button shows. Nova's `power_state`, and `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum PowerState {
    /// The hypervisor has no word for it.
    NoState,
    /// It runs.
    Running,
    /// Its vCPUs are stopped.
    Paused,
    /// It is off.
    Shutdown,
    /// It crashed.
    Crashed,
    /// It is saved to disk, or the guest suspended itself.
    Suspended,
    /// The hypervisor cannot be asked. Never read as gone.
    Unknown,
}

impl PowerState {
    /// The state as the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoState => "NOSTATE",
            named => named.into(),
        }
    }
}

/// How far an instance has come in its life on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstanceState {
    /// A spawn is at work on it.
    Building,
    /// It is there.
    Active,
    /// A destroy is at work on it.
    Deleting,
}

/// What an instance's owner wants of its guest. The guest is brought back to it after the host was away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Wanted {
    /// It runs.
    #[default]
    Running,
    /// Its vCPUs are stopped.
    Paused,
    /// It is off.
    Off,
    /// It is saved to disk.
    Suspended,
}

/// An instance as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// What the caller asked for, without its secrets.
    pub spec: InstanceSpec,
    /// Keyed hash of the spec, secrets included.
    pub fingerprint: String,
    /// The operation that spawned it.
    pub operation: OperationId,
    /// How far it has come.
    pub state: InstanceState,
    /// Size of its root disk, once the image told it.
    #[serde(default)]
    pub root: Option<Bytes>,
    /// The cache's names of the images that its disks rest on.
    #[serde(default)]
    pub images: Vec<String>,
    /// When its spawn began.
    pub created: SystemTime,
    /// When it reached RUNNING first.
    pub launched: Option<SystemTime>,
    /// What its owner wants of the guest.
    #[serde(default)]
    pub wanted: Wanted,
    /// Since when it runs from a rescue image, when it does.
    #[serde(default)]
    pub rescue: Option<Rescue>,
}

/// An instance that runs from another image, with its own disk beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rescue {
    /// Since when.
    pub since: SystemTime,
    /// When it ends by itself; none does not.
    pub until: Option<SystemTime>,
    /// Keyed hash of the request: tells a repeat from another rescue.
    pub fingerprint: String,
    /// The cache's name of the image that it runs from.
    pub image: String,
    /// The size of the disk made from that.
    pub size: Bytes,
}

impl InstanceRecord {
    /// The same, its guest started just now.
    #[must_use]
    pub fn started(&self, wanted: Wanted) -> Self {
        Self {
            launched: Some(SystemTime::now()),
            ..self.wanting(wanted)
        }
    }

    /// The same, its owner wanting something else of the guest.
    #[must_use]
    pub fn wanting(&self, wanted: Wanted) -> Self {
        Self {
            wanted,
            ..self.clone()
        }
    }
}
