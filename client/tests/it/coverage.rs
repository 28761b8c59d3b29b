//! `computectl` has a command for each RPC of the services that a server serves, and docs/computectl.md says which.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::ctl::run;
use crate::support::Server;

/// Services that no server serves yet.
const LATER: [&str; 2] = ["NetworkService", "MigrationService"];

/// Each RPC and its command, as the document's last table has them.
fn told() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/computectl.md");
    let document = fs::read_to_string(path).expect("the document is there");
    let (_, table) = document
        .split_once("## Which command calls which RPC")
        .expect("it has that part");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('`').collect();
        (cells[1].to_owned(), cells[3].to_owned())
    })
    .collect()
}

fn served() -> Vec<String> {
    let set = FileDescriptorSet::decode(computedriver::FILE_DESCRIPTOR_SET).expect("it is one");
    let services = set.file.iter().flat_map(|file| &file.service);
    let mut names: Vec<String> = services
        .filter(|service| !LATER.contains(&service.name()))
        .flat_map(|service| service.method.iter().map(|rpc| rpc.name().to_owned()))
        .collect();
    names.sort();
    names
}

/// All that the library and `computectl` are made of, but for the conformance suite: that is no operator's command.
fn source(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let texts = entries.map(|entry| match entry.path() {
        path if path.ends_with("conformance") => String::new(),
        path if path.is_dir() => source(&path),
        path => fs::read_to_string(path).expect("a source file"),
    });
    texts.collect()
}

#[test]
fn each_rpc_has_a_command_that_exists() {
    let (server, told) = (Server::start(), told());
    assert_eq!(told.keys().cloned().collect::<Vec<_>>(), served());
    for (rpc, command) in &told {
        let words: Vec<&str> = command.split(' ').collect();
        let (line, option) = match words.iter().position(|word| word.starts_with("--")) {
            Some(at) => (&words[..at], Some(words[at])),
            None => (&words[..], None),
        };
        let (help, complaint, code) = run(&server, &[line, &["--help"]].concat());
        assert_eq!(code, 0, "{rpc}: {command}: {complaint}");
        assert!(
            option.is_none_or(|option| help.contains(option)),
            "{rpc}: {command}"
        );
    }
}

#[test]
fn each_rpc_is_asked_somewhere() {
    let source = source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for rpc in served() {
        let request = format!("{rpc}Request");
        let mut words = source.split(|c: char| !c.is_alphanumeric());
        assert!(words.any(|word| word == request), "nobody makes {request}");
    }
}
