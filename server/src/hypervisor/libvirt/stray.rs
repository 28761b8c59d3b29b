//! Emulators that a crash left behind outside libvirt's knowledge.
//!
//! A server that is killed between the start of QEMU and libvirt's first note of it leaves one that nobody will ever
//! ask for, with disks that are about to be used again. It is known by its command line, which names our root, and by
//! its age: it began before this process did. Nothing is judged by a name alone.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tracing::warn;

use super::{
    process::{self, Process, Status},
    settle::status_folder,
};

/// A killed process is gone in milliseconds, unless its disk does not answer.
const GONE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// An emulator of ours from before this process.
#[derive(Debug)]
struct Emulator {
    pid: i32,
    started: u64,
    /// The guest's name; none for an emulator that libvirt only asked what it can do.
    name: Option<String>,
    /// Its own folder below the root.
    folder: PathBuf,
}

/// Ends every emulator below `root` that is older than this process and not among `known`; the answer is their names.
pub(super) fn end_all(
    root: &Path,
    known: &HashMap<String, Option<i32>>,
) -> io::Result<Vec<String>> {
    let me = Process::read(rustix::process::getpid().as_raw_pid())?;
    let mut ended = Vec::new();
    for pid in process::all()? {
        // What ends while we look is no stray.
        let Ok(Some(emulator)) = emulator(pid, root) else {
            continue;
        };
        if emulator.started >= me.started || is_known(&emulator, known) {
            continue;
        }
        match end(&emulator, root) {
            Ok(()) => ended.push(emulator.name.unwrap_or_else(|| pid.to_string())),
            Err(e) => warn!(pid, error = %e, "cannot end a stray emulator"),
        }
    }
    Ok(ended)
}

fn is_known(emulator: &Emulator, known: &HashMap<String, Option<i32>>) -> bool {
    let pid = emulator.name.as_ref().and_then(|name| known.get(name));
    // Without a pid file libvirt's word for the name must do.
    pid.is_some_and(|pid| pid.is_none_or(|pid| pid == emulator.pid))
}

/// What runs under that id, if it is an emulator of this root.
fn emulator(pid: i32, root: &Path) -> io::Result<Option<Emulator>> {
    let arguments = process::arguments(pid)?;
    let program = arguments.first().and_then(|path| path.rsplit('/').next());
    if !program.is_some_and(|program| program.starts_with("qemu")) {
        return Ok(None);
    }
    let Some(folder) = arguments.iter().find_map(|argument| folder(argument, root)) else {
        return Ok(None);
    };
    let process = Process::read(pid)?;
    if process.status == Status::Zombie {
        return Ok(None);
    }
    Ok(Some(Emulator {
        pid,
        started: process.started,
        name: name(&arguments).map(str::to_owned),
        folder,
    }))
}

/// The folder that libvirt made below the root for this emulator, when the argument names one:
/// `ROOT/lib/qemu/domain-1-NAME/…` or `ROOT/lib/qemu/qmp-XXXXXX/…`.
fn folder(argument: &str, root: &Path) -> Option<PathBuf> {
    let folders = root.join("lib/qemu");
    let prefix = format!("{}/", folders.to_str()?);
    let (_, rest) = argument.split_once(&prefix)?;
    let (own, _) = rest.split_once('/')?;
    let ours = own.starts_with("domain-") || own.starts_with("qmp-");
    ours.then(|| folders.join(own))
}

/// `-name guest=NAME,…`
pub(super) fn name(arguments: &[String]) -> Option<&str> {
    let at = arguments.iter().position(|argument| argument == "-name")?;
    let guest = arguments.get(at + 1)?.strip_prefix("guest=")?;
    guest.split(',').next()
}

fn end(emulator: &Emulator, root: &Path) -> io::Result<()> {
    let pid = Pid::from_raw(emulator.pid).ok_or(io::ErrorKind::InvalidInput)?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    // The handle holds on to one process: if that is still the one we judged, it cannot become another.
    if Process::read(emulator.pid)?.started == emulator.started {
        pidfd_send_signal(&handle, Signal::KILL)?;
    }
    wait(&handle)?;
    forget(emulator, root)
}

fn wait(handle: &OwnedFd) -> io::Result<()> {
    let mut watched = [PollFd::new(handle, PollFlags::IN)];
    match poll(&mut watched, Some(&GONE))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Removes what libvirt would have removed at its end.
fn forget(emulator: &Emulator, root: &Path) -> io::Result<()> {
    let absent_is_fine = |done: io::Result<()>| match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    if let Some(name) = &emulator.name {
        for ending in ["xml", "pid"] {
            let file = status_folder(root).join(format!("{name}.{ending}"));
            absent_is_fine(fs::remove_file(file))?;
        }
    }
    absent_is_fine(fs::remove_dir_all(&emulator.folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_emulator_is_known_by_the_folder_that_libvirt_made_for_it() {
        let root = Path::new("/r/q");
        let named = |argument: &str| folder(argument, root);
        let monitor = "socket,id=charmonitor,path=/r/q/lib/qemu/domain-1-g/monitor.sock";
        assert_eq!(named(monitor), Some("/r/q/lib/qemu/domain-1-g".into()));
        let key = r#"{"qom-type":"secret","file":"/r/q/lib/qemu/domain-1-g/master-key.aes"}"#;
        assert_eq!(named(key), Some("/r/q/lib/qemu/domain-1-g".into()));
        let probe = "unix:/r/q/lib/qemu/qmp-AbCdEf/qmp.monitor,server=on";
        assert_eq!(named(probe), Some("/r/q/lib/qemu/qmp-AbCdEf".into()));
        for other in [
            "/r/q2/lib/qemu/domain-1-g/x",
            "/r/q/lib/qemu/save/x",
            "/r/q/lib/qemu/..",
            "/r/q/disk",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn a_guests_name_is_read_from_its_command_line() {
        assert_eq!(
            name(&words("qemu -name guest=g-1,debug-threads=on -S")),
            Some("g-1")
        );
        assert_eq!(name(&words("qemu -S -machine none")), None);
        assert_eq!(name(&words("qemu -name")), None);
    }

    #[test]
    fn only_the_process_that_libvirt_means_is_known() {
        let emulator = Emulator {
            pid: 7,
            started: 1,
            name: Some("g".to_owned()),
            folder: PathBuf::new(),
        };
        let known = |pid| HashMap::from([("g".to_owned(), pid)]);
        assert!(is_known(&emulator, &known(Some(7))));
        assert!(is_known(&emulator, &known(None)));
        assert!(!is_known(&emulator, &known(Some(8))));
        assert!(!is_known(&emulator, &HashMap::new()));
    }
}
