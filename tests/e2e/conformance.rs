//! `computectl conformance` beside a real server: what it checks holds, and it says so when it does not.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Sandbox, binaries, command, guest};

/// What it prints, a row a check, and its exit code.
async fn conformance(sandbox: &Sandbox, line: &[&str]) -> (Vec<Value>, Option<i32>) {
    let mut program = command(binaries().join("computectl"));
    let endpoint = format!("unix:{}", sandbox.socket().display());
    program.args(["--endpoint", &endpoint, "-o", "json", "conformance"]);
    program.args(line);
    let run = tokio::task::spawn_blocking(move || program.output());
    let output = run.await.unwrap().expect("computectl runs");
    let said = String::from_utf8(output.stdout).expect("text");
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let rows = said
        .lines()
        .map(|row| serde_json::from_str(row).expect("an object a row"));
    (rows.collect(), output.status.code())
}

/// The checks by their words, and how many came out how.
fn results(rows: &[Value]) -> (BTreeMap<String, String>, Value) {
    let told = |row: &Value, key: &str| row["check"][key].as_str().map(str::to_owned);
    let all = rows
        .iter()
        .filter_map(|row| Some((told(row, "check")?, told(row, "result")?)));
    let last = rows.last().expect("a row")["conformance"].clone();
    (all.collect(), last)
}

#[tokio::test]
async fn this_server_does_what_the_contract_says() {
    let sandbox = Sandbox::start(&["--set", "console.listen=tcp:127.0.0.1:0"]).await;
    let export = sandbox.path().join("export");
    std::fs::create_dir_all(&export).unwrap();
    let image = guest().join("guest.qcow2").display().to_string();
    let line = ["--image", &image, "--memory-mib", "128", "--user-net"];
    let agent = ["--wait-for", "/GUEST-MILESTONE-ready/", "--host-changes"];
    let export = ["--export-dir", export.to_str().unwrap()];
    let volumes = sandbox.path().join("volumes");
    std::fs::create_dir_all(&volumes).unwrap();
    let volume = volumes.join("root");
    std::fs::copy(&image, &volume).unwrap();
    let over = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "root"];
    let mut tool = command("qemu-img");
    let made = tool.args(over).arg("layer").current_dir(&volumes).status();
    assert!(made.unwrap().success());
    let volume = [
        "--boot-volume",
        volume.to_str().unwrap(),
        "--boot-volume-qcow2",
        "--boot-volume-layer",
        "layer",
    ];
    let line = [&line[..], &agent, &export, &volume].concat();
    let (rows, code) = conformance(&sandbox, &line).await;
    let (all, last) = results(&rows);
    let with = |result: &str| -> Vec<_> {
        let of = |(name, found): (&String, &String)| (found == result).then(|| name.clone());
        all.iter().filter_map(of).collect()
    };
    assert_eq!(with("failed"), Vec::<String>::new());
    assert_eq!(code, Some(0));
    assert_eq!(last["passed"], with("passed").len());
    assert!(with("passed").len() > 50, "{last}");
    // What is left out is left out because it is not served.
    for row in &rows {
        let why = row["check"]["why"].as_str().unwrap_or_default();
        let skipped = row["check"]["result"] == "skipped";
        assert!(!skipped || why.ends_with("is not served"), "{row}");
    }
    sandbox.assert_clean().await;
    let mut images = sandbox.images().await;
    let left = images
        .list_images(computedriver::v1::ListImagesRequest::default())
        .await;
    assert_eq!(left.unwrap().into_inner().images, []);
}

#[tokio::test]
async fn what_does_not_hold_is_a_row_and_an_exit_code() {
    let sandbox = Sandbox::start(&[]).await;
    let line = [
        "--image",
        "/nowhere/image.raw",
        "--image-format",
        "raw",
        "--only",
        "HostService",
    ];
    let (rows, code) = conformance(&sandbox, &line).await;
    let (all, last) = results(&rows);
    assert_eq!(code, Some(1));
    assert_eq!(last["failed"], 1, "{last}");
    let spawn = "an instance is made and runs, its progress in order";
    assert_eq!(all[spawn], "failed");
    assert_eq!(all["all that was made is removed"], "passed");
    assert!(!all.contains_key("the screen speaks RFB"));
    sandbox.assert_clean().await;
}
