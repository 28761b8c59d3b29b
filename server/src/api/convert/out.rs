//! Model → wire: what cannot fail.

use std::time::{Duration, SystemTime};

use computedriver::v1;

use crate::{
    model::{
        Amount, Edge, OperationRecord, OperationState, Phase, PowerState, ProgressEvent, Verb,
    },
    task::Progress,
};

pub(crate) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or_default()
}

pub(crate) fn power_state(state: PowerState) -> v1::PowerState {
    match state {
        PowerState::NoState => v1::PowerState::Nostate,
        PowerState::Running => v1::PowerState::Running,
        PowerState::Paused => v1::PowerState::Paused,
        PowerState::Shutdown => v1::PowerState::Shutdown,
        PowerState::Crashed => v1::PowerState::Crashed,
        PowerState::Suspended => v1::PowerState::Suspended,
        PowerState::Unknown => v1::PowerState::Unknown,
    }
}

pub(crate) fn phase(phase: Phase) -> v1::Phase {
    match phase {
        Phase::Claim => v1::Phase::Claim,
        Phase::FetchImage => v1::Phase::FetchImage,
        Phase::ConvertImage => v1::Phase::ConvertImage,
        Phase::CreateDisks => v1::Phase::CreateDisks,
        Phase::ConfigDrive => v1::Phase::ConfigDrive,
        Phase::ConnectVolumes => v1::Phase::ConnectVolumes,
        Phase::PlugVifs => v1::Phase::PlugVifs,
        Phase::Filter => v1::Phase::Filter,
        Phase::Define => v1::Phase::Define,
        Phase::Start => v1::Phase::Start,
        Phase::AwaitVifs => v1::Phase::AwaitVifs,
        Phase::Resume => v1::Phase::Resume,
        Phase::Running => v1::Phase::Running,
        Phase::Firmware => v1::Phase::Firmware,
        Phase::Bootloader => v1::Phase::Bootloader,
        Phase::Kernel => v1::Phase::Kernel,
        Phase::Userspace => v1::Phase::Userspace,
        Phase::Agent => v1::Phase::Agent,
        Phase::ConsolePattern => v1::Phase::ConsolePattern,
        Phase::Stop => v1::Phase::Stop,
        Phase::Undefine => v1::Phase::Undefine,
        Phase::UnplugVifs => v1::Phase::UnplugVifs,
        Phase::DeleteDisks => v1::Phase::RemoveDisks,
        Phase::Undo => v1::Phase::Undo,
        Phase::Shutdown => v1::Phase::Shutdown,
        Phase::DisconnectVolumes => v1::Phase::DisconnectVolumes,
        Phase::Save => v1::Phase::Save,
        Phase::Restore => v1::Phase::Restore,
        Phase::Quiesce => v1::Phase::Quiesce,
        Phase::Copy => v1::Phase::Copy,
        Phase::Upload => v1::Phase::Upload,
        Phase::ResizeDisks => v1::Phase::ResizeDisks,
        Phase::ResizeGuest => v1::Phase::ResizeGuest,
        Phase::Detach => v1::Phase::Detach,
        Phase::Attach => v1::Phase::Attach,
    }
}

pub(crate) fn progress(event: ProgressEvent) -> v1::OperationProgress {
    use v1::operation_progress::Amount as Wire;
    let edge = match event.edge {
        Edge::Begin => v1::PhaseEdge::Start,
        Edge::Advance => v1::PhaseEdge::Progress,
        Edge::End => v1::PhaseEdge::End,
    };
    let amount = event.amount.map(|amount| match amount {
        Amount::Bytes { done, total } => Wire::Bytes(v1::ByteProgress { done, total }),
        Amount::Percent(percent) => Wire::Percent(percent.min(100)),
    });
    v1::OperationProgress {
        operation_id: event.operation.to_string(),
        sequence: event.sequence,
        time: Some(timestamp(event.time)),
        phase: phase(event.phase).into(),
        step: event.step,
        edge: edge.into(),
        elapsed: Some(duration(event.elapsed)),
        amount,
        evidence: event.evidence,
    }
}

/// The name of the RPC that begins such an operation.
pub(super) fn verb(verb: Verb) -> String {
    format!("{verb:?}")
}

pub(super) fn state(record: &OperationRecord, cancelling: bool) -> v1::OperationState {
    match record.state {
        OperationState::Running if cancelling => v1::OperationState::Cancelling,
        OperationState::Running => v1::OperationState::Running,
        OperationState::Unwinding => v1::OperationState::Unwinding,
        OperationState::Succeeded => v1::OperationState::Succeeded,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::Cancelled => v1::OperationState::Cancelled,
    }
}

/// The operation with the latest progress of each of its phases.
pub(crate) fn operation(seen: &Progress, cancelling: bool) -> v1::Operation {
    let record = &seen.record;
    let events = seen.after(0);
    let mut phases: Vec<v1::OperationProgress> = Vec::new();
    for event in &events {
        let latest = progress(event.clone());
        match phases
            .iter_mut()
            .rev()
            .find(|known| known.phase == latest.phase)
        {
            Some(known) => *known = latest,
            None => phases.push(latest),
        }
    }
    v1::Operation {
        operation_id: record.id.to_string(),
        instance_id: record.instance.map(|id| id.to_string()).unwrap_or_default(),
        verb: verb(record.verb),
        state: state(record, cancelling).into(),
        request_id: record.request.map(|id| id.to_string()).unwrap_or_default(),
        begin_time: Some(timestamp(record.begun)),
        end_time: record.ended.map(timestamp),
        progress: events.last().map(|event| progress(event.clone())),
        phases,
        error: record.error.as_ref().map(error),
        cancellable: record.state == OperationState::Running && !record.verb.only_goes_forward(),
        image_id: record.image.clone().unwrap_or_default(),
    }
}

pub(super) fn error(e: &crate::error::Error) -> v1::OperationError {
    let reason = v1::Reason::from_str_name(&format!("REASON_{}", e.reason()));
    v1::OperationError {
        code: super::super::status::code(e).into(),
        reason: reason.unwrap_or(v1::Reason::Internal).into(),
        message: e.message().to_owned(),
        fields: e.fields().clone().into_iter().collect(),
        phase: e.phase().map_or(v1::Phase::Unspecified, phase).into(),
    }
}
