//! How far an operation has come.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::OperationId;

/// A stretch of an operation that a caller can see.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// Resources are claimed.
    Claim,
    /// The image is fetched into the cache.
    FetchImage,
    /// The image is converted.
    ConvertImage,
    /// The instance's disks are made.
    CreateDisks,
    /// The config drive is written.
    ConfigDrive,
    /// Volumes are connected.
    ConnectVolumes,
    /// Interfaces are plugged.
    PlugVifs,
    /// Filter rules are applied.
    Filter,
    /// The domain is defined.
    Define,
    /// The guest is started.
    Start,
    /// Network events are awaited.
    AwaitVifs,
    /// The vCPUs are let go.
    Resume,
    /// The guest runs.
    Running,
    /// The firmware speaks on the console.
    Firmware,
    /// A boot loader speaks on the console.
    Bootloader,
    /// The kernel speaks on the console.
    Kernel,
    /// User space speaks on the console.
    Userspace,
    /// The guest agent answered.
    Agent,
    /// The caller's own pattern was seen on the console.
    ConsolePattern,
    /// The guest is stopped.
    Stop,
    /// The domain is undefined.
    Undefine,
    /// Interfaces are unplugged.
    UnplugVifs,
    /// Disks and the instance's folder are removed.
    DeleteDisks,
    /// What was done is being taken back.
    Undo,
    /// The guest is asked to stop and is waited for.
    Shutdown,
    /// Volumes are disconnected from the host.
    DisconnectVolumes,
    /// The guest's memory is written to disk.
    Save,
    /// The guest's memory is read from disk.
    Restore,
    /// The guest's file systems are frozen.
    Quiesce,
    /// Disk content is copied.
    Copy,
    /// A file is uploaded.
    Upload,
    /// Disks are grown.
    ResizeDisks,
    /// Processors or memory of the guest are changed.
    ResizeGuest,
    /// A device is taken out of the guest.
    Detach,
    /// A device is put into the guest.
    Attach,
}

impl Phase {
    /// The phase as stored and shown.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where in a phase an event lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edge {
    /// The phase begins.
    Begin,
    /// The phase goes on.
    Advance,
    /// The phase has ended well.
    End,
}

/// How much of a phase is done, when that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// So many bytes, of so many when the total is known.
    Bytes {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// So many of a hundred.
    Percent(u32),
}

/// One message of an operation's progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// Whose progress it is.
    pub operation: OperationId,
    /// 1, 2, 3 … within the operation; an `Advance` that nobody read in time may be skipped.
    pub sequence: u64,
    /// When it happened.
    pub time: SystemTime,
    /// The phase it speaks of.
    pub phase: Phase,
    /// Begin, middle or end.
    pub edge: Edge,
    /// What is being done, for people.
    pub step: String,
    /// Since the phase began.
    pub elapsed: Duration,
    /// How much of it is done.
    pub amount: Option<Amount>,
    /// What the console showed when it ended a phase of the guest's own.
    #[serde(default)]
    pub evidence: String,
}

#[cfg(test)]
mod tests {
    use super::Phase;

    #[test]
    fn a_phase_is_shown_as_it_is_stored() {
        for phase in [
            Phase::Claim,
            Phase::AwaitVifs,
            Phase::ConsolePattern,
            Phase::Undo,
        ] {
            let stored = serde_json::to_string(&phase).unwrap();
            assert_eq!(stored, format!("{:?}", phase.as_str()));
        }
    }
}
