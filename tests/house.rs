//! Rules about our own source, read from the source: who may name what, how long a file is, that it opens with a word.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A word, and the only places in `server/src` that may name it.
const ONLY: &[(&str, &[&str])] = &[
    ("computedriver::", &["api", "app.rs", "serve", "main.rs"]),
    ("tonic::", &["api", "app.rs", "serve", "telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("virt::", &["hypervisor/libvirt", "doctor"]),
    ("virt_sys::", &["hypervisor/libvirt"]),
    (
        "unsafe ",
        &["hypervisor/libvirt/ffi", "hypervisor/libvirt/events"],
    ),
    ("rusqlite", &["store"]),
    ("process::Command", &["sys/command.rs", "sys/command"]),
    (
        "crate::config::",
        &[
            "app.rs",
            "main.rs",
            "doctor",
            "telemetry.rs",
            "config",
            "serve",
        ],
    ),
];

/// Modules that decide and do nothing.
const PURE: &[&str] = &["plan", "domain", "model"];
/// What a module that does I/O names.
const IO: &[&str] = &[
    "tokio::",
    "std::fs",
    "sys::",
    "std::net::Tcp",
    "std::process",
];

/// The rows of the dependency rule, uppermost first: a module may use the rows below its own.
const ROWS: &[&[&str]] = &[
    &["main", "app"],
    &["serve", "doctor"],
    &["telemetry"],
    &["api"],
    &["recover", "upkeep", "observe"],
    &["operation", "sampler", "session"],
    &["action"],
    &["step"],
    &["task"],
    &["host"],
    &["plan"],
    &["journal", "volume"],
    &[
        "hypervisor",
        "image",
        "vif",
        "config_drive",
        "boot",
        "console",
        "export",
    ],
    &["store", "sys"],
    &["domain", "model", "error"],
    &["metrics"],
];

/// A file that wants more than this holds two ideas.
const LINES: usize = 500;

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines of a file that are neither comments nor tests.
fn code(path: &Path) -> String {
    let all = text(path);
    let production = all
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let lines = production
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

fn within(path: &Path) -> String {
    let src = root().join("server/src");
    path.strip_prefix(src).unwrap_or(path).display().to_string()
}

fn belongs(file: &str, place: &str) -> bool {
    file == place || file == format!("{place}.rs") || file.starts_with(&format!("{place}/"))
}

#[test]
fn who_names_which_crate() {
    let mut faults = Vec::new();
    for path in sources("server/src")
        .into_iter()
        .filter(|path| !is_test(path))
    {
        let (file, code) = (within(&path), code(&path));
        for (word, places) in ONLY {
            let named = code.lines().any(|line| names(line, word));
            if named && !places.iter().any(|place| belongs(&file, place)) {
                faults.push(format!("{file} names {word}, only {places:?} may"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether `line` has `word` where a word begins.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn what_decides_does_no_io() {
    let mut faults = Vec::new();
    for path in sources("server/src")
        .into_iter()
        .filter(|path| !is_test(path))
    {
        let (file, code) = (within(&path), code(&path));
        if !PURE.iter().any(|place| belongs(&file, place)) {
            continue;
        }
        for word in IO
            .iter()
            .filter(|word| code.lines().any(|line| names(line, word)))
        {
            faults.push(format!("{file} names {word}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let row = |module: &str| ROWS.iter().position(|row| row.contains(&module));
    let mut faults = Vec::new();
    for path in sources("server/src")
        .into_iter()
        .filter(|path| !is_test(path))
    {
        let (file, code) = (within(&path), code(&path));
        let own = file.split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(own_row) = row(&own) else { continue };
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            for used in used(rest) {
                if used != own
                    && row(&used).is_some_and(|row| row <= own_row)
                    && !allowed(&own, &used)
                {
                    faults.push(format!("{file} uses {used}, which lies above or beside it"));
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The first names of a path after `crate::`, `{…}` opened.
fn used(rest: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let mut depth = 0usize;
    let mut names = Vec::new();
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && (c.is_alphabetic() || c == '_') => {
                names.push(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Exceptions inside a row, each named in ARCHITECTURE.md.
fn allowed(own: &str, used: &str) -> bool {
    matches!(
        (own, used),
        ("main", "app") | ("error" | "domain", "model") | ("model", "error")
    )
}

#[test]
fn no_file_holds_two_ideas_and_each_opens_with_a_word() {
    let mut faults = Vec::new();
    for folder in ["server", "client", "tests", "proto"] {
        for path in sources(folder) {
            let text = text(&path);
            let name = path.strip_prefix(root()).unwrap_or(&path).display();
            if text.lines().count() > LINES {
                faults.push(format!("{name} has {} lines", text.lines().count()));
            }
            if !is_test(&path) && !text.starts_with("//!") {
                faults.push(format!("{name} does not open with //!"));
            }
            if path.file_name().is_some_and(|name| name == "mod.rs") {
                faults.push(format!("{name} is a mod.rs"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
