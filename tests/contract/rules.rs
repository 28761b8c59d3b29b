//! Rules of the contract that no linter knows.

use std::collections::BTreeSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::support::{Contract, PACKAGE};

/// Carried unchanged from one server to another; callers fill in nothing of it.
const OPAQUE: &str = "MigrationTicket";

/// A comment as one line.
fn unwrapped(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_read(method: &MethodDescriptor) -> bool {
    let level = method
        .options()
        .get_field_by_name("idempotency_level")
        .map(|v| v.as_enum_number());
    level == Some(Some(1))
}

#[test]
fn every_rpc_says_what_holds_afterwards_and_whether_it_may_be_repeated() {
    let contract = Contract::read();
    for method in contract.methods() {
        let comment = unwrapped(contract.method_comment(&method));
        let level = method
            .options()
            .get_field_by_name("idempotency_level")
            .and_then(|v| v.as_enum_number());
        let word = match level {
            Some(1) => "Changes nothing",
            Some(2) => "Idempotent",
            _ => "Not idempotent",
        };
        assert!(
            comment.contains(word),
            "{}: does not say: {word}",
            method.full_name()
        );
        let changes = matches!(level, Some(2) | Some(0) | None) && !method.is_client_streaming();
        let says = ["Afterwards", "Answers with", "Answers at once"]
            .iter()
            .any(|w| comment.contains(w));
        assert!(
            !changes || says,
            "{}: does not say what holds afterwards",
            method.full_name()
        );
    }
}

#[test]
fn every_change_may_carry_a_request_id() {
    // A token is new each time, a console is bytes, and what is cancelled is named by its own id.
    let exempt = [
        "GetConsoleAccess",
        "OpenSerialConsole",
        "OpenVncConsole",
        "CancelOperation",
    ];
    for method in Contract::read().methods() {
        if is_read(&method) || exempt.contains(&method.name()) {
            continue;
        }
        let has = method.input().get_field_by_name("request_id").is_some();
        assert!(has, "{}: its request has no request_id", method.full_name());
    }
}

#[test]
fn every_list_comes_in_pages() {
    for method in Contract::read().methods() {
        if !method.name().starts_with("List") {
            continue;
        }
        let request = ["page_size", "page_token"]
            .iter()
            .all(|f| method.input().get_field_by_name(f).is_some());
        let response = method
            .output()
            .get_field_by_name("next_page_token")
            .is_some();
        assert!(request && response, "{}: does not page", method.full_name());
    }
}

#[test]
fn every_idle_stream_has_a_heartbeat() {
    // Batches come with each tick of the sampler or end by themselves; RFB bytes have no room for one.
    let exempt = [
        "StreamInstances",
        "StreamBlockStats",
        "StreamInterfaceStats",
        "StreamInstanceStats",
        "OpenVncConsole",
    ];
    for method in Contract::read().methods() {
        if !method.is_server_streaming() || exempt.contains(&method.name()) {
            continue;
        }
        let has = method.output().get_field_by_name("heartbeat").is_some();
        assert!(has, "{}: its stream has no heartbeat", method.full_name());
    }
}

/// The messages that a caller fills in, whole requests and their parts.
fn asked(contract: &Contract) -> Vec<MessageDescriptor> {
    let mut found: Vec<MessageDescriptor> = contract
        .methods()
        .iter()
        .map(MethodDescriptor::input)
        .collect();
    let mut names: BTreeSet<String> = found.iter().map(|m| m.full_name().to_owned()).collect();
    let mut next = 0;
    while next < found.len() {
        for field in found[next].clone().fields() {
            let Kind::Message(part) = field.kind() else {
                continue;
            };
            let ours =
                part.package_name() == PACKAGE && !part.is_map_entry() && part.name() != OPAQUE;
            if ours && names.insert(part.full_name().to_owned()) {
                found.push(part);
            }
        }
        next += 1;
    }
    found
}

fn says_what_unset_means(contract: &Contract, field: &FieldDescriptor) -> bool {
    let file = field.parent_file();
    let oneof = field.containing_oneof().filter(|o| !o.is_synthetic());
    let path = oneof
        .as_ref()
        .map_or_else(|| field.path().to_vec(), |o| o.path().to_vec());
    let parent = contract.comment(file.name(), field.parent_message().path());
    let comment = unwrapped(&format!(
        "{} {parent}",
        contract.comment(file.name(), &path)
    ));
    let words = [
        "Required",
        "Default",
        "An unset field means",
        "0 means no limit",
    ];
    words.iter().any(|word| comment.contains(word))
}

#[test]
fn every_field_that_a_caller_fills_in_says_what_unset_means() {
    let contract = Contract::read();
    let mut silent = Vec::new();
    for message in asked(&contract) {
        for field in message
            .fields()
            .filter(|f| !says_what_unset_means(&contract, f))
        {
            silent.push(field.full_name().to_owned());
        }
    }
    assert!(
        silent.is_empty(),
        "neither required nor a default: {silent:#?}"
    );
}

#[test]
fn every_enum_that_a_caller_fills_in_refuses_its_zero() {
    let contract = Contract::read();
    for message in asked(&contract) {
        for field in message.fields() {
            let Kind::Enum(values) = field.kind() else {
                continue;
            };
            let Some(zero) = values.get_value(0) else {
                continue;
            };
            let comment = contract.comment(values.parent_file().name(), zero.path());
            assert!(
                comment.contains("Refused in requests"),
                "{}: {}",
                field.full_name(),
                zero.full_name()
            );
        }
    }
}
