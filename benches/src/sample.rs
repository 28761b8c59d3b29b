//! Numbers: medians, paired ratios, and what a process costs.

use std::{collections::HashMap, fs, time::Duration};

/// Values of one kind, in the order they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a duration, in milliseconds.
    pub(crate) fn time(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e3);
    }

    /// The value below which this share lies; 0 of nothing.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let at = last * share;
        let value = |at: f64| sorted.get(at as usize).copied().unwrap_or(0.0);
        let (low, high) = (value(at.floor()), value(at.ceil()));
        low + (high - low) * at.fract()
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The mean; 0 of nothing.
    #[allow(clippy::cast_precision_loss, reason = "a few values")]
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// How each value compares with the one taken beside it.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

/// Processor time of some processes from now on, by what the scheduler has counted for each thread.
///
/// A thread that ends is left out with what it used before: those of a pool end because they had nothing to do.
#[derive(Debug)]
pub(crate) struct Meter {
    pids: Vec<u32>,
    begun: HashMap<u32, u64>,
}

impl Meter {
    /// Begins to count.
    pub(crate) fn start(pids: &[u32]) -> Self {
        Self {
            pids: pids.to_vec(),
            begun: threads(pids),
        }
    }

    /// Milliseconds since then.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 ns")]
    pub(crate) fn ms(&self) -> f64 {
        let used = |(thread, ns): (u32, u64)| {
            ns.saturating_sub(self.begun.get(&thread).copied().unwrap_or(0))
        };
        threads(&self.pids).into_iter().map(used).sum::<u64>() as f64 / 1e6
    }
}

/// Nanoseconds that each living thread has run.
fn threads(pids: &[u32]) -> HashMap<u32, u64> {
    let folders = pids
        .iter()
        .map(|pid| fs::read_dir(format!("/proc/{pid}/task")));
    let threads = folders.flatten().flatten().flatten();
    let used = threads.filter_map(|thread| {
        let words = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let ns = words.split_ascii_whitespace().next()?.parse().ok()?;
        Some((thread.file_name().to_str()?.parse().ok()?, ns))
    });
    used.collect()
}

/// Memory that a process has of its own and shares, in KiB.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52 KiB")]
pub(crate) fn rss_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.trim().parse::<u64>().ok())
        .unwrap_or(0) as f64
}

/// How busy this machine is, and was.
pub(crate) fn load() -> String {
    let words = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    words
        .split_ascii_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let mut sample = Sample::default();
        assert!(sample.median().abs() < f64::EPSILON);
        for value in [4.0, 1.0, 3.0, 2.0] {
            sample.push(value);
        }
        assert!((sample.median() - 2.5).abs() < 1e-9);
        assert!((sample.quantile(1.0) - 4.0).abs() < 1e-9);
        assert!((sample.over(&sample).median() - 1.0).abs() < 1e-9);
    }
}
