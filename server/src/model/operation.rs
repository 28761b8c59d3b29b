//! One long call as the server keeps it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstanceId, OperationId, RequestId};
use crate::error::Error;

/// What an operation does, by the contract's verb.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Verb {
    /// Creates and starts an instance.
    Spawn,
    /// Removes an instance.
    Destroy,
    /// Fetches an image into the cache.
    PullImage,
    /// Removes an image from the cache.
    RemoveImage,
    /// Removes images that were not used for a while.
    PruneImages,
    /// Starts a guest anew.
    Reboot,
    /// Stops a guest.
    PowerOff,
    /// Starts a guest that is off.
    PowerOn,
    /// Stops a guest's processors.
    Pause,
    /// Lets a guest's processors go on.
    Unpause,
    /// Saves a guest to disk and stops it.
    Suspend,
    /// Brings a suspended guest back.
    Resume,
    /// Starts an instance from another image.
    Rescue,
    /// Starts a rescued instance from its own disk again.
    Unrescue,
    /// Makes an image of a disk.
    Snapshot,
    /// Gives an instance another size.
    Resize,
    /// Makes an instance anew from an image.
    Rebuild,
    /// Has a guest crash on purpose.
    TriggerCrashDump,
    /// Freezes a guest's file systems.
    Quiesce,
    /// Thaws a guest's file systems.
    Unquiesce,
    /// Gives an instance one more disk.
    AttachVolume,
    /// Takes a disk from an instance.
    DetachVolume,
    /// Moves a disk to another volume.
    SwapVolume,
    /// Makes a disk larger.
    ExtendVolume,
    /// Gives an instance one more interface.
    AttachInterface,
    /// Takes an interface from an instance.
    DetachInterface,
    /// Puts a layer on a volume.
    CreateVolumeSnapshot,
    /// Merges a layer of a volume.
    DeleteVolumeSnapshot,
    /// Sets the password of a guest's administrator.
    SetAdminPassword,
    /// Writes a file into a guest.
    InjectFile,
    /// Renews a guest's agent.
    UpdateAgent,
    /// Tells a guest its addresses.
    InjectNetworkInfo,
    /// Has a guest set up its network anew.
    ResetNetwork,
    /// Restarts or stops the host.
    HostPowerAction,
    /// Puts the host into maintenance, or out of it.
    HostMaintenanceMode,
    /// Lets the host take new instances, or none.
    SetHostEnabled,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The verb as stored and shown.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether it cannot be stopped once it has begun: what it removes cannot be brought back.
    pub fn only_goes_forward(self) -> bool {
        matches!(
            self,
            Self::Destroy | Self::RemoveImage | Self::PruneImages | Self::HostPowerAction
        )
    }

    /// Whether the guest is off for a moment in the middle of it, which is nobody's news.
    pub fn starts_anew(self) -> bool {
        matches!(self, Self::Reboot | Self::Rescue | Self::Unrescue)
    }
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationState {
    /// Going forward.
    Running,
    /// Taking back what was done.
    Unwinding,
    /// Done.
    Succeeded,
    /// Failed, and all of it undone.
    Failed,
    /// Stopped at the caller's word, and all of it undone.
    Cancelled,
}

impl OperationState {
    /// The state as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Unwinding => "UNWINDING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether it can change no more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// An operation as stored and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// The instance it holds; none for work on the image cache.
    pub instance: Option<InstanceId>,
    /// The image it works on, for work on the image cache.
    #[serde(default)]
    pub image: Option<String>,
    /// What it does.
    pub verb: Verb,
    /// The caller's id of the request, when given.
    pub request: Option<RequestId>,
    /// Keyed hash of the request's body: tells a repeat from another request.
    pub fingerprint: String,
    /// How it stands.
    pub state: OperationState,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// Who asked, as far as it is known.
    #[serde(default)]
    pub caller: Option<String>,
    /// Why it failed.
    pub error: Option<Error>,
    /// What its caller is told beside the instance when it succeeds, as JSON; never a secret.
    #[serde(default)]
    pub answer: Option<serde_json::Value>,
}

impl OperationRecord {
    /// The instance that it holds.
    ///
    /// # Errors
    /// When it holds none: a bug of ours.
    pub fn about(&self) -> Result<InstanceId, Error> {
        self.instance
            .ok_or_else(|| Error::internal("the operation is about no instance"))
    }

    /// What a succeeded operation has to tell, as its action wrote it.
    ///
    /// # Errors
    /// When it has nothing of that kind to tell: a bug of ours.
    pub fn answer<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let answer = self.answer.clone().unwrap_or_default();
        serde_json::from_value(answer)
            .map_err(|e| Error::internal(format!("the operation's answer does not read: {e}")))
    }
}
