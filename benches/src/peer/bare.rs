//! Bare libvirt calls: what a start or an end costs with nothing around it.

use std::{
    io::{BufRead, Write, stdin, stdout},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use virt::connect::Connect;

/// Starts and ends at a time: what two processors take best.
const THREADS: usize = 4;

/// Answers questions until standard input ends.
pub(crate) fn run(uri: &str) -> Result<()> {
    if uri.contains("embed") {
        virt::event::event_register_default_impl()?;
        thread::spawn(|| while virt::event::event_run_default_impl().is_ok() {});
    }
    let lines = (0..THREADS)
        .map(|_| Connect::open(Some(uri)))
        .collect::<Result<Vec<_>, _>>()?;
    // A driver that lives in this process asks QEMU for all it can do at first, which takes seconds.
    lines[0].capabilities()?;
    let mut answers = stdout();
    writeln!(answers, "{}", json!({"ready": true}))?;
    for line in stdin().lock().lines() {
        let answer = answer(&lines, &serde_json::from_str(&line?)?);
        let answer = answer.unwrap_or_else(|e| json!({"error": format!("{e:#}")}));
        writeln!(answers, "{answer}")?;
    }
    Ok(())
}

fn answer(lines: &[Connect], asked: &Value) -> Result<Value> {
    let words: Vec<&str> = asked["domains"]
        .as_array()
        .context("domains")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let work: fn(&Connect, &str) -> Result<()> = match asked["do"].as_str() {
        Some("create") => create,
        Some("destroy") => |line, name| Ok(line.lookup_domain_by_name(name)?.destroy()?),
        Some("undefine") => |line, name| Ok(line.lookup_domain_by_name(name)?.undefine()?),
        other => return Err(anyhow!("what is {other:?}?")),
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        let turns = lines.iter().enumerate().map(|(turn, line)| {
            let mine: Vec<&str> = words.iter().skip(turn).step_by(THREADS).copied().collect();
            scope.spawn(move || mine.into_iter().try_for_each(|word| work(line, word)))
        });
        let turns: Vec<_> = turns.collect();
        turns
            .into_iter()
            .try_for_each(|turn| turn.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(json!({"ms": begun.elapsed().as_secs_f64() * 1e3}))
}

fn create(line: &Connect, xml: &str) -> Result<()> {
    line.define_domain_xml(xml)?.create()?;
    Ok(())
}
