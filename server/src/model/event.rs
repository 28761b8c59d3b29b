//! Something that happened, as it is stored and told.

use std::{collections::BTreeSet, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{InstanceId, InstanceRecord, OperationId, OperationRecord, PowerState};

/// What happened; the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventKind {
    /// A spawn has succeeded.
    Created,
    /// It was started.
    Started,
    /// It was stopped.
    Stopped,
    /// It stopped because it crashed.
    Crashed,
    /// Its processors were stopped.
    Paused,
    /// Its processors go on.
    Resumed,
    /// It was saved, or suspended itself.
    Suspended,
    /// The guest restarted.
    Rebooted,
    /// Nothing of it is left.
    Destroyed,
    /// A migration of it has begun.
    MigrationStarted,
    /// It has left this host or come to it.
    Migrated,
    /// The hypervisor can no longer be asked.
    Unreachable,
    /// The hypervisor can be asked.
    Reachable,
    /// A device was added.
    DeviceAdded,
    /// A device was removed.
    DeviceRemoved,
    /// A disk reported an error.
    IoError,
    /// Its watchdog fired.
    Watchdog,
    /// The guest agent came.
    AgentConnected,
    /// The guest agent went.
    AgentDisconnected,
    /// An operation has begun.
    OperationBegun,
    /// An operation has ended.
    OperationEnded,
    /// The guest did not let go of a device.
    DeviceRemoveFailed,
    /// A job on a disk has ended, or is ready to.
    BlockJob,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// A round over the guest's memory has begun.
    MigrationIteration,
    /// The guest goes on at the target before all of its memory is there.
    MigrationPostcopy,
    /// A migration has failed.
    MigrationFailed,
    /// An interface was connected to its network.
    VifPlugged,
    /// An interface was disconnected from its network.
    VifUnplugged,
    /// The host takes instances again.
    HostEnabled,
    /// The host takes no more instances.
    HostDisabled,
    /// Some of what the hypervisor told is missing.
    EventsMissed,
    /// The guest is on its way down.
    ShuttingDown,
    /// It was put into rescue.
    Rescued,
    /// It was taken out of rescue.
    Unrescued,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 35] = [
        Self::Created,
        Self::Started,
        Self::Stopped,
        Self::Crashed,
        Self::Paused,
        Self::Resumed,
        Self::Suspended,
        Self::Rebooted,
        Self::Destroyed,
        Self::MigrationStarted,
        Self::Migrated,
        Self::Unreachable,
        Self::Reachable,
        Self::DeviceAdded,
        Self::DeviceRemoved,
        Self::IoError,
        Self::Watchdog,
        Self::AgentConnected,
        Self::AgentDisconnected,
        Self::OperationBegun,
        Self::OperationEnded,
        Self::DeviceRemoveFailed,
        Self::BlockJob,
        Self::GuestPanicked,
        Self::MigrationIteration,
        Self::MigrationPostcopy,
        Self::MigrationFailed,
        Self::VifPlugged,
        Self::VifUnplugged,
        Self::EventsMissed,
        Self::ShuttingDown,
        Self::HostEnabled,
        Self::HostDisabled,
        Self::Rescued,
        Self::Unrescued,
    ];

    /// The kind as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Started => "STARTED",
            Self::Stopped => "STOPPED",
            Self::Crashed => "CRASHED",
            Self::Paused => "PAUSED",
            Self::Resumed => "RESUMED",
            Self::Suspended => "SUSPENDED",
            Self::Rebooted => "REBOOTED",
            Self::Destroyed => "DESTROYED",
            Self::MigrationStarted => "MIGRATION_STARTED",
            Self::Migrated => "MIGRATED",
            Self::Unreachable => "UNREACHABLE",
            Self::Reachable => "REACHABLE",
            Self::DeviceAdded => "DEVICE_ADDED",
            Self::DeviceRemoved => "DEVICE_REMOVED",
            Self::IoError => "IO_ERROR",
            Self::Watchdog => "WATCHDOG",
            Self::AgentConnected => "AGENT_CONNECTED",
            Self::AgentDisconnected => "AGENT_DISCONNECTED",
            Self::OperationBegun => "OPERATION_BEGUN",
            Self::OperationEnded => "OPERATION_ENDED",
            Self::DeviceRemoveFailed => "DEVICE_REMOVE_FAILED",
            Self::BlockJob => "BLOCK_JOB",
            Self::GuestPanicked => "GUEST_PANICKED",
            Self::MigrationIteration => "MIGRATION_ITERATION",
            Self::MigrationPostcopy => "MIGRATION_POSTCOPY",
            Self::MigrationFailed => "MIGRATION_FAILED",
            Self::VifPlugged => "VIF_PLUGGED",
            Self::VifUnplugged => "VIF_UNPLUGGED",
            Self::EventsMissed => "EVENTS_MISSED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::HostEnabled => "HOST_ENABLED",
            Self::HostDisabled => "HOST_DISABLED",
            Self::Rescued => "RESCUED",
            Self::Unrescued => "UNRESCUED",
        }
    }
}

/// What a block job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobType {
    /// Content of the backing file is taken into the disk.
    Pull,
    /// The disk is copied.
    Copy,
    /// Content is committed into a backing file.
    Commit,
    /// The active layer is committed.
    ActiveCommit,
    /// A backup is taken.
    Backup,
    /// One that is newer than this program.
    Other,
}

/// How a block job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Ended well.
    Completed,
    /// Ended by an error.
    Failed,
    /// Ended on request.
    Cancelled,
    /// Waits for the word to end.
    Ready,
    /// One that is newer than this program.
    Other,
}

/// What was done about an input or output error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IoAction {
    /// Nothing.
    Ignored,
    /// The guest was paused.
    Paused,
    /// The guest was told.
    Reported,
    /// One that is newer than this program.
    Other,
}

/// What some kinds tell beside the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// An operation, as it stood then.
    Operation(Box<OperationRecord>),
    /// A job on a disk.
    BlockJob(JobType, JobStatus),
    /// An input or output error.
    IoError(IoAction),
    /// The round over the guest's memory that begins, from 1.
    Migration(u32),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, or was heard of.
    pub time: SystemTime,
    /// To which instance; none: to the whole host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What.
    pub kind: EventKind,
    /// The guest's power after it, where it says anything of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerState>,
    /// The operation that it is about, or that held the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// The device that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why, in one stable word: `BOOTED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What its kind tells beside the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
}

impl Event {
    /// One of the whole host, now.
    pub fn of_host(kind: EventKind) -> Self {
        Self {
            time: SystemTime::now(),
            instance: None,
            kind,
            power: None,
            operation: None,
            device: None,
            reason: None,
            detail: String::new(),
            about: None,
        }
    }

    /// One of an instance, now.
    pub fn of(instance: InstanceId, kind: EventKind) -> Self {
        Self {
            instance: Some(instance),
            ..Self::of_host(kind)
        }
    }

    /// The same, with the guest's power after it.
    #[must_use]
    pub fn power(mut self, power: PowerState) -> Self {
        self.power = Some(power);
        self
    }

    /// The same, with its reason, given in words: `connection lost` is told as `CONNECTION_LOST`.
    #[must_use]
    pub fn because(mut self, words: &str) -> Self {
        let snake = |letter: char| match letter {
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_uppercase(),
            _ => '_',
        };
        self.reason = Some(words.chars().map(snake).collect());
        self
    }

    /// The same, about a device.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }

    /// The same, with what its kind tells beside the rest.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = Some(about);
        self
    }

    /// An operation has begun, or ended.
    pub fn of_operation(record: &OperationRecord) -> Self {
        let kind = if record.state.is_final() {
            EventKind::OperationEnded
        } else {
            EventKind::OperationBegun
        };
        let reason = record.error.as_ref().map(|e| e.reason().to_owned());
        // What the request was is nobody's news, not even as a hash.
        let told = OperationRecord {
            fingerprint: String::new(),
            ..record.clone()
        };
        Self {
            time: record.ended.unwrap_or(record.begun),
            instance: record.instance,
            operation: Some(record.id),
            reason,
            about: Some(About::Operation(Box::new(told))),
            ..Self::of_host(kind)
        }
    }

    /// A spawn has succeeded.
    pub fn created(instance: &InstanceRecord) -> Self {
        Self {
            operation: Some(instance.operation),
            ..Self::of(instance.spec.id, EventKind::Created)
        }
    }
}

/// An event in its place in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// How an instance stands by the events told of it so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its power; none before the first that said anything of it.
    pub power: Option<PowerState>,
    /// Whether its agent is there.
    pub agent: bool,
    /// Its interfaces that are plugged.
    pub plugged: BTreeSet<String>,
}

impl Standing {
    /// How it stands after `event`.
    #[must_use]
    pub fn after(mut self, event: &Event) -> Self {
        match event.kind {
            EventKind::AgentConnected => self.agent = true,
            EventKind::AgentDisconnected => self.agent = false,
            EventKind::VifPlugged => self.plugged.extend(event.device.clone()),
            EventKind::VifUnplugged => self
                .plugged
                .retain(|vif| Some(vif) != event.device.as_ref()),
            _ => {}
        }
        if let Some(power) = event.power {
            self.power = Some(power);
            // The agent goes with the guest; no event of its own tells.
            self.agent &= matches!(power, PowerState::Running | PowerState::Paused);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::EventKind;

    #[test]
    fn a_kind_is_shown_by_the_word_that_is_stored() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
