//! `computectl host` beside a real server.

use std::{
    io::{BufRead, BufReader},
    process::{ChildStdout, Stdio},
};

use serde_json::Value;

use crate::support::{LIMIT, Sandbox, binaries, command};

/// What `computectl host` prints, and its exit code.
async fn ctl(sandbox: &Sandbox, line: &[&str]) -> (String, Option<i32>) {
    let mut program = command(binaries().join("computectl"));
    let endpoint = format!("unix:{}", sandbox.socket().display());
    program.args(["--endpoint", &endpoint, "host"]).args(line);
    let run = tokio::task::spawn_blocking(move || program.output());
    let output = run.await.unwrap().expect("computectl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    (said + &wrong, output.status.code())
}

/// The one object that it prints, under its key.
async fn object(sandbox: &Sandbox, key: &str, line: &[&str]) -> Value {
    let line = [line, &["-o", "json"]].concat();
    let (said, code) = ctl(sandbox, &line).await;
    assert_eq!(code, Some(0), "{line:?}: {said}");
    let mut told: Value = serde_json::from_str(&said).expect("one object");
    assert!(told[key].is_object() || told[key].is_boolean(), "{told}");
    told[key].take()
}

#[tokio::test]
async fn computectl_tells_and_changes_the_host() {
    let sandbox = Sandbox::start(&[]).await;
    let node = object(&sandbox, "node", &["nodes"]).await;
    assert_eq!(node["node_id"].as_str().unwrap().len(), 36);
    let stats = object(&sandbox, "host_stats", &["stats", "--refresh"]).await;
    let (cpu, model) = (&stats["cpu"], stats["cpu"]["model"].as_str().unwrap());
    assert_eq!(cpu["architecture"], "x86_64");
    let times = object(&sandbox, "host_cpu_stats", &["cpu"]).await;
    assert!(times["idle_ns"].as_i64() > Some(0));
    let inventory = object(&sandbox, "inventory", &["inventory"]).await;
    assert_eq!(inventory["inventories"][0]["resource_class"], "VCPU");
    let connector = object(&sandbox, "connector", &["connector"]).await;
    assert_eq!(connector["host"], node["name"]);
    object(&sandbox, "address", &["address"]).await;
    object(&sandbox, "uptime", &["uptime"]).await;
    let like = ["compare-cpu", "--model", "qemu64", "--sockets", "1"];
    assert_eq!(
        object(&sandbox, "comparison", &like).await["comparison"],
        "SUPERSET"
    );
    let (said, code) = ctl(&sandbox, &["compare-cpu", "--model", "NoSuch"]).await;
    assert!(
        code == Some(6) && said.contains("[INVALID_CPU_INFO]"),
        "{said}"
    );

    object(&sandbox, "enabled", &["disable", "--note", "new disks"]).await;
    let held = object(&sandbox, "maintenance", &["maintenance", "on"]).await;
    assert_eq!(
        (&held["enabled"], &held["running_instances"]),
        (&true.into(), &0.into())
    );
    let left = object(&sandbox, "resource", &["resources"]).await;
    assert_eq!(
        (&left["enabled"], &left["maintenance"]),
        (&false.into(), &true.into())
    );
    for line in [&["maintenance", "off"][..], &["enable"]] {
        let (said, code) = ctl(&sandbox, line).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let (said, _) = ctl(&sandbox, &["resources"]).await;
    assert!(
        said.contains("takes instances; 0 instances") && said.contains("MEMORY MIB"),
        "{said}"
    );
    let (said, _) = ctl(&sandbox, &["stats"]).await;
    assert!(said.contains(model) && said.contains("free of"), "{said}");
    let (said, code) = ctl(&sandbox, &["power", "reboot"]).await;
    assert!(
        code == Some(6) && said.contains("[NOT_SUPPORTED]"),
        "{said}"
    );
}

/// Reads what it prints until the host is open, or closed.
async fn until_enabled(
    mut printed: BufReader<ChildStdout>,
    enabled: bool,
) -> BufReader<ChildStdout> {
    let read = move || {
        loop {
            let mut line = String::new();
            printed.read_line(&mut line).expect("it goes on");
            let told: Value = serde_json::from_str(&line).expect("one object a line");
            if told["resource"]["enabled"] == enabled {
                return printed;
            }
        }
    };
    let read = tokio::task::spawn_blocking(read);
    let read = tokio::time::timeout(LIMIT, read).await;
    read.expect("it is told").expect("it reads")
}

#[tokio::test]
async fn computectl_follows_what_the_host_has_left_over_a_restart() {
    let mut sandbox = Sandbox::start(&[]).await;
    let mut program = command(binaries().join("computectl"));
    let endpoint = format!("unix:{}", sandbox.socket().display());
    program.args(["--endpoint", &endpoint, "host", "resources", "-f"]);
    let mut follower = program
        .args(["-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("computectl runs");
    let printed = BufReader::new(follower.stdout.take().expect("a pipe"));
    let printed = until_enabled(printed, true).await;
    let disable = ["disable"];
    ctl(&sandbox, &disable).await;
    let printed = until_enabled(printed, false).await;
    sandbox.stop().await;
    sandbox.launch();
    sandbox.ready().await;
    ctl(&sandbox, &["enable"]).await;
    until_enabled(printed, true).await;
    follower.kill().expect("our own child");
    follower.wait().expect("our own child");
}
