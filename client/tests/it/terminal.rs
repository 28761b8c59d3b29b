//! `computectl console` on a terminal and in a pipe, and its kin.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::ctl::{command, run};
use crate::support::screen::Screen;
use crate::support::{Server, make};

fn console(server: &Server, options: &[&str]) -> Screen {
    let line = [&["console", make::INSTANCE], options].concat();
    let screen = Screen::start(&command(server, &line), (80, 10));
    screen.wait("the guest's greeting", |lines| says(lines, "login:"));
    screen
}

fn says(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn every_key_goes_to_the_guest_but_the_one_that_leaves() {
    let server = Server::start();
    let mut screen = console(&server, &[]);
    screen.press("root\r\nwelcome");
    screen.wait("what was typed", |lines| says(lines, "welcome"));
    screen.press("\u{3}");
    screen.wait("the guest's own answer", |lines| says(lines, "interrupted"));
    screen.press("\u{1d}");
    assert_eq!(screen.end(), 0);
    let mut screen = console(&server, &["--escape", "^a"]);
    screen.press("\u{1d}still here");
    screen.wait("what was typed", |lines| says(lines, "still here"));
    screen.press("\u{1}");
    assert_eq!(screen.end(), 0);
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let mut server = Server::start();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let screen = console(&server, &[]);
        screen.signal(signal);
        assert_eq!(screen.end(), 0, "{signal:?}");
    }
    let mut screen = console(&server, &[]);
    screen.press("bye");
    assert_eq!(screen.end(), 0, "the guest hung up");
    let screen = console(&server, &[]);
    server.kill();
    assert_eq!(screen.end(), 5, "the server went away");
}

#[test]
fn a_console_that_is_held_is_refused_in_a_sentence_and_taken_by_force() {
    let server = Server::start();
    let line = ["console", make::INSTANCE, "--port", "1"];
    let (stdout, stderr, code) = run(&server, &line);
    assert_eq!((stdout.as_str(), code), ("", 4));
    assert!(
        stderr.contains("[CONSOLE_BUSY]") && stderr.contains("force"),
        "{stderr}"
    );
    let mut screen = console(&server, &["--port", "1", "--force"]);
    screen.press("\u{1d}");
    assert_eq!(screen.end(), 0);
}

#[test]
fn in_a_pipe_bytes_pass_as_they_are() {
    let server = Server::start();
    let mut program = command(&server, &["console", make::INSTANCE]);
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().expect("it starts");
    let mut stdin = program.stdin.take().expect("a pipe");
    let mut stdout = program.stdout.take().expect("a pipe");
    let mut greeting = [0; 24];
    stdout.read_exact(&mut greeting).expect("a greeting");
    // The escape key is a byte like any other here.
    stdin.write_all(b"\x00\x1d\xff").expect("a pipe");
    let mut said = [0; 3];
    stdout.read_exact(&mut said).expect("it goes on");
    assert_eq!(&said, b"\x00\x1d\xff");
    stdin.write_all(b"bye").expect("a pipe");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("it ends");
    assert_eq!(rest, b"");
    assert!(program.wait().expect("our own child").success());
}

#[test]
fn viewers_come_to_a_port_of_this_machine() {
    let server = Server::start();
    let mut program = command(&server, &["vnc", make::INSTANCE]);
    let mut program = program.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut address = String::new();
    let told = program.stdout.take().expect("a pipe");
    BufReader::new(told)
        .read_line(&mut address)
        .expect("a line");
    for _ in 0..2 {
        let mut viewer = TcpStream::connect(address.trim()).expect("it listens");
        let mut said = [0; 12];
        viewer.read_exact(&mut said).expect("it speaks");
        assert_eq!(&said, b"RFB 003.008\n");
        viewer.write_all(b"RFB 003.003\n").expect("it listens");
        viewer.read_exact(&mut said).expect("it speaks");
        assert_eq!(&said, b"RFB 003.003\n");
    }
    let pid = rustix::process::Pid::from_child(&program);
    rustix::process::kill_process(pid, Signal::TERM).expect("our own child");
    assert!(program.wait().expect("our own child").success());
}

#[test]
fn a_token_is_told_to_who_asks_for_it() {
    let server = Server::start();
    let (stdout, _, code) = run(&server, &["console-access", make::INSTANCE]);
    let expected = "\
address  [::1]:6080
token    opensesame
expires  1970-01-01T00:10:00Z
";
    assert_eq!((stdout.as_str(), code), (expected, 0));
    let line = ["console-access", make::INSTANCE, "-o", "json"];
    let (stdout, _, _) = run(&server, &line);
    let told: serde_json::Value = serde_json::from_str(&stdout).expect("an object");
    assert_eq!(told["console_access"]["token"], "opensesame");
    let (stdout, _, code) = run(&server, &["console-pool", "--kind", "serial"]);
    assert_eq!((stdout.as_str(), code), ("console.example:6080\n", 0));
}
