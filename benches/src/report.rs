//! The page: rows, the machine they were measured on, and the table of both.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{sample, server};

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The part that measured it, by which it is repeated.
    pub(crate) part: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// Our figure.
    pub(crate) ours: String,
    /// What stands beside it.
    pub(crate) beside: String,
    /// The figure that the goal is about.
    pub(crate) found: f64,
    /// Its unit: `×`, `ms`.
    pub(crate) unit: &'static str,
    /// At most this; none when there is no goal.
    pub(crate) goal: Option<f64>,
}

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Page {
    rows: Vec<Row>,
    absent: Vec<(String, String)>,
    growth: Vec<(usize, Vec<(&'static str, f64)>)>,
    load: String,
}

impl Page {
    /// An empty page; notes how busy the machine is now.
    pub(crate) fn new() -> Self {
        Self {
            load: sample::load(),
            ..Self::default()
        }
    }

    /// Adds a row, and tells it at once.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// Notes what could not be measured, and why.
    pub(crate) fn miss(&mut self, part: &str, why: &anyhow::Error) {
        eprintln!("{part}: not measured: {why:#}");
        self.absent.push((part.to_owned(), format!("{why:#}")));
    }

    /// Notes what things cost with so many guests.
    pub(crate) fn grow(&mut self, guests: usize, costs: Vec<(&'static str, f64)>) {
        eprintln!("{guests} guests: {costs:?}");
        self.growth.push((guests, costs));
    }

    /// All of it, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.machine());
        text += "| what | ours | beside it | found | goal | |\n|---|---|---|---|---|---|\n";
        for row in &self.rows {
            text += &format!("{}\n", line(row));
        }
        for (part, why) in &self.absent {
            let why = why.replace('\n', " ").replace('|', "/");
            text += &format!("| not measured: `{part}` | {why} | | | | |\n");
        }
        if let Some((_, costs)) = self.growth.first() {
            let names: Vec<_> = costs.iter().map(|(name, _)| *name).collect();
            text += &format!(
                "\n| guests | {} |\n|---|{}\n",
                names.join(" | "),
                "---|".repeat(names.len())
            );
            for (guests, costs) in &self.growth {
                let costs: Vec<_> = costs.iter().map(|(_, cost)| figure(*cost)).collect();
                text += &format!("| {guests} | {} |\n", costs.join(" | "));
            }
        }
        text
    }

    /// Writes the table between the marks of the page, and the growth beside it for the plot.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let page = fs::read_to_string(path)?;
        let (begin, end) = ("<!-- measured -->\n", "<!-- end -->");
        let (head, rest) = page.split_once(begin).context("the page has no mark")?;
        let (_, tail) = rest
            .split_once(end)
            .context("the page has no second mark")?;
        fs::write(
            path,
            format!("{head}{begin}\n{}\n{end}{tail}", self.table()),
        )?;
        let growth: Vec<_> = self
            .growth
            .iter()
            .map(|(guests, costs)| {
                let costs: serde_json::Map<_, _> = costs
                    .iter()
                    .map(|(name, cost)| ((*name).to_owned(), (*cost).into()))
                    .collect();
                serde_json::json!({"guests": guests, "costs": costs})
            })
            .collect();
        let beside = path.with_extension("json");
        Ok(fs::write(beside, serde_json::to_string_pretty(&growth)?)?)
    }

    fn machine(&self) -> String {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown", |(_, model)| model);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let versions = [
            said("libvirtd", &["--version"]),
            said("qemu-system-x86_64", &["--version"]),
            said("rustc", &["--version"]),
            said("uname", &["-sr"]),
        ];
        format!(
            "Measured on {cores} × {model}; {}; {}. Load when it began: {}; when it ended: {}.",
            versions.join("; "),
            said("date", &["-u", "+%F %H:%M UTC"]),
            self.load,
            sample::load(),
        )
    }
}

/// The first line of what a command says.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(server::repository("."))
        .output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or(program).to_owned()
}

fn line(row: &Row) -> String {
    let found = format!("{} {}", figure(row.found), row.unit);
    let (goal, met) = match row.goal {
        Some(goal) if row.found <= goal => (format!("≤ {} {}", figure(goal), row.unit), "met"),
        Some(goal) => (format!("≤ {} {}", figure(goal), row.unit), "**missed**"),
        None => (String::new(), ""),
    };
    format!(
        "| {} (`{}`) | {} | {} | {found} | {goal} | {met} |",
        row.what, row.part, row.ours, row.beside
    )
}

/// A number with as many digits as are worth reading.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
