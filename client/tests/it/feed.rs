//! `computectl events` and `computectl stats`: what they print, and when they end.

#![allow(
    clippy::disallowed_methods,
    reason = "the program under test is a process"
)]

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use computedriver_client::v1;
use computedriver_client::v1::{EventKind as Kind, SampleStatus};
use pretty_assertions::assert_eq;
use serde_json::Value;

use crate::ctl::{command, run};
use crate::support::{Server, make};

const OTHER: &str = "22222222-2222-4222-8222-222222222222";

/// Four events: two of an instance, one of another, one of the host.
fn host_with_a_past() -> Server {
    let server = Server::start();
    let journal = &server.host.journal;
    journal.write(v1::Event {
        operation_id: make::OPERATION.into(),
        about: Some(v1::event::About::Operation(v1::OperationEvent {
            verb: "Spawn".into(),
            state: v1::OperationState::Running.into(),
            caller: "unix:uid=0,pid=7".into(),
            ..Default::default()
        })),
        ..make::event(make::INSTANCE, Kind::OperationBegun)
    });
    journal.write(make::event("", Kind::Unreachable));
    journal.write(make::event(OTHER, Kind::Crashed));
    journal.write(v1::Event {
        reason: "OBSERVED".into(),
        power_state: v1::PowerState::Crashed.into(),
        ..make::event(make::INSTANCE, Kind::Crashed)
    });
    server
}

#[test]
fn events_are_a_line_each_and_end_when_all_is_told() {
    let server = host_with_a_past();
    let (stdout, stderr, code) = run(&server, &["events"]);
    let expected = "\
2027-01-15T08:00:00Z       1  OPERATION_BEGUN       11111111-1111-4111-8111-111111111111  -                 99999999-9999-4999-8999-999999999999  Spawn RUNNING by unix:uid=0,pid=7
2027-01-15T08:00:00Z       2  UNREACHABLE           -                                     -                 -
2027-01-15T08:00:00Z       3  CRASHED               22222222-2222-4222-8222-222222222222  -                 -
2027-01-15T08:00:00Z       4  CRASHED               11111111-1111-4111-8111-111111111111  OBSERVED          -                                     CRASHED
";
    assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
}

#[test]
fn events_are_selected_and_still_end() {
    let server = host_with_a_past();
    let lines = |more: &[&str]| -> Vec<u64> {
        let line = [&["events", "-o", "json"], more].concat();
        let (stdout, stderr, code) = run(&server, &line);
        assert_eq!((stderr.as_str(), code), ("", 0));
        let objects = stdout.lines().map(|line| {
            let object: Value = serde_json::from_str(line).expect("an object");
            object["event"]["sequence"].as_u64().expect("a number")
        });
        objects.collect()
    };
    assert_eq!(lines(&["--after", "2"]), [3, 4]);
    assert_eq!(lines(&["--after", "4"]), [0u64; 0]);
    assert_eq!(lines(&["--kind", "crashed"]), [3, 4]);
    assert_eq!(lines(&["--instance", make::INSTANCE]), [1, 2, 4]);
    let both = ["--instance", OTHER, "--kind", "CRASHED", "--kind", "PAUSED"];
    assert_eq!(lines(&both), [3]);
}

#[test]
fn a_cursor_that_is_not_kept_any_more_is_told_with_what_to_do() {
    let server = host_with_a_past();
    server.host.journal.expire(2);
    for follow in [&[][..], &["-f"]] {
        let line = [&["events", "--after", "1"], follow].concat();
        let (stdout, stderr, code) = run(&server, &line);
        assert_eq!((stdout.as_str(), code), ("", 6));
        assert_eq!(
            stderr,
            "error: the events after this cursor are not kept [EVENTS_EXPIRED]\n\
             what to do: begin again without a cursor\n"
        );
    }
}

#[test]
fn without_a_cursor_events_begin_with_the_oldest_that_is_kept() {
    let server = host_with_a_past();
    server.host.journal.expire(2);
    let (stdout, stderr, code) = run(&server, &["events"]);
    assert_eq!((stderr.as_str(), code), ("", 0));
    let sequences: Vec<_> = stdout
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(sequences, ["3", "4"]);
}

#[test]
fn followed_events_go_on_over_a_restart_of_the_server() {
    let mut server = host_with_a_past();
    server.host.put_instances(vec![make::info()]);
    let mut child = command(&server, &["events", "--follow", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("one more").expect("text");
        serde_json::from_str(&line).expect("an object")
    };
    assert_eq!(next()["state"]["instance_id"], make::INSTANCE);
    assert_eq!(next()["synced"]["sequence"], 4);
    let journal = &server.host.journal;
    journal.write(make::event(OTHER, Kind::Destroyed));
    assert_eq!(next()["event"]["sequence"], 5);
    server.kill();
    assert_eq!(next()["lost"]["kind"], "Unavailable");
    let journal = &server.host.journal;
    journal.write(make::event(OTHER, Kind::Created));
    server.revive();
    let mut news = next();
    while news.get("lost").is_some() {
        news = next();
    }
    assert_eq!(news["event"]["kind"], "CREATED");
    assert_eq!(news["event"]["sequence"], 6);
    child.kill().expect("our own child");
    child.wait().expect("our own child");
}

#[test]
fn counters_as_csv_have_a_line_an_instance_and_sample_and_absent_is_empty() {
    let server = Server::start();
    let mut stale = v1::InstanceStats {
        sample: make::stats(OTHER, 0).sample,
        ..Default::default()
    };
    if let Some(sample) = &mut stale.sample {
        sample.status = SampleStatus::Stale.into();
        sample.stale_since = make::time(1_800_000_000);
    }
    let first = vec![make::stats(make::INSTANCE, 5), stale];
    let second = vec![make::stats(make::INSTANCE, 9)];
    server.host.samples.play(vec![
        make::batch(1, first),
        make::batch(2, second.clone()),
        make::batch(3, second),
    ]);
    let line = ["stats", "--csv", "--count", "2", "--interval", "2s"];
    let (stdout, stderr, code) = run(&server, &line);
    let expected = "\
time,sequence,instance,status,stale_since,reset,power_state,cpu_time_ns,vcpus,memory_maximum_kib,memory_current_kib,memory_unused_kib,memory_available_kib,memory_rss_kib\r
2027-01-15T08:00:01Z,1,11111111-1111-4111-8111-111111111111,OK,,false,RUNNING,5000000,1,65536,65536,,,32768\r
2027-01-15T08:00:01Z,1,22222222-2222-4222-8222-222222222222,STALE,2027-01-15T08:00:00Z,false,,,,,,,,\r
2027-01-15T08:00:02Z,2,11111111-1111-4111-8111-111111111111,OK,,false,RUNNING,9000000,1,65536,65536,,,32768\r
";
    assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
    let asked = server.host.samples.asked();
    let seconds = |d: Option<prost_types::Duration>| d.map(|d| d.seconds);
    assert_eq!(seconds(asked[0].interval), Some(2));
    assert_eq!(
        seconds(asked[0].full_every),
        Some(2),
        "every sample is told whole"
    );
}

#[test]
fn counters_of_devices_have_a_line_each_and_a_guest_without_still_one() {
    let server = Server::start();
    let mut guest = make::stats("a\",b", 3);
    guest.disks.push(v1::BlockCounters {
        disk_id: "data".into(),
        rd_req: Some(0),
        ..Default::default()
    });
    let bare = v1::InstanceStats {
        sample: make::stats("c", 0).sample,
        ..Default::default()
    };
    let batch = make::batch(1, vec![guest, bare]);
    server.host.samples.play(vec![batch.clone()]);
    let (stdout, _, code) = run(
        &server,
        &["stats", "--kind", "block", "--csv", "--count", "1"],
    );
    let expected = "\
time,sequence,instance,status,stale_since,reset,disk,rd_req,rd_bytes,rd_time_ns,wr_req,wr_bytes,wr_time_ns,fl_req,fl_time_ns,errs\r
2027-01-15T08:00:01Z,1,\"a\"\",b\",OK,,false,root,3,1536,,6,3072,,,,\r
2027-01-15T08:00:01Z,1,\"a\"\",b\",OK,,false,data,0,,,,,,,,\r
2027-01-15T08:00:01Z,1,c,OK,,false,,,,,,,,,,\r
";
    assert_eq!((stdout.as_str(), code), (expected, 0));
    server.host.samples.play(vec![batch]);
    let (stdout, _, code) = run(&server, &["stats", "--kind", "interface", "--count", "1"]);
    let expected = "\
time                  sequence  instance  status  interface  rx_bytes  tx_bytes
2027-01-15T08:00:01Z  1         a\",b      OK      net        300       30
2027-01-15T08:00:01Z  1         c         OK
";
    assert_eq!((stdout.as_str(), code), (expected, 0));
}

#[test]
fn counters_as_json_are_an_object_a_sample() {
    let server = Server::start();
    let batch = make::batch(1, vec![make::stats("a", 3)]);
    server.host.samples.play(vec![batch]);
    let (stdout, _, code) = run(&server, &["stats", "--count", "1", "-o", "json"]);
    assert_eq!(code, 0);
    let object: Value = serde_json::from_str(&stdout).expect("one object");
    let instance = &object["stats"]["instances"][0];
    assert_eq!(instance["sample"]["status"], "OK");
    assert_eq!(instance["disks"][0]["rd_bytes"], 1536);
}

#[test]
fn the_counters_of_one_device_are_told_now() {
    let server = Server::start();
    let line = ["stats", "block", make::INSTANCE, "root", "--csv"];
    let (stdout, _, code) = run(&server, &line);
    let expected = "\
time,instance,disk,rd_req,rd_bytes,rd_time_ns,wr_req,wr_bytes,wr_time_ns,fl_req,fl_time_ns,errs\r
1970-01-01T00:01:40Z,11111111-1111-4111-8111-111111111111,root,1000,512000,,2000,1024000,,,,\r
";
    assert_eq!((stdout.as_str(), code), (expected, 0));
    let line = ["stats", "interface", make::INSTANCE, "net", "-o", "json"];
    let (stdout, _, code) = run(&server, &line);
    let object: Value = serde_json::from_str(&stdout).expect("one object");
    assert_eq!(
        (&object["stats"]["counters"]["rx_bytes"], code),
        (&100_000.into(), 0)
    );
}
