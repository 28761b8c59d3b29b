//! Events towards the wire, and what a watcher asks for.

use computedriver::v1;
use uuid::Uuid;

use super::{
    fault::Faults,
    out::{error, power_state, state, timestamp, verb},
};
use crate::{
    error::Error,
    journal::Filter,
    model::{About, Entry, EventKind, InstanceId, IoAction, JobStatus, JobType, OperationRecord},
};

/// Instances that one watcher may name.
const NAMED: usize = 1000;

/// What a watcher asks for.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The cursor; none to begin with the present state.
    pub(crate) after: Option<u64>,
    /// The journal that the cursor counts in.
    pub(crate) journal: Option<Uuid>,
    /// What it wants to hear of.
    pub(crate) filter: Filter,
}

/// A watch as asked for.
pub(crate) fn watch(request: &v1::WatchEventsRequest) -> Result<Watch, Error> {
    let mut faults = Faults::default();
    faults.at_most("instance_ids", request.instance_ids.len(), NAMED);
    let instances = request
        .instance_ids
        .iter()
        .enumerate()
        .filter_map(|(at, id)| {
            faults.take(&format!("instance_ids[{at}]"), id.parse::<InstanceId>())
        })
        .collect();
    let kinds = kinds(&mut faults, &request.kinds);
    let journal = match request.journal_id.as_str() {
        "" => None,
        id => faults.take("journal_id", id.parse::<Uuid>()),
    };
    let after = request.after;
    faults.into_result(|| {
        Some(Watch {
            after,
            journal,
            filter: Filter { instances, kinds },
        })
    })
}

fn kinds(faults: &mut Faults, wire: &[i32]) -> Option<std::collections::HashSet<EventKind>> {
    let mut kinds = std::collections::HashSet::new();
    for (at, kind) in wire.iter().enumerate() {
        match v1::EventKind::try_from(*kind) {
            Ok(v1::EventKind::Unspecified) | Err(_) => {
                faults.wrong(&format!("kinds[{at}]"), "must be a known kind");
            }
            // One that never happens here is waited for in vain, as asked.
            Ok(kind) => kinds.extend(of_wire(kind)),
        }
    }
    (!wire.is_empty()).then_some(kinds)
}

/// The kind in our words, which are the contract's; none when it never happens here.
fn of_wire(kind: v1::EventKind) -> Option<EventKind> {
    let word = kind.as_str_name().strip_prefix("EVENT_KIND_")?;
    serde_json::from_value(word.into()).ok()
}

fn kind(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::Created => v1::EventKind::Created,
        EventKind::Started => v1::EventKind::Started,
        EventKind::Stopped => v1::EventKind::Stopped,
        EventKind::Crashed => v1::EventKind::Crashed,
        EventKind::Paused => v1::EventKind::Paused,
        EventKind::Resumed => v1::EventKind::Resumed,
        EventKind::Suspended => v1::EventKind::Suspended,
        EventKind::Rebooted => v1::EventKind::Rebooted,
        EventKind::Destroyed => v1::EventKind::Destroyed,
        EventKind::MigrationStarted => v1::EventKind::MigrationStarted,
        EventKind::Migrated => v1::EventKind::Migrated,
        EventKind::Unreachable => v1::EventKind::Unreachable,
        EventKind::Reachable => v1::EventKind::Reachable,
        EventKind::DeviceAdded => v1::EventKind::DeviceAdded,
        EventKind::DeviceRemoved => v1::EventKind::DeviceRemoved,
        EventKind::IoError => v1::EventKind::IoError,
        EventKind::Watchdog => v1::EventKind::Watchdog,
        EventKind::AgentConnected => v1::EventKind::AgentConnected,
        EventKind::AgentDisconnected => v1::EventKind::AgentDisconnected,
        EventKind::OperationBegun => v1::EventKind::OperationBegun,
        EventKind::OperationEnded => v1::EventKind::OperationEnded,
        EventKind::DeviceRemoveFailed => v1::EventKind::DeviceRemoveFailed,
        EventKind::BlockJob => v1::EventKind::BlockJob,
        EventKind::GuestPanicked => v1::EventKind::GuestPanicked,
        EventKind::MigrationIteration => v1::EventKind::MigrationIteration,
        EventKind::MigrationPostcopy => v1::EventKind::MigrationPostcopy,
        EventKind::MigrationFailed => v1::EventKind::MigrationFailed,
        EventKind::VifPlugged => v1::EventKind::VifPlugged,
        EventKind::VifUnplugged => v1::EventKind::VifUnplugged,
        EventKind::HostEnabled => v1::EventKind::HostEnabled,
        EventKind::HostDisabled => v1::EventKind::HostDisabled,
        EventKind::EventsMissed => v1::EventKind::EventsMissed,
        EventKind::ShuttingDown => v1::EventKind::ShuttingDown,
        EventKind::Rescued => v1::EventKind::Rescued,
        EventKind::Unrescued => v1::EventKind::Unrescued,
    }
}

/// An event as it is told.
pub(crate) fn event(entry: &Entry) -> v1::Event {
    let event = &entry.event;
    let power = event.power.map(power_state);
    v1::Event {
        sequence: entry.sequence,
        time: Some(timestamp(event.time)),
        instance_id: event.instance.map(|id| id.to_string()).unwrap_or_default(),
        kind: kind(event.kind).into(),
        power_state: power.unwrap_or(v1::PowerState::Unspecified).into(),
        operation_id: event.operation.map(|id| id.to_string()).unwrap_or_default(),
        device_id: event.device.clone().unwrap_or_default(),
        detail: event.detail.clone(),
        reason: event.reason.as_deref().unwrap_or_default().to_owned(),
        about: event.about.as_ref().map(about),
    }
}

fn about(about: &About) -> v1::event::About {
    use v1::event::About as Wire;
    match about {
        About::Operation(record) => Wire::Operation(operation(record)),
        About::BlockJob(kind, status) => Wire::BlockJob(v1::BlockJobEvent {
            r#type: job_type(*kind).into(),
            status: job_status(*status).into(),
        }),
        About::IoError(action) => Wire::IoError(v1::IoErrorEvent {
            action: io_action(*action).into(),
        }),
        About::Migration(iteration) => Wire::Migration(v1::MigrationEvent {
            iteration: *iteration,
        }),
    }
}

fn operation(record: &OperationRecord) -> v1::OperationEvent {
    v1::OperationEvent {
        verb: verb(record.verb).to_owned(),
        state: state(record, false).into(),
        request_id: record.request.map(|id| id.to_string()).unwrap_or_default(),
        caller: record.caller.clone().unwrap_or_default(),
        image_id: record.image.clone().unwrap_or_default(),
        error: record.error.as_ref().map(error),
    }
}

fn job_type(kind: JobType) -> v1::BlockJobType {
    match kind {
        JobType::Pull => v1::BlockJobType::Pull,
        JobType::Copy => v1::BlockJobType::Copy,
        JobType::Commit => v1::BlockJobType::Commit,
        JobType::ActiveCommit => v1::BlockJobType::ActiveCommit,
        JobType::Backup => v1::BlockJobType::Backup,
        JobType::Other => v1::BlockJobType::Unspecified,
    }
}

fn job_status(status: JobStatus) -> v1::BlockJobStatus {
    match status {
        JobStatus::Completed => v1::BlockJobStatus::Completed,
        JobStatus::Failed => v1::BlockJobStatus::Failed,
        JobStatus::Cancelled => v1::BlockJobStatus::Cancelled,
        JobStatus::Ready => v1::BlockJobStatus::Ready,
        JobStatus::Other => v1::BlockJobStatus::Unspecified,
    }
}

fn io_action(action: IoAction) -> v1::IoErrorAction {
    match action {
        IoAction::Ignored => v1::IoErrorAction::Ignored,
        IoAction::Paused => v1::IoErrorAction::Paused,
        IoAction::Reported => v1::IoErrorAction::Reported,
        IoAction::Other => v1::IoErrorAction::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_kinds_have_the_contracts_names() {
        let wire = (1..100).filter_map(|number| v1::EventKind::try_from(number).ok());
        let ours: Vec<_> = wire
            .filter_map(|wire| Some((wire, of_wire(wire)?)))
            .collect();
        assert_eq!(ours.len(), 35, "{ours:?}");
        for (wire, ours) in ours {
            assert_eq!(kind(ours), wire);
        }
    }

    #[test]
    fn a_watch_for_what_never_happens_here_is_not_one_for_everything() {
        let request = v1::WatchEventsRequest {
            kinds: vec![v1::EventKind::Resized.into()],
            ..v1::WatchEventsRequest::default()
        };
        let filter = watch(&request).unwrap().filter;
        assert_eq!(filter.kinds, Some(std::collections::HashSet::new()));
    }

    #[test]
    fn every_fault_of_a_watch_is_told() {
        let request = v1::WatchEventsRequest {
            after: None,
            instance_ids: vec!["nobody".to_owned()],
            kinds: vec![0, 9999],
            journal_id: "mine".to_owned(),
        };
        let e = watch(&request).unwrap_err();
        let fields: Vec<_> = e
            .details()
            .violations
            .iter()
            .map(|v| &v.field[..])
            .collect();
        assert_eq!(
            fields,
            ["instance_ids[0]", "kinds[0]", "kinds[1]", "journal_id"]
        );
    }
}
