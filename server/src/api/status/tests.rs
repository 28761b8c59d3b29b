use std::time::Duration;

use pretty_assertions::assert_eq;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{DOMAIN, status};
use crate::{
    error::{Details, Error, Kind, Shortage, Violation},
    model::Phase,
};

fn with(details: Details) -> Status {
    status(&Error::new(Kind::Invalid, "INVALID_REQUEST", "it is wrong").detailed(details))
}

fn violation(field: &str, description: &str) -> Violation {
    Violation {
        field: field.to_owned(),
        description: description.to_owned(),
    }
}

#[test]
fn every_kind_has_its_code_and_every_status_its_reason() {
    let codes = [
        (Kind::Invalid, Code::InvalidArgument),
        (Kind::NotFound, Code::NotFound),
        (Kind::Exists, Code::AlreadyExists),
        (Kind::Precondition, Code::FailedPrecondition),
        (Kind::Pending, Code::Aborted),
        (Kind::Exhausted, Code::ResourceExhausted),
        (Kind::Denied, Code::PermissionDenied),
        (Kind::Unavailable, Code::Unavailable),
        (Kind::Deadline, Code::DeadlineExceeded),
        (Kind::Cancelled, Code::Cancelled),
        (Kind::Unsupported, Code::Unimplemented),
        (Kind::OutOfRange, Code::OutOfRange),
        (Kind::Internal, Code::Internal),
    ];
    for (kind, code) in codes {
        let status = status(&Error::new(kind, "SOME_REASON", "a message"));
        let info = status.get_details_error_info().expect("always there");
        assert_eq!((status.code(), status.message()), (code, "a message"));
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("SOME_REASON", DOMAIN)
        );
    }
}

#[test]
fn who_is_not_known_is_unauthenticated() {
    let status = status(&Error::new(Kind::Denied, "UNAUTHENTICATED", "who are you"));
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[test]
fn metadata_holds_the_variables_and_the_phase() {
    let e = Error::new(Kind::Internal, "HYPERVISOR_ERROR", "it failed")
        .with("libvirt_code", 38)
        .in_phase(Phase::CreateDisks);
    let info = status(&e).get_details_error_info().expect("always there");
    assert_eq!(info.metadata["libvirt_code"], "38");
    assert_eq!(info.metadata["phase"], "CREATE_DISKS");
}

#[test]
fn faulty_fields_short_resources_and_pauses_have_their_details() {
    let status = with(Details {
        violations: vec![violation("flavor.vcpus", "must be at least 1")],
        shortages: vec![Shortage {
            resource: "VCPU".to_owned(),
            asked: 9,
            left: 3,
        }],
        retry_after: Some(Duration::from_millis(1500)),
    });
    let bad = status.get_details_bad_request().expect("there are faults");
    assert_eq!(bad.field_violations[0].field, "flavor.vcpus");
    assert_eq!(bad.field_violations[0].description, "must be at least 1");
    let quota = status.get_details_quota_failure().expect("it ran short");
    assert_eq!(quota.violations[0].subject, "host");
    assert_eq!(quota.violations[0].description, "VCPU: asked 9, left 3");
    let retry = status.get_details_retry_info().expect("there is a pause");
    assert_eq!(retry.retry_delay, Some(Duration::from_millis(1500)));
}

#[test]
fn what_is_not_here_is_named() {
    let e = Error::new(Kind::NotFound, "INSTANCE_NOT_FOUND", "not here")
        .with("a", "first")
        .with("instance_id", "6f");
    let resource = status(&e).get_details_resource_info().expect("it is named");
    assert_eq!(
        (
            resource.resource_type.as_str(),
            resource.resource_name.as_str()
        ),
        ("instance", "6f")
    );
}

#[test]
fn a_wrong_state_names_its_subject() {
    let e =
        Error::new(Kind::Precondition, "INSTANCE_STATE", "it is paused").with("instance_id", "6f");
    let failure = status(&e)
        .get_details_precondition_failure()
        .expect("it is told");
    let told = &failure.violations[0];
    assert_eq!(
        (told.r#type.as_str(), told.subject.as_str()),
        ("INSTANCE_STATE", "6f")
    );
    assert_eq!(told.description, "it is paused");
}

/// C-core refuses trailers beyond 8 KiB, other headers included.
#[test]
fn the_worst_status_fits_the_trailers_of_every_client() {
    let long = "ü".repeat(5000);
    let violations = (0..10_000).map(|n| violation(&format!("metadata[{n}].key"), &long));
    let mut e =
        Error::new(Kind::Precondition, "IMAGE_UNACCEPTABLE", long.clone()).detailed(Details {
            violations: violations.collect(),
            retry_after: Some(Duration::from_secs(1)),
            ..Details::default()
        });
    for n in 0..100 {
        e = e.with(&format!("variable_{n}"), &long);
    }
    let status = status(&e.in_phase(Phase::Claim));
    let response = status.clone().into_http::<()>();
    let size: usize = response
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    assert!(size < 8 * 1024 - 256, "{size} bytes");
    let bad = status.get_details_bad_request().expect("there are faults");
    let last = bad.field_violations.last().expect("some are told");
    assert!(
        last.description.starts_with("and 99"),
        "{}",
        last.description
    );
    assert_eq!(
        status.get_details_error_info().expect("there").metadata["phase"],
        "CLAIM"
    );
}
