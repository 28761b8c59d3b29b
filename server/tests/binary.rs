//! The real executable: what it prints, how it ends, and that it leaves nothing.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// The executable, with none of our variables.
#[allow(
    clippy::disallowed_methods,
    reason = "tests start the executable from outside"
)]
fn computelet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_computelet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COMPUTELET_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    computelet(args).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that serves already, and the rest of what it logs.
struct Server {
    child: Child,
    log: Box<dyn BufRead>,
}

impl Server {
    fn start(state: &Path, args: &[&str]) -> Self {
        let mut command = computelet(&["serve", "--connect", "test:///default", "--log", "info"]);
        command.arg("--state-dir").arg(state).args(args);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("it was asked for"));
        let mut server = Self {
            child,
            log: Box::new(log),
        };
        server.until("ready");
        server
    }

    /// Reads its log up to a line with `word`.
    fn until(&mut self, word: &str) {
        let mut seen = String::new();
        while !seen.contains(word) {
            let count = self.log.read_line(&mut seen).expect("its log is text");
            assert!(count > 0, "it ended before {word:?}:\n{seen}");
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the shell's kill, from outside")]
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill is there").success());
    }

    /// Its exit code, once its log has ended.
    fn end(mut self) -> Option<i32> {
        io::copy(&mut self.log, &mut io::sink()).expect("its log can be read");
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed leaves none; one that has ended is an error that says nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_version_is_told() {
    let output = run(&["version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        format!("computelet {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    assert_eq!(run(&["fly"]).status.code(), Some(2));
    assert_eq!(
        run(&["config", "check", "--set", "nonsense"]).status.code(),
        Some(2)
    );
}

#[test]
fn every_fault_of_every_layer_is_told_and_the_code_is_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("computelet.toml");
    fs::write(&file, "colour = \"blue\"\n[limits]\ncalls = 0\n").unwrap();
    for verb in [&["serve"][..], &["doctor"], &["config", "check"]] {
        let output = computelet(verb)
            .arg("--config")
            .arg(&file)
            .args([
                "--listen",
                "tcp:0.0.0.0:7070",
                "--set",
                "guests.vnc=perhaps",
            ])
            .env("COMPUTELET_VIRT_TYPE", "vmware")
            .output()
            .expect("it starts");
        assert_eq!(output.status.code(), Some(78), "{verb:?}");
        let told = text(&output.stderr);
        for part in [
            "5 faults",
            "listen = \"tcp:0.0.0.0:7070\" (--listen): is refused: TLS does not exist yet",
            "virt_type = \"vmware\" (COMPUTELET_VIRT_TYPE): must be one of auto, kvm, qemu",
            "guests.vnc = \"perhaps\" (--set): must be true or false",
            "limits.calls = 0",
            "colour (",
        ] {
            assert!(told.contains(part), "no {part:?} in\n{told}");
        }
    }
}

#[test]
fn the_example_is_right() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../computelet.example.toml");
    let output = run(&["config", "check", "--config", &example.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn completions_name_the_commands() {
    let output = run(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("doctor"));
}

#[test]
fn the_doctor_tells_one_line_a_check_and_ends_by_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_string_lossy().into_owned();
    let common = [
        "doctor",
        "--connect",
        "test:///default",
        "--state-dir",
        &state,
    ];
    let output = run(&common);
    let told = text(&output.stdout);
    let known = ["ok       ", "note     ", "missing  "];
    assert!(
        told.lines()
            .all(|line| known.iter().any(|word| line.starts_with(word))),
        "{told}"
    );
    assert!(told.contains("ok       libvirt "), "{told}");
    let fit = !told.contains("missing  ");
    assert_eq!(output.status.success(), fit, "{told}");

    let output = run(&[&common[..], &["--output", "json"]].concat());
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checks[0]["name"], "libvirt");

    let nowhere = "qemu+unix:///system?socket=/nowhere";
    let output = run(&["doctor", "--connect", nowhere, "--state-dir", &state]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("missing  libvirt "),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn sigterm_and_sigint_end_it_in_order_and_the_socket_is_gone() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path(), &[]);
        let socket = folder.path().join("computelet.sock");
        assert!(UnixStream::connect(&socket).is_ok());
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        server.signal(signal);
        server.until("drained");
        assert_eq!(server.end(), Some(0));
        assert!(!socket.try_exists().unwrap());
    }
}

#[test]
fn a_socket_that_a_crash_left_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.signal("KILL");
    assert_eq!(server.end(), None);
    let socket = folder.path().join("computelet.sock");
    assert!(socket.try_exists().unwrap(), "a crash leaves it");
    let server = Server::start(folder.path(), &[]);
    assert!(UnixStream::connect(&socket).is_ok());
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_second_server_at_the_same_socket_is_refused_and_the_first_goes_on() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(one.path(), &[]);
    let socket = one.path().join("computelet.sock");
    let listen = format!("unix:{}", socket.display());
    let state = two.path().to_string_lossy().into_owned();
    let output = run(&[
        "serve",
        "--connect",
        "test:///default",
        "--state-dir",
        &state,
        "--listen",
        &listen,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("another server answers there"), "{told}");
    assert!(UnixStream::connect(&socket).is_ok());
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
}
