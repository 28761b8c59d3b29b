//! Status to error, and the advice against the contract and its documentation.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::time::Duration;

use computedriver::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::advice::ADVICE;
use super::{Error, Kind};

fn status(code: Code, reason: &str, fill: impl FnOnce(&mut ErrorDetails)) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("operation_id".to_owned(), "op-7".to_owned())]);
    details.set_error_info(reason, "computedriver", metadata);
    fill(&mut details);
    Status::with_error_details(code, "it failed", details)
}

#[test]
fn every_detail_of_a_status_is_kept() {
    let error = Error::from(status(Code::InvalidArgument, "INVALID_REQUEST", |d| {
        d.add_bad_request_violation("flavor.vcpus", "is 0");
        d.add_bad_request_violation("image", "is required");
        d.set_retry_info(Some(Duration::from_secs(3)));
    }));
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(error.reason(), "INVALID_REQUEST");
    assert_eq!(error.operation_id(), Some("op-7"));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(error.violations().len(), 2);
    assert_eq!(
        error.to_string(),
        "it failed: flavor.vcpus is 0; image is required"
    );
    assert_eq!(error.next_move(), "fix the fields that are named");
    assert!(!error.is_lost());
}

#[test]
fn a_shortage_names_the_resource() {
    let error = Error::from(status(Code::ResourceExhausted, "HOST_RESOURCES", |d| {
        d.add_quota_failure_violation("VCPU", "8 asked, 2 left");
    }));
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(error.quotas()[0].subject, "VCPU");
    assert_eq!(error.to_string(), "it failed: VCPU 8 asked, 2 left");
}

#[test]
fn a_condition_names_its_subject() {
    let error = Error::from(status(Code::FailedPrecondition, "NOT_SUPPORTED", |d| {
        d.add_precondition_failure_violation("CAPABILITY", "spawn.tpm", "is not served");
    }));
    assert_eq!(error.preconditions()[0].field, "spawn.tpm");
    assert_eq!(error.to_string(), "it failed: spawn.tpm is not served");
}

#[test]
fn a_foreign_reason_is_not_taken_for_ours() {
    let mut details = ErrorDetails::new();
    details.set_error_info("RATE_LIMIT", "proxy.example", HashMap::new());
    let error = Error::from(Status::with_error_details(Code::Aborted, "no", details));
    assert_eq!(error.reason(), "");
    assert_eq!(error.next_move(), "try again later");
}

#[test]
fn a_server_that_is_away_is_told_from_one_that_refuses() {
    assert!(Error::from(Status::unavailable("connection refused")).is_lost());
    let refused = status(Code::Unavailable, "HYPERVISOR_UNAVAILABLE", |_| ());
    assert!(!Error::from(refused).is_lost());
}

#[test]
fn a_failed_operation_tells_what_its_call_would() {
    let operation = v1::Operation {
        operation_id: "op-1".into(),
        error: Some(v1::OperationError {
            code: 4,
            reason: v1::Reason::WaitTimeout.into(),
            message: "no login prompt".into(),
            phase: v1::Phase::Userspace.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let error = Error::of_operation(&operation).expect("it failed");
    assert_eq!(error.kind(), Kind::Deadline);
    assert_eq!(error.reason(), "WAIT_TIMEOUT");
    assert_eq!(error.phase(), Some("USERSPACE"));
    assert_eq!(error.operation_id(), Some("op-1"));
}

#[test]
fn advice_and_kind_are_those_of_the_documented_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let text = fs::read_to_string(path).expect("docs/errors.md is there");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut documented = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        documented.insert(cells[0].trim_matches('`').to_owned());
        let kinds = cells[1].split(" or ").zip(cells[2].split(" or "));
        for (kind, code) in kinds {
            let code: Code = code_named(code);
            assert_eq!(format!("{:?}", Kind::of(code)), kind, "{row}");
        }
    }
    let advised: BTreeSet<String> = ADVICE.iter().map(|(r, _)| (*r).to_owned()).collect();
    assert_eq!(advised, documented);
}

fn code_named(name: &str) -> Code {
    let camel = name.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{first}{}", rest.to_lowercase())
    });
    let camel: String = camel.collect();
    let found = (1..=16).map(Code::from).find(|c| format!("{c:?}") == camel);
    found.unwrap_or_else(|| panic!("{name} is no gRPC code"))
}
