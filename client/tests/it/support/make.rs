//! Messages for tests.

use std::collections::HashMap;

use computedriver_client::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const OPERATION: &str = "99999999-9999-4999-8999-999999999999";

pub(crate) const JOURNAL: &str = "77777777-7777-4777-8777-777777777777";

pub(crate) fn spawn_request() -> v1::SpawnRequest {
    v1::SpawnRequest {
        instance_id: INSTANCE.into(),
        flavor: Some(v1::Flavor {
            vcpus: 1,
            memory_mib: 64,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn instance() -> v1::Instance {
    v1::Instance {
        instance_id: INSTANCE.into(),
        power_state: v1::PowerState::Running.into(),
        display_name: "web".into(),
        ..Default::default()
    }
}

pub(crate) fn info() -> v1::InstanceInfo {
    v1::InstanceInfo {
        instance_id: INSTANCE.into(),
        state: v1::PowerState::Running.into(),
        max_mem_kib: 65536,
        mem_kib: 65536,
        num_cpu: 1,
        display_name: "web".into(),
        ..Default::default()
    }
}

/// A whole spawn: start and end of some phases, with bytes inside one.
pub(crate) fn progress() -> Vec<v1::OperationProgress> {
    use v1::{Phase, PhaseEdge as Edge};
    let bytes = v1::operation_progress::Amount::Bytes(v1::ByteProgress {
        done: 512 << 10,
        total: Some(1 << 20),
    });
    let steps = [
        (Phase::Claim, Edge::Start, None),
        (Phase::Claim, Edge::End, None),
        (Phase::FetchImage, Edge::Start, None),
        (Phase::FetchImage, Edge::Progress, Some(bytes)),
        (Phase::FetchImage, Edge::End, None),
        (Phase::Start, Edge::Start, None),
        (Phase::Start, Edge::End, None),
        (Phase::Running, Edge::Start, None),
        (Phase::Running, Edge::End, None),
    ];
    let steps = steps.into_iter().zip(1..);
    steps
        .map(|((phase, edge, amount), sequence)| v1::OperationProgress {
            operation_id: OPERATION.into(),
            sequence,
            phase: phase.into(),
            edge: edge.into(),
            amount,
            elapsed: (edge != Edge::Start).then_some(prost_types::Duration {
                seconds: 0,
                nanos: 250_000_000,
            }),
            ..Default::default()
        })
        .collect()
}

/// An error as the contract wants it.
pub(crate) fn error(code: Code, reason: &str, message: &str) -> Status {
    detailed(code, reason, message, |_| ())
}

/// The same, with what its message names.
pub(crate) fn told(code: Code, reason: &str, message: &str, fields: &[(&str, String)]) -> Status {
    let mut details = ErrorDetails::new();
    let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
    details.set_error_info(reason, "computedriver", fields.collect::<HashMap<_, _>>());
    Status::with_error_details(code, message, details)
}

pub(crate) fn detailed(
    code: Code,
    reason: &str,
    message: &str,
    fill: impl FnOnce(&mut ErrorDetails),
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "computedriver", HashMap::new());
    fill(&mut details);
    Status::with_error_details(code, message, details)
}

pub(crate) fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// An event that the journal is yet to number.
pub(crate) fn event(instance_id: &str, kind: v1::EventKind) -> v1::Event {
    v1::Event {
        time: time(1_800_000_000),
        instance_id: instance_id.into(),
        kind: kind.into(),
        ..Default::default()
    }
}

/// All counters of a guest that was measured, each of them `value` and more.
pub(crate) fn stats(instance_id: &str, value: i64) -> v1::InstanceStats {
    v1::InstanceStats {
        sample: Some(v1::SampleState {
            instance_id: instance_id.into(),
            status: v1::SampleStatus::Ok.into(),
            ..Default::default()
        }),
        cpu_time_ns: Some(value * 1_000_000),
        cpus: vec![v1::CpuDiagnostics {
            id: 0,
            time_ns: Some(value * 1_000_000),
            delay_ns: None,
        }],
        memory: Some(v1::MemoryDiagnostics {
            maximum_kib: 65536,
            current_kib: Some(65536),
            rss_kib: Some(32768),
            ..Default::default()
        }),
        disks: vec![v1::BlockCounters {
            disk_id: "root".into(),
            rd_req: Some(value),
            rd_bytes: Some(value * 512),
            wr_req: Some(value * 2),
            wr_bytes: Some(value * 1024),
            ..Default::default()
        }],
        interfaces: vec![v1::InterfaceCounters {
            interface_id: "net".into(),
            rx_bytes: Some(value * 100),
            tx_bytes: Some(value * 10),
            ..Default::default()
        }],
        power_state: v1::PowerState::Running.into(),
    }
}

/// A batch of a sample each second; the first is whole.
pub(crate) fn batch(
    sequence: u64,
    instances: Vec<v1::InstanceStats>,
) -> v1::StreamInstanceStatsResponse {
    let seconds = i64::try_from(sequence).expect("few samples");
    v1::StreamInstanceStatsResponse {
        more: false,
        sequence,
        collect_time: time(1_800_000_000 + seconds),
        interval: (sequence > 1).then_some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        full: sequence == 1,
        instances,
    }
}
