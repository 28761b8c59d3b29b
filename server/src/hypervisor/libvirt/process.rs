//! Processes as /proc shows them.

use std::{fs, io};

/// Whether a process still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It runs, sleeps, or is stopped.
    Alive,
    /// It ended and is not buried yet.
    Zombie,
}

/// Why a process that did not end does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It was told to stop.
    Stopped,
    /// It waits for a device, and nothing can wake it.
    Device,
}

/// What `/proc/PID/stat` tells of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// The short name of its program.
    pub(super) command: String,
    /// Whether it still runs.
    pub(super) status: Status,
    /// Why it does nothing, if so.
    pub(super) halt: Option<Halt>,
    /// The session that it is in.
    pub(super) session: i32,
    /// When it began, in ticks since the host's start. With the id it names a process for good.
    pub(super) started: u64,
    /// Processor time that it has used, in ticks.
    pub(super) ticks: u64,
    /// How many threads it has.
    pub(super) threads: u64,
    /// Pages of memory that it holds.
    pub(super) pages: u64,
}

impl Process {
    /// Looks at a process.
    pub(super) fn read(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, stat))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name may hold anything, brackets and spaces too: only its last bracket ends it.
        let (head, rest) = stat.rsplit_once(')')?;
        let (_, command) = head.split_once('(')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let state = *fields.first()?;
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            command: command.to_owned(),
            status: match state {
                "Z" | "X" => Status::Zombie,
                _ => Status::Alive,
            },
            halt: match state {
                "T" | "t" => Some(Halt::Stopped),
                "D" => Some(Halt::Device),
                _ => None,
            },
            session: fields.get(3)?.parse().ok()?,
            ticks: number(11)?.saturating_add(number(12)?),
            threads: number(17)?,
            started: number(19)?,
            pages: number(21)?,
        })
    }
}

/// Threads of a process, each with its name.
pub(super) fn threads(pid: i32) -> io::Result<Vec<(i32, String)>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?.filter_map(Result::ok);
    let named = entries.filter_map(|entry| {
        let thread = entry.file_name().to_str()?.parse().ok()?;
        // What ends while we look is left out.
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((thread, name.trim_end().to_owned()))
    });
    Ok(named.collect())
}

/// What the scheduler counts of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheduled {
    /// Time that it ran, ns.
    pub(super) ran: u64,
    /// Time that it was ready to run and did not, ns.
    pub(super) waited: u64,
}

impl Scheduled {
    /// Looks at a thread; an error where the kernel counts none of it.
    pub(super) fn read(pid: i32, thread: i32) -> io::Result<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"))?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(ran)), Some(Ok(waited))) => Ok(Self { ran, waited }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, line)),
        }
    }
}

/// The arguments that a process was started with; empty when it ended.
pub(super) fn arguments(pid: i32) -> io::Result<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let words = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    Ok(words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect())
}

/// All processes of the host.
pub(super) fn all() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    Ok(entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_mislead() {
        let stat = "42 (a) Z (b) S 1 42 7 0 -1 0 0 0 0 0 30 12 0 0 20 0 3 0 4711 0 99";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            (process.command.as_str(), process.status),
            ("a) Z (b", Status::Alive)
        );
        assert_eq!((process.session, process.started), (7, 4711));
        assert_eq!((process.ticks, process.threads, process.pages), (42, 3, 99));
    }

    #[test]
    fn a_process_that_does_nothing_is_known() {
        let halt = |state| {
            let stat = format!("1 (x) {state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0");
            Process::parse(&stat).unwrap().halt
        };
        assert_eq!(halt("T"), Some(Halt::Stopped));
        assert_eq!(halt("D"), Some(Halt::Device));
        assert_eq!(halt("S"), None);
        assert_eq!(halt("R"), None);
    }

    #[test]
    fn we_see_ourselves() {
        let me = rustix::process::getpid().as_raw_pid();
        assert_eq!(Process::read(me).unwrap().status, Status::Alive);
        assert!(all().unwrap().contains(&me));
        assert!(!arguments(me).unwrap().is_empty());
        let threads = threads(me).unwrap();
        assert!(threads.iter().any(|(thread, _)| *thread == me));
    }
}
