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

/// What `/proc/PID/stat` tells of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// The short name of its program.
    pub(super) command: String,
    /// Whether it still runs.
    pub(super) status: Status,
    /// The session that it is in.
    pub(super) session: i32,
    /// When it began, in ticks since the host's start. With the id it names a process for good.
    pub(super) started: u64,
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
        Some(Self {
            command: command.to_owned(),
            status: match *fields.first()? {
                "Z" | "X" => Status::Zombie,
                _ => Status::Alive,
            },
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
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
        let stat = "42 (a) Z (b) S 1 42 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            (process.command.as_str(), process.status),
            ("a) Z (b", Status::Alive)
        );
        assert_eq!((process.session, process.started), (7, 4711));
    }

    #[test]
    fn we_see_ourselves() {
        let me = rustix::process::getpid().as_raw_pid();
        assert_eq!(Process::read(me).unwrap().status, Status::Alive);
        assert!(all().unwrap().contains(&me));
        assert!(!arguments(me).unwrap().is_empty());
    }
}
