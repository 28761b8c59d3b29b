//! `computectl top`, on a terminal and in a pipe.

use computedriver_client::v1;
use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::ctl::{command, run};
use crate::support::screen::Screen;
use crate::support::{Server, make};

const BUSY: &str = "22222222-2222-4222-8222-222222222222";

/// Two guests and as many samples, told at once.
fn play(server: &Server, samples: u64) {
    let info = |id: &str, name: &str| v1::InstanceInfo {
        instance_id: id.into(),
        display_name: name.into(),
        ..make::info()
    };
    let infos = vec![info(make::INSTANCE, "quiet"), info(BUSY, "busy")];
    server.host.put_instances(infos);
    let batch = |n: u64| {
        let value = i64::try_from(n).expect("small");
        let quiet = make::stats(make::INSTANCE, value * 10);
        make::batch(n, vec![quiet, make::stats(BUSY, value * 100)])
    };
    server.host.samples.play((1..=samples).map(batch).collect());
}

fn top(server: &Server, columns: u16, rows: u16) -> Screen {
    Screen::start(&command(server, &["top"]), (columns, rows))
}

/// Whether the rows below the header are these, top down.
fn names<'a>(names: &'a [&'a str]) -> impl Fn(&[String]) -> bool + 'a {
    move |lines| {
        let shown = lines.iter().skip(3).take(names.len());
        shown
            .zip(names)
            .all(|(line, name)| line.split_whitespace().nth(1) == Some(name))
    }
}

#[test]
fn it_draws_sorts_filters_and_gives_the_terminal_back() {
    let server = Server::start();
    play(&server, 3);
    let mut screen = top(&server, 110, 12);
    let lines = screen.wait("the guests", names(&["busy", "quiet"]));
    assert!(lines[0].ends_with("live, every 2 s"), "{lines:?}");
    assert!(
        lines[1].starts_with("2 guests, 2 running · cpu 11.0%"),
        "{lines:?}"
    );
    assert!(lines[2].contains("CPU▾"), "{lines:?}");
    assert!(lines[3].contains("10.0%"), "{lines:?}");
    screen.press("n");
    screen.wait("another order", |lines| lines[2].contains("NAME▾"));
    screen.press("v");
    screen.wait("the other way round", names(&["quiet", "busy"]));
    screen.press("/bu\r");
    screen.wait("one guest", |lines| {
        names(&["busy"])(lines) && lines[4].is_empty()
    });
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn it_gives_the_terminal_back_however_it_is_ended() {
    let server = Server::start();
    for signal in [
        None,
        Some(Signal::TERM),
        Some(Signal::INT),
        Some(Signal::HUP),
    ] {
        play(&server, 2);
        let mut screen = top(&server, 80, 10);
        screen.wait("the guests", names(&["busy", "quiet"]));
        match signal {
            Some(signal) => screen.signal(signal),
            None => screen.press("\u{3}"),
        }
        assert_eq!(screen.end(), 0, "{signal:?}");
    }
}

#[test]
fn a_lost_server_is_awaited_and_then_shown_again() {
    let mut server = Server::start();
    play(&server, 3);
    let mut screen = top(&server, 80, 10);
    screen.wait("the guests", names(&["busy", "quiet"]));
    server.kill();
    let lines = screen.wait("the loss", |lines| lines[0].contains("reconnecting"));
    assert!(
        names(&["busy", "quiet"])(&lines),
        "what was known stays: {lines:?}"
    );
    play(&server, 2);
    server.revive();
    screen.wait("the server", |lines| lines[0].ends_with("live, every 2 s"));
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn a_terminal_that_changes_its_size_is_drawn_anew() {
    let server = Server::start();
    play(&server, 3);
    let mut screen = top(&server, 120, 12);
    screen.wait("the guests", |lines| lines[2].contains(" TX"));
    for (columns, rows, last) in [(30, 8, "READ"), (12, 4, "INSTANCE"), (100, 20, "TX")] {
        screen.resize(columns, rows);
        screen.wait("a new drawing", |lines| {
            let foot = lines.last().is_some_and(|line| line.starts_with("q quit"));
            foot && lines[2].ends_with(last)
        });
    }
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn once_prints_one_table_and_ends() {
    let server = Server::start();
    play(&server, 2);
    let (stdout, stderr, code) = run(&server, &["top", "--once", "--interval", "1s"]);
    let expected = "\
INSTANCE                              NAME   STATE    CPU    MEM    READ   WRITE  RX     TX
22222222-2222-4222-8222-222222222222  busy   RUNNING  10.0%  32.0M  50.0K  100K   9.77K  1000B
11111111-1111-4111-8111-111111111111  quiet  RUNNING  1.0%   32.0M  5.00K  10.0K  1000B  100B
";
    assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
    play(&server, 2);
    let (stdout, _, _) = run(&server, &["top", "--once", "-o", "json"]);
    let first: serde_json::Value =
        serde_json::from_str(stdout.lines().next().expect("a guest")).expect("an object");
    assert_eq!(first["usage"]["cpu_percent"], 10.0);
    assert_eq!(first["usage"]["read_bytes_per_second"], 51200.0);
}

#[test]
fn without_a_terminal_or_a_server_it_says_so_in_a_sentence() {
    let mut server = Server::start();
    let (stdout, stderr, code) = run(&server, &["top"]);
    assert_eq!((stdout.as_str(), code), ("", 2));
    assert!(stderr.contains("top --once"), "{stderr}");
    server.kill();
    let screen = top(&server, 200, 10);
    let lines = screen.wait("the sentence", |lines| {
        lines[0].starts_with("error: no server answers")
    });
    assert!(lines[1].starts_with("what to do: "), "{lines:?}");
    assert_eq!(screen.end(), 5);
}
