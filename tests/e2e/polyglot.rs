//! Clients of other languages: Python's grpcio from the protos, and the real grpcurl through reflection.

use std::{path::PathBuf, process::Output};

use crate::support::{Sandbox, command, guest, request};

/// The folder of the test tools that `tools/setup tests` made.
fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/venv/bin")
}

async fn run(program: PathBuf, args: Vec<String>) -> Output {
    let shown = format!("{} {args:?}", program.display());
    let run = move || command(program).args(args).output();
    let output = tokio::task::spawn_blocking(run)
        .await
        .unwrap()
        .unwrap_or_else(|e| panic!("{shown}: {e}; run `tools/setup tests`"));
    println!(
        "{shown}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn listen() -> (String, String) {
    // The port is free now; another program taking it in between would fail the test loudly.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    (
        format!("tcp://127.0.0.1:{port}"),
        format!("127.0.0.1:{port}"),
    )
}

#[tokio::test]
async fn a_python_client_spawns_watches_and_destroys_over_both_sockets() {
    let (listen, address) = listen();
    let dir = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let mut sandbox = Sandbox::start(&[]).await;
    let unix = format!("unix://{}", sandbox.socket().display());
    sandbox
        .relisten(&["--listen", &unix, "--listen", &listen])
        .await;
    let mut args: Vec<String> = ["-m", "grpc_tools.protoc", "-I"]
        .map(str::to_owned)
        .to_vec();
    args.push(format!("{root}/proto"));
    args.push(format!("--python_out={}", dir.path().display()));
    args.push(format!("--grpc_python_out={}", dir.path().display()));
    let protos = std::fs::read_dir(format!("{root}/proto/computedriver/v1"))
        .unwrap()
        .flatten();
    args.extend(
        protos.map(|entry| format!("computedriver/v1/{}", entry.file_name().to_string_lossy())),
    );
    assert!(
        run(tools().join("python"), args).await.status.success(),
        "the protos do not compile for Python"
    );
    for target in [address, unix] {
        let args = vec![
            format!("{root}/tests/e2e/client.py"),
            dir.path().display().to_string(),
            target.clone(),
            guest().join("boot-sector.raw").display().to_string(),
        ];
        let output = run(tools().join("python"), args).await;
        assert!(output.status.success(), "{target}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("RUNNING"),
            "{target}"
        );
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn grpcurl_lists_describes_and_spawns_through_reflection() {
    let (listen, address) = listen();
    let mut sandbox = Sandbox::start(&[]).await;
    let unix = format!("unix://{}", sandbox.socket().display());
    sandbox
        .relisten(&["--listen", &unix, "--listen", &listen])
        .await;
    let call = |args: &[&str]| {
        let mut all = vec!["-plaintext".to_owned()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        run(tools().join("grpcurl"), all)
    };
    let list = call(&[&address, "list"]).await;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for service in ["computedriver.v1.InstanceService", "grpc.health.v1.Health"] {
        assert!(list.contains(service), "{service} is not in {list}");
    }
    let describe = call(&[&address, "describe", "computedriver.v1.SpawnRequest"]).await;
    assert!(String::from_utf8_lossy(&describe.stdout).contains("instance_id"));
    let asked = request();
    let image = asked.image.unwrap();
    let body = serde_json::json!({
        "instance_id": asked.instance_id,
        "flavor": {"vcpus": 1, "memory_mib": 16},
        "image": {"image_id": image.image_id, "location": image.location, "sha256": image.sha256, "format": "DISK_FORMAT_RAW"},
    });
    let body = body.to_string();
    let spawned = call(&[
        "-d",
        &body,
        &address,
        "computedriver.v1.InstanceService/Spawn",
    ])
    .await;
    assert!(spawned.status.success());
    assert!(String::from_utf8_lossy(&spawned.stdout).contains("POWER_STATE_RUNNING"));
    let body = serde_json::json!({"instance_id": asked.instance_id}).to_string();
    let destroyed = call(&[
        "-d",
        &body,
        &address,
        "computedriver.v1.InstanceService/Destroy",
    ])
    .await;
    assert!(destroyed.status.success());
}
