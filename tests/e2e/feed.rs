//! `computectl` beside a real server: what a guest uses, and what happened to it.

use std::path::Path;

use serde_json::Value;

use crate::support::{Sandbox, binaries, command, guest_request, until};

suite! {
    a_guest_appears_in_counters_in_top_and_in_events,
}

/// What `computectl` prints; it must end well.
async fn computectl(socket: &Path, line: &[&str]) -> String {
    let endpoint = format!("unix:{}", socket.display());
    let mut program = command(binaries().join("computectl"));
    program.args(line).args(["--endpoint", &endpoint]);
    let run = tokio::task::spawn_blocking(move || program.output());
    let output = run.await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, wrong) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line:?}: {told}{wrong}");
    told
}

async fn a_guest_appears_in_counters_in_top_and_in_events(sandbox: &Sandbox) {
    let asked = guest_request("GUEST-MILESTONE-ready");
    let id = asked.instance_id.clone();
    sandbox.spawn(asked).await.unwrap();
    let socket = sandbox.socket();
    counted(&socket, &id).await;
    shown(&socket, &id).await;
    happened(&socket, &id).await;
}

/// Two samples, and processor time that does not go back.
async fn counted(socket: &Path, id: &str) {
    let line = ["stats", "--csv", "--count", "2", "--interval", "1s"];
    let csv = computectl(socket, &line).await;
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let cell = |line: &str, name: &str| -> String {
        let column = header.iter().position(|title| *title == name).unwrap();
        line.split(',').nth(column).unwrap().to_owned()
    };
    let of_it: Vec<_> = lines.filter(|line| cell(line, "instance") == id).collect();
    assert_eq!(of_it.len(), 2, "{csv}");
    let times: Vec<u64> = of_it
        .iter()
        .map(|line| {
            assert_eq!(cell(line, "status"), "OK", "{csv}");
            assert_eq!(cell(line, "power_state"), "RUNNING", "{csv}");
            cell(line, "cpu_time_ns").parse().unwrap()
        })
        .collect();
    assert!(times[0] > 0 && times.is_sorted(), "{csv}");
    let line = ["stats", "--kind", "block", "--csv", "--count", "1"];
    let csv = computectl(socket, &line).await;
    assert!(csv.lines().any(|line| line.contains(id)), "{csv}");
}

/// A rate of the processor, which needs two samples of the real thing.
async fn shown(socket: &Path, id: &str) {
    let told = until("a rate", || async {
        let line = ["top", "--once", "--interval", "1s", "-o", "json"];
        let told = computectl(socket, &line).await;
        let usage: Value = serde_json::from_str(told.lines().next()?).ok()?;
        usage["usage"]["cpu_percent"].is_number().then_some(usage)
    });
    let usage = &told.await["usage"];
    assert_eq!(usage["instance_id"], id);
    assert_eq!(usage["state"], "RUNNING");
    assert!(usage["memory_bytes"].as_f64().unwrap() > 0.0, "{usage}");
    let table = computectl(socket, &["top", "--once", "--interval", "1s"]).await;
    assert!(table.lines().any(|line| line.starts_with(id)), "{table}");
}

/// From the first event on, in order and without gaps.
async fn happened(socket: &Path, id: &str) {
    let told = computectl(socket, &["events", "--after", "0", "-o", "json"]).await;
    let events: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone())
        .collect();
    for (event, sequence) in events.iter().zip(1u64..) {
        assert_eq!(event["sequence"], sequence, "{told}");
    }
    let of_it = events.iter().filter(|event| event["instance_id"] == id);
    let kinds: Vec<_> = of_it.filter_map(|event| event["kind"].as_str()).collect();
    for kind in ["OPERATION_BEGUN", "STARTED", "CREATED", "OPERATION_ENDED"] {
        assert!(kinds.contains(&kind), "{kind}: {told}");
    }
}
