//! A libvirtd of the test's own, with all it keeps in a folder; see `tests/host/libvirtd`.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::command;

/// What the script answers when this user can have no libvirtd.
const CANNOT: i32 = 77;

/// A libvirtd that ends with the test, however that ends: it reads the other end of a pipe of ours.
pub struct Daemon {
    folder: PathBuf,
    uri: String,
    script: Child,
}

fn script(verb: &str, folder: &Path) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/libvirtd");
    let mut script = command(path);
    script.arg(verb).arg(folder);
    script
}

impl Daemon {
    /// Starts one; none, and a word on standard error, when this user cannot.
    pub fn start(folder: &Path) -> Option<Self> {
        let mut script = script("run", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/host/libvirtd runs");
        let mut uri = String::new();
        let output = script.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut uri).expect("a line");
        if uri.is_empty() {
            let ended = script.wait().expect("our own child");
            assert_eq!(ended.code(), Some(CANNOT), "tests/host/libvirtd: {ended}");
            eprintln!("SKIPPED: a libvirtd of the test's own needs root");
            return None;
        }
        Some(Self {
            folder: folder.to_owned(),
            uri: uri.trim().to_owned(),
            script,
        })
    }

    /// Its address.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A command that will run among its mounts and network interfaces.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut run = script("exec", &self.folder);
        run.arg(program);
        run
    }

    /// Runs a command among its mounts and network interfaces, and answers what it printed.
    pub fn run(&self, words: &[&str]) -> String {
        let (program, args) = words.split_first().expect("a command");
        printed(self.inside(program).args(args))
    }

    /// What its virsh answers.
    pub fn virsh(&self, args: &[&str]) -> String {
        printed(command("virsh").args(["-q", "-c", &self.uri]).args(args))
    }

    /// Kills it, and leaves its guests.
    pub fn down(&self) {
        printed(&mut script("down", &self.folder));
    }

    /// Starts it again.
    pub fn up(&self) {
        printed(&mut script("up", &self.folder));
    }
}

fn printed(run: &mut Command) -> String {
    let done = run.stderr(Stdio::inherit()).output().expect("it runs");
    assert!(done.status.success(), "{run:?}: {}", done.status);
    String::from_utf8(done.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
