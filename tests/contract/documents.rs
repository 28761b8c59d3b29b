//! `docs/contract.md` and `docs/errors.md` against the descriptor set.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Contract, quoted, rows, sources, text};

/// Public methods of Nova's `ComputeDriver`, counted at Folsom's tag and on today's branch, and those only between.
const FOLSOM: usize = 65;
const TODAY: usize = 107;
const BETWEEN: usize = 16;

const FLAGS: usize = 35;

/// Whether it has the shape of an RPC's name.
fn is_rpc_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().any(|c| c.is_ascii_lowercase())
}

fn rpc_names(contract: &Contract) -> BTreeSet<String> {
    contract
        .methods()
        .iter()
        .map(|m| m.name().to_owned())
        .collect()
}

#[test]
fn every_method_of_nova_has_one_row() {
    let rows = rows(&text("docs/contract.md"), 3);
    let methods: BTreeSet<&String> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(methods.len(), rows.len(), "a method has two rows");

    let is_today = |row: &&Vec<String>| !row[1].contains('–');
    let is_folsom = |row: &&Vec<String>| row[1].starts_with("Folsom");
    assert_eq!(rows.iter().filter(is_folsom).count(), FOLSOM, "in Folsom");
    assert_eq!(rows.iter().filter(is_today).count(), TODAY, "today");
    let between = rows.iter().filter(|row| !is_today(row) && !is_folsom(row));
    assert_eq!(between.count(), BETWEEN, "came and went between");
}

#[test]
fn every_row_names_an_rpc_that_exists_or_says_why_none_does() {
    let known = rpc_names(&Contract::read());
    let by_the_server = |cell: &str| cell.starts_with("the server's ");
    for row in rows(&text("docs/contract.md"), 3) {
        let named: Vec<&str> = quoted(&row[2]).filter(|word| is_rpc_name(word)).collect();
        let unknown: Vec<_> = named
            .iter()
            .filter(|name| !known.contains(**name))
            .collect();
        assert!(unknown.is_empty(), "{}: no such RPC: {unknown:?}", row[0]);
        let reasoned = row[2].starts_with("not served, because ") || by_the_server(&row[2]);
        assert!(
            !named.is_empty() || reasoned,
            "{}: neither an RPC nor a reason: {}",
            row[0],
            row[2]
        );
    }
}

#[test]
fn every_rpc_is_named_in_the_document() {
    let document = text("docs/contract.md");
    let named: BTreeSet<&str> = quoted(&document).collect();
    let missing: Vec<String> = rpc_names(&Contract::read())
        .into_iter()
        .filter(|name| !named.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not in docs/contract.md: {missing:?}");
}

#[test]
fn every_capability_flag_of_nova_is_listed() {
    let document = text("docs/contract.md");
    let (_, section) = document
        .split_once("## Capability flags")
        .expect("there is such a section");
    let flags: BTreeSet<&str> = quoted(section)
        .filter(|word| word.starts_with("supports_") || word.starts_with("has_"))
        .collect();
    assert_eq!(flags.len(), FLAGS, "{flags:#?}");
}

/// Reason and gRPC code, as the comment above each value of the enum begins with it.
fn reasons(contract: &Contract) -> BTreeMap<String, String> {
    let reason = contract
        .pool
        .get_enum_by_name("computedriver.v1.Reason")
        .expect("there is a Reason");
    let file = reason.parent_file();
    let mut codes = BTreeMap::new();
    for value in reason.values().filter(|value| value.number() != 0) {
        let comment = contract
            .comment(file.name(), value.path())
            .trim()
            .to_owned();
        let code: String = comment
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || *c == '_')
            .collect();
        codes.insert(value.name().trim_start_matches("REASON_").to_owned(), code);
    }
    codes
}

#[test]
fn every_reason_is_explained_with_its_code() {
    let reasons = reasons(&Contract::read());
    let rows = rows(&text("docs/errors.md"), 5);
    let explained: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(
        explained,
        reasons.keys().map(String::as_str).collect(),
        "docs/errors.md and reason.proto"
    );
    for row in &rows {
        let code = &reasons[row[0].trim_matches('`')];
        assert!(
            row[2].starts_with(code.as_str()),
            "{}: {} here, {code} in reason.proto",
            row[0],
            row[2]
        );
        assert!(
            row.iter().all(|cell| !cell.is_empty()),
            "a cell is empty: {row:?}"
        );
        assert_eq!(row[1].split(' ').next(), kind(code), "{}", row[0]);
    }
}

/// The kind that a code means to a caller.
fn kind(code: &str) -> Option<&'static str> {
    Some(match code {
        "INVALID_ARGUMENT" => "Invalid",
        "NOT_FOUND" => "NotFound",
        "ALREADY_EXISTS" => "Exists",
        "FAILED_PRECONDITION" => "Precondition",
        "ABORTED" => "Pending",
        "RESOURCE_EXHAUSTED" => "Exhausted",
        "PERMISSION_DENIED" | "UNAUTHENTICATED" => "Denied",
        "UNAVAILABLE" => "Unavailable",
        "DEADLINE_EXCEEDED" => "Deadline",
        "CANCELLED" => "Cancelled",
        "UNIMPLEMENTED" => "Unsupported",
        "OUT_OF_RANGE" => "OutOfRange",
        "INTERNAL" => "Internal",
        _ => return None,
    })
}

/// The reasons that a source file gives: in its `fn reason`, or beside a `Kind`.
fn given(source: &str) -> BTreeSet<&str> {
    let bodies = source.split("fn reason(&self) -> &'static str {").skip(1);
    let bodies = bodies.filter_map(|rest| rest.split("\n    }\n").next());
    let literals = bodies.flat_map(|body| body.split('"').skip(1).step_by(2));
    let beside = source.split("Kind::").skip(1).filter_map(|rest| {
        let (_, after) = rest.split_once(',')?;
        after.trim_start().strip_prefix('"')?.split('"').next()
    });
    let shaped =
        |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    literals.chain(beside).filter(shaped).collect()
}

#[test]
fn every_reason_that_the_server_gives_is_in_the_contract() {
    let known = reasons(&Contract::read());
    let mut seen = 0;
    for path in sources("server/src") {
        let source = text(&path);
        for reason in given(&source) {
            seen += 1;
            assert!(
                known.contains_key(reason),
                "{}: {reason} is not in reason.proto",
                path.display()
            );
        }
    }
    assert!(
        seen > 0,
        "no reason found: has the server changed its words for them?"
    );
}

#[test]
fn every_rpc_has_an_error_table_with_known_reasons_and_their_codes() {
    let contract = Contract::read();
    let reasons = reasons(&contract);
    for method in contract.methods() {
        let name = method.full_name();
        let rows = rows(contract.method_comment(&method), 4);
        assert!(!rows.is_empty(), "{name}: no error table");
        for row in rows.iter().filter(|row| row[0] != "none of its own") {
            let code = reasons
                .get(&row[2])
                .unwrap_or_else(|| panic!("{name}: no such reason: {}", row[2]));
            let option = row[2] == "NOT_SUPPORTED" && row[1] == "FAILED_PRECONDITION";
            assert!(
                row[1] == *code || option,
                "{name}: {} is {code}, not {}",
                row[2],
                row[1]
            );
            assert!(
                !row[3].is_empty(),
                "{name}: {}: what does the caller do?",
                row[2]
            );
        }
    }
}
