//! The parts, in the order of the page.

mod idle;
mod info;
mod list;
mod nova;
mod scale;
mod spawn;
mod stats;
mod stuck;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::report::Page;

/// How a part is to measure.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Rounds of cheap calls.
    pub(crate) rounds: usize,
    /// Python with Nova and its bindings.
    pub(crate) python: Option<PathBuf>,
}

const PARTS: &[&str] = &[
    "info", "spawn", "nova", "stats", "idle", "stuck", "list", "scale",
];

/// Runs the parts that are named, or all. One that cannot be measured leaves a word, and the others go on.
pub(crate) async fn run(bench: &Bench, parts: &[String]) -> Result<Page> {
    for part in parts {
        ensure!(
            PARTS.contains(&part.as_str()),
            "{part}: no such part; there are {PARTS:?}"
        );
    }
    let mut page = Page::new();
    for part in PARTS {
        if !parts.is_empty() && !parts.iter().any(|named| named == part) {
            continue;
        }
        let begun = std::time::Instant::now();
        let done = match *part {
            "info" => info::run(bench, &mut page).await,
            "spawn" => spawn::run(bench, &mut page).await,
            "nova" => nova::run(bench, &mut page).await,
            "stats" => stats::run(bench, &mut page).await,
            "idle" => idle::run(&mut page).await,
            "stuck" => stuck::run(bench, &mut page).await,
            "list" => list::run(bench, &mut page).await,
            _ => scale::run(bench, &mut page).await,
        };
        if let Err(e) = done {
            page.miss(part, &e);
        }
        eprintln!("== {part}: {} s", begun.elapsed().as_secs());
    }
    Ok(page)
}
