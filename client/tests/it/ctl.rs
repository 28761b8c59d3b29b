//! The built `computectl`: what it prints, and how it ends.

#![allow(
    clippy::disallowed_methods,
    reason = "the program under test is a process"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};

use computedriver_client::v1;
use pretty_assertions::assert_eq;
use serde_json::Value;
use tonic::{Code, Status};

use crate::support::host::Cut;
use crate::support::{Server, make};

pub(crate) fn command(server: &Server, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_computectl"));
    command.args(line).env_remove("COMPUTELET_ENDPOINT");
    command.args(["--endpoint", server.endpoint()]);
    command
}

/// What it printed on stdout and on stderr, and its exit code.
pub(crate) fn run(server: &Server, line: &[&str]) -> (String, String, i32) {
    told(command(server, line).output().expect("it starts"))
}

pub(crate) fn told(output: Output) -> (String, String, i32) {
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    let code = output.status.code().expect("it ends by itself");
    (text(output.stdout), text(output.stderr), code)
}

const SPAWN: &[&str] = &[
    "spawn",
    "--id",
    make::INSTANCE,
    "--image",
    "http://images/x.qcow2",
];

#[test]
fn a_spawn_in_a_pipe_prints_plain_lines() {
    let server = Server::start();
    let (stdout, stderr, code) = run(&server, SPAWN);
    let expected = "\
spawning 11111111-1111-4111-8111-111111111111
CLAIM                0.2 s
FETCH_IMAGE       512.0 KiB of 1.0 MiB
FETCH_IMAGE          0.2 s
START                0.2 s
RUNNING              0.2 s
instance      11111111-1111-4111-8111-111111111111
state         RUNNING
name          web
";
    assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
}

#[test]
fn a_spawn_as_json_is_one_object_a_line_and_the_instance_last() {
    let server = Server::start();
    let (stdout, _, code) = run(&server, &[SPAWN, &["--output", "json"]].concat());
    assert_eq!(code, 0);
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(lines.len(), make::progress().len() + 1);
    assert_eq!(lines[3]["progress"]["phase"], "FETCH_IMAGE");
    assert_eq!(lines[3]["progress"]["bytes"]["done"], 512 << 10);
    assert_eq!(lines[4]["progress"]["elapsed"], 0.25);
    assert_eq!(lines[9]["instance"]["power_state"], "RUNNING");
}

#[test]
fn a_lost_connection_is_told_and_healed() {
    let server = Server::start();
    server.host.cut_next(Cut::Lost(3));
    let (stdout, _, code) = run(&server, SPAWN);
    assert_eq!(code, 0);
    assert!(
        stdout.contains("connection reset; joining again\n"),
        "{stdout}"
    );
    assert_eq!(stdout.matches("CLAIM").count(), 1, "{stdout}");
}

#[test]
fn the_password_reaches_the_server_and_no_output() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret\n").expect("written");
    let file = file.display().to_string();
    let more = ["--admin-password-file", file.as_str(), "--output", "json"];
    let (stdout, stderr, code) = run(&server, &[SPAWN, &more].concat());
    assert_eq!(code, 0);
    assert_eq!(server.host.spawns()[0].admin_password, "s3cret");
    assert!(!stdout.contains("s3cret") && !stderr.contains("s3cret"));
}

#[test]
fn validation_changes_nothing() {
    let server = Server::start();
    let (stdout, _, code) = run(&server, &[SPAWN, &["--validate-only"]].concat());
    assert_eq!(
        (stdout.as_str(), code),
        ("the request would be accepted\n", 0)
    );
    assert!(server.host.spawns()[0].validate_only);
}

#[test]
fn each_kind_of_failure_has_its_exit_code_its_sentence_and_its_advice() {
    let server = Server::start();
    for (code, reason, exit) in [
        (Code::Internal, "INTERNAL", 1),
        (Code::NotFound, "IMAGE_NOT_FOUND", 3),
        (Code::AlreadyExists, "INSTANCE_EXISTS", 4),
        (Code::Aborted, "OPERATION_PENDING", 4),
        (Code::Unavailable, "HYPERVISOR_UNAVAILABLE", 5),
        (Code::InvalidArgument, "INVALID_REQUEST", 6),
        (Code::FailedPrecondition, "IMAGE_UNACCEPTABLE", 6),
        (Code::Unimplemented, "NOT_SUPPORTED", 6),
        (Code::PermissionDenied, "PERMISSION_DENIED", 6),
        (Code::ResourceExhausted, "HOST_RESOURCES", 7),
        (Code::DeadlineExceeded, "WAIT_TIMEOUT", 8),
        (Code::Cancelled, "OPERATION_CANCELLED", 9),
    ] {
        server
            .host
            .refuse(make::error(code, reason, "it did not work"));
        let (_, stderr, ended) = run(&server, SPAWN);
        assert_eq!(ended, exit, "{reason}");
        let mut lines = stderr.lines();
        let sentence = format!("error: it did not work [{reason}]");
        assert_eq!(lines.next(), Some(sentence.as_str()));
        let advice = lines.next().expect("the advice");
        assert!(advice.starts_with("what to do: "), "{advice}");
    }
}

#[test]
fn errors_as_json_are_one_object() {
    let server = Server::start();
    let line = ["show", make::INSTANCE, "--output", "json"];
    let (stdout, stderr, code) = run(&server, &line);
    assert_eq!((stdout.as_str(), code), ("", 3));
    let told: Value = serde_json::from_str(&stderr).expect("an object");
    assert_eq!(told["error"]["reason"], "INSTANCE_NOT_FOUND");
    assert_eq!(told["error"]["kind"], "NotFound");
    assert_eq!(told["error"]["exit_code"], 3);
    assert_eq!(told["error"]["next_move"], "take it as absent");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let server = Server::start();
    for line in [
        &["spawn"][..],
        &["fly"],
        &["spawn", "--image", "/x", "--wait-for", "lunch"],
        &["spawn", "--image", "/x", "--user-data", "/nowhere/at/all"],
    ] {
        assert_eq!(run(&server, line).2, 2, "{line:?}");
    }
}

#[test]
fn no_server_exits_with_5_and_names_the_endpoint() {
    let mut server = Server::start();
    server.kill();
    let (_, stderr, code) = run(&server, &["list"]);
    assert_eq!(code, 5);
    assert!(stderr.contains(server.endpoint()), "{stderr}");
    assert!(stderr.contains("what to do: "), "{stderr}");
}

#[test]
fn the_list_is_a_table() {
    let server = Server::start();
    server.host.put_instances(vec![make::info()]);
    let (stdout, _, code) = run(&server, &["list"]);
    let expected = "\
INSTANCE                              STATE    VCPUS  MEMORY    CREATED  NAME
11111111-1111-4111-8111-111111111111  RUNNING  1      64.0 MiB           web
";
    assert_eq!((stdout.as_str(), code), (expected, 0));
}

#[test]
fn a_list_comes_by_pages_and_as_ids() {
    let server = Server::start();
    let named = |id: &str| v1::InstanceInfo {
        instance_id: id.to_owned(),
        ..make::info()
    };
    server
        .host
        .put_instances(vec![named("a"), named("b"), named("c")]);
    let (page, _, code) = run(&server, &["list", "--ids", "--page-size", "2"]);
    assert_eq!((page.as_str(), code), ("a\nb\nmore: --page-token 2\n", 0));
    let next = ["list", "--page-size", "2", "--page-token", "2"];
    let (page, _, _) = run(&server, &next);
    let ids: Vec<_> = page.lines().skip(1).map(|line| &line[..1]).collect();
    assert_eq!(ids, ["c"], "{page}");
    assert_eq!(run(&server, &["list", "--ids"]).0, "a\nb\nc\n");
    let (told, _, _) = run(&server, &["list", "--page-size", "1", "-o", "json"]);
    let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(last["next_page_token"], "1");
}

#[test]
fn what_an_instance_does_now_is_told() {
    let server = Server::start();
    server.host.put_instances(vec![v1::InstanceInfo {
        cpu_time_ns: 1_550_000_000,
        mem_kib: 32 << 10,
        ..make::info()
    }]);
    let (told, _, code) = run(&server, &["info", make::INSTANCE]);
    assert_eq!(code, 0);
    let expected = format!(
        "\
instance      {}
state         RUNNING
vcpus         1
memory        32.0 MiB of 64.0 MiB
cpu time      1.6 s
",
        make::INSTANCE
    );
    assert_eq!(told, expected);
}

#[test]
fn destroy_goes_through_all_and_tells_the_first_failure() {
    let server = Server::start();
    server.host.put_instances(vec![make::info()]);
    server
        .host
        .refuse(make::error(Code::Aborted, "OPERATION_PENDING", "busy"));
    let line = ["destroy", "one", make::INSTANCE, "two"];
    let (stdout, stderr, code) = run(&server, &line);
    let id = make::INSTANCE;
    assert_eq!(stdout, format!("{id} destroyed\ntwo was not here\n"));
    assert!(stderr.contains("[OPERATION_PENDING]"), "{stderr}");
    assert!(stderr.ends_with("error: 1 of 3 failed\n"), "{stderr}");
    assert_eq!(code, 4);
}

#[test]
fn the_console_comes_as_the_guest_wrote_it() {
    let server = Server::start();
    server.host.write_console(b"one\ntwo\xff\n");
    server.host.cut_next(Cut::Lost(1));
    let line = ["console-log", "-f", make::INSTANCE];
    let output = command(&server, &line).output().expect("it starts");
    assert_eq!(output.stdout, b"one\ntwo\xff\n");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let server = Server::start();
    server.host.write_console(&b"x".repeat(1 << 20));
    let mut child = start(&server, &["console-log", make::INSTANCE]);
    drop(child.stdout.take());
    let (_, stderr, code) = told(child.wait_with_output().expect("it ends"));
    assert_eq!((stderr.as_str(), code), ("", 0));
}

fn start(server: &Server, line: &[&str]) -> Child {
    command(server, line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[test]
fn an_interrupt_leaves_the_operation_and_says_how_to_go_on() {
    let server = Server::start();
    server.host.cut_next(Cut::Silent(2));
    let mut child = start(&server, SPAWN);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let claimed = lines.any(|line| line.expect("text").starts_with("CLAIM"));
    assert!(claimed, "the operation is known");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("it runs");
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().expect("a pipe");
    pipe.read_to_string(&mut stderr).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let watch = format!("computectl ops watch {}", make::OPERATION);
    let cancel = format!("computectl ops cancel {}", make::OPERATION);
    assert!(stderr.contains("goes on"), "{stderr}");
    assert!(
        stderr.contains(&watch) && stderr.contains(&cancel),
        "{stderr}"
    );
}

#[test]
fn a_limit_ends_the_wait_and_not_the_operation() {
    let server = Server::start();
    server.host.cut_next(Cut::Silent(2));
    let (_, stderr, code) = run(&server, &[SPAWN, &["--timeout", "200ms"]].concat());
    assert_eq!(code, 8);
    assert!(stderr.contains("goes on at the server"), "{stderr}");
}

#[test]
fn an_operation_is_watched_to_its_end() {
    let server = Server::start();
    let (stdout, _, code) = run(&server, &["ops", "watch", make::OPERATION]);
    assert_eq!(code, 0);
    assert!(stdout.contains("FETCH_IMAGE"), "{stdout}");
    assert!(stdout.contains("SUCCEEDED"), "{stdout}");
}

#[test]
fn capabilities_tell_what_is_not_served_and_why() {
    let server = Server::start();
    let (stdout, _, _) = run(&server, &["capabilities"]);
    let expected = "\
RPC OR FEATURE          SERVED  WHY NOT
InstanceService/Spawn   yes
InstanceService/Reboot  no      comes later
";
    assert_eq!(stdout, expected);
    let (stdout, _, _) = run(&server, &["capabilities", "--supported"]);
    assert!(!stdout.contains("Reboot"), "{stdout}");
}

#[test]
fn a_list_of_images_is_whole() {
    let server = Server::start();
    let image = |id: &str| v1::CachedImage {
        image_id: id.into(),
        sha256: "ab".repeat(32),
        source_format: v1::DiskFormat::Qcow2.into(),
        ..Default::default()
    };
    server.host.put_images(vec![image("one"), image("two")]);
    let (stdout, _, _) = run(&server, &["images", "list"]);
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stdout.contains("abababababab  QCOW2"), "{stdout}");
}

#[test]
fn readiness_is_an_exit_code() {
    let server = Server::start();
    assert_eq!(run(&server, &["ready"]).0, "READY\n");
    server.host.refuse(Status::internal("broken"));
    assert_eq!(run(&server, &["ready"]).2, 1);
}

#[test]
fn completions_and_help_need_no_server() {
    let mut server = Server::start();
    server.kill();
    for shell in ["bash", "zsh", "fish"] {
        let (stdout, _, code) = run(&server, &["completions", shell]);
        assert!(stdout.contains("console-log"), "{shell}");
        assert_eq!(code, 0);
    }
    let (help, _, code) = run(&server, &["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("Exit codes:"), "{help}");
}
