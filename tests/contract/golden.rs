//! The listing of everything that has a name and a number on the wire.
//!
//! `UPDATE_GOLDEN=1` adds what is new. What was there before stays for ever: it takes `UPDATE_GOLDEN=break` to remove
//! or renumber it, which is for the time before the first release only.

use std::collections::BTreeSet;
use std::{env, fs};

use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor};

use crate::support::{Contract, root, text};

const GOLDEN: &str = "tests/golden/contract.txt";

fn type_name(field: &FieldDescriptor) -> String {
    if let Kind::Message(entry) = field.kind()
        && entry.is_map_entry()
    {
        let value = type_name(&entry.map_entry_value_field());
        return format!("map<{}, {value}>", type_name(&entry.map_entry_key_field()));
    }
    let name = match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    };
    let label = match field.containing_oneof() {
        _ if field.is_list() => "repeated ".to_owned(),
        Some(oneof) if oneof.is_synthetic() => "optional ".to_owned(),
        Some(oneof) => format!("oneof {} ", oneof.name()),
        None => String::new(),
    };
    label + name.trim_start_matches("computedriver.v1.")
}

fn signature(method: &MethodDescriptor) -> String {
    let stream = |yes| if yes { "stream " } else { "" };
    format!(
        "rpc {}.{} ({}{}) returns ({}{})",
        method.parent_service().name(),
        method.name(),
        stream(method.is_client_streaming()),
        method.input().name(),
        stream(method.is_server_streaming()),
        method.output().name()
    )
}

fn listing(contract: &Contract) -> String {
    let mut lines: Vec<String> = contract.methods().iter().map(signature).collect();
    let mut messages = contract.messages();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    for message in messages {
        lines.push(format!("message {}", message.name()));
        let fields = message.fields();
        lines.extend(fields.map(|f| {
            format!(
                "{}.{} = {} {}",
                message.name(),
                f.name(),
                f.number(),
                type_name(&f)
            )
        }));
    }
    let mut enums = contract.enums();
    enums.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    for values in enums {
        lines.push(format!("enum {}", values.name()));
        lines.extend(
            values
                .values()
                .map(|v| format!("{}.{} = {}", values.name(), v.name(), v.number())),
        );
    }
    lines.join("\n") + "\n"
}

#[test]
fn nothing_on_the_wire_is_removed_or_renumbered() {
    let listing = listing(&Contract::read());
    let update = env::var("UPDATE_GOLDEN").unwrap_or_default();
    if update == "break" {
        return fs::write(root().join(GOLDEN), listing).expect("the golden file can be written");
    }
    let golden = text(GOLDEN);
    let now: BTreeSet<&str> = listing.lines().collect();
    let gone: Vec<&str> = golden.lines().filter(|line| !now.contains(line)).collect();
    assert!(
        gone.is_empty(),
        "removed, renumbered or retyped:\n{}",
        gone.join("\n")
    );
    if update.is_empty() {
        assert!(
            golden == listing,
            "the contract has grown: run again with UPDATE_GOLDEN=1 and read the change"
        );
    } else {
        fs::write(root().join(GOLDEN), listing).expect("the golden file can be written");
    }
}
