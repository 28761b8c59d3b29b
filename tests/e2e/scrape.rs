//! The page for Prometheus, read by the real Prometheus and judged by its promtool.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Sandbox, command, free_ports, request, serves, until};

/// Answers in a row before the test is content: a minute of one each second.
const SCRAPES: usize = 60;

/// A program of the distribution's Prometheus, that `tools/setup tests` unpacked.
fn tool(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(".cache/prometheus/usr/bin").join(name)
}

/// The body of an answer.
pub async fn get(port: u16, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    body.to_owned()
}

fn promtool(args: &[&str], input: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in");
    fs::write(&file, input).unwrap();
    let checked = command(tool("promtool"))
        .args(args)
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .expect("promtool runs; `tools/setup tests` unpacks it");
    let said = String::from_utf8_lossy(&checked.stderr);
    let said = format!("{}{said}", String::from_utf8_lossy(&checked.stdout));
    assert!(checked.status.success(), "{said}\n{input}");
    assert!(!said.contains("should"), "{said}");
}

#[tokio::test]
async fn promtool_finds_no_fault_in_the_page_and_each_text_tells_the_same() {
    let sandbox = Sandbox::start(&["--metrics-listen", "tcp:127.0.0.1:0"]).await;
    sandbox.spawn(request()).await.expect("a guest runs");
    let port = sandbox.page().await;
    // The page tells of itself from its second answer on.
    get(port, "/metrics", "text/plain").await;
    let text = get(port, "/metrics", "text/plain").await;
    promtool(&["check", "metrics"], &text);
    for line in [
        "computelet_hypervisor_up 1",
        "computelet_instances{state=\"RUNNING\"} 1",
        "computelet_operation_duration_seconds_count{verb=\"SPAWN\",outcome=\"SUCCEEDED\"} 1",
        "computelet_image_cache_requests_total{result=\"miss\"} 1",
        "computelet_journal_events_total{kind=\"CREATED\"} 1",
        "computelet_journal_events_total{kind=\"IO_ERROR\"} 0",
        "computelet_journal_watchers 0",
        "computelet_operation_undo_failures_total{verb=\"DESTROY\"} 0",
        "computelet_operation_duration_seconds_count{verb=\"PULL_IMAGE\",outcome=\"FAILED\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let calls = "rpc_server_call_duration_seconds_count{rpc_system_name=\"grpc\",rpc_method=\"computedriver.v1.InstanceService/Spawn\",rpc_response_status_code=\"OK\"} 1";
    assert!(text.contains(calls), "{text}");
    let open = get(port, "/metrics", "application/openmetrics-text").await;
    let names = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let names = samples.filter_map(|line| line.split(['{', ' ']).next());
        names
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert_eq!(names(&text), names(&open));
}

#[tokio::test]
async fn a_guest_that_hangs_shows_as_stale_and_stalls_no_page() {
    let sandbox = Sandbox::start(&["--metrics-listen", "tcp:127.0.0.1:0"]).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (guest, _) = sandbox.spawn(request()).await.expect("a guest runs");
        ids.push(guest.instance_id);
    }
    let port = sandbox.page().await;
    let series =
        |family: &str, id: &str| format!("computelet_instance_{family}{{instance_id=\"{id}\"");
    let fresh = |id: &str, word: u8| format!("{},source=\"monitor\"}} {word}", series("fresh", id));
    until("both guests' disks", || async {
        let page = get(port, "/metrics", "text/plain").await;
        let all = ids
            .iter()
            .all(|id| page.contains(&series("block_read_bytes_total", id)));
        all.then_some(())
    })
    .await;
    let page = get(port, "/metrics", "text/plain").await;
    promtool(&["check", "metrics"], &page);
    for family in ["info", "cpu_time_seconds_total", "memory_resident_bytes"] {
        assert!(page.contains(&series(family, &ids[0])), "{family}\n{page}");
    }
    let stopped = sandbox.emulators().into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&ids[0])
    });
    let pid = stopped.expect("its emulator runs").to_string();
    assert!(
        command("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    let page = until("the guest to be stale", || async {
        let page = get(port, "/metrics", "text/plain").await;
        (page.contains(&fresh(&ids[0], 0)) && page.contains(&fresh(&ids[1], 1))).then_some(page)
    })
    .await;
    assert!(
        !page.contains(&series("block_read_bytes_total", &ids[0])),
        "{page}"
    );
    assert!(
        page.contains(&series("block_read_bytes_total", &ids[1])),
        "{page}"
    );
    assert!(
        command("kill")
            .args(["-CONT", &pid])
            .status()
            .unwrap()
            .success()
    );
    until("the guest to answer again", || async {
        let page = get(port, "/metrics", "text/plain").await;
        page.contains(&fresh(&ids[0], 1)).then_some(())
    })
    .await;
}

#[test]
fn promtool_finds_no_fault_in_the_alerts() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prometheus/alerts.yml");
    promtool(&["check", "rules", &rules.display().to_string()], "");
}

#[test]
fn the_first_failure_alerts() {
    let told = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/alerts.yml");
    promtool(&["test", "rules", &told.display().to_string()], "");
}

/// A Prometheus of the test's own.
struct Prometheus {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    async fn start(page: u16) -> Self {
        for _ in 0..5 {
            let mut prometheus = Self::try_start(page);
            if serves(&mut prometheus.process, prometheus.port).await {
                return prometheus;
            }
        }
        panic!("prometheus ends at once");
    }

    fn try_start(page: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("prometheus.yml");
        let scrape = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: computelet, static_configs: [{{targets: ['127.0.0.1:{page}']}}]}}]\n"
        );
        fs::write(&config, scrape).unwrap();
        let [port] = free_ports();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = command(tool("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus runs; `tools/setup tests` unpacks it");
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// The values that a query yields, as numbers; none while it answers nothing.
    async fn query(&self, query: &str) -> Vec<f64> {
        let path = format!("/api/v1/query?query={query}");
        let body = get(self.port, &path, "*/*").await;
        let body = &body[body.find('{').unwrap_or(0)..=body.rfind('}').unwrap_or(0)];
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        let results = answer["data"]["result"].as_array().cloned();
        let number = |result: &Value| result["value"][1].as_str()?.parse().ok();
        results
            .unwrap_or_default()
            .iter()
            .filter_map(number)
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().expect("our own child can be killed");
        self.process
            .wait()
            .expect("our own child can be waited for");
    }
}

#[tokio::test]
async fn prometheus_scrapes_the_page_without_a_gap() {
    let sandbox = Sandbox::start(&["--metrics-listen", "tcp:127.0.0.1:0"]).await;
    let prometheus = Prometheus::start(sandbox.page().await).await;
    until("enough scrapes", || async {
        let scrapes = prometheus.query("count_over_time(up[10m])").await;
        scrapes
            .first()
            .filter(|count| **count >= SCRAPES as f64)
            .map(drop)
    })
    .await;
    // The first scrape that succeeded is the first there was.
    assert_eq!(prometheus.query("min_over_time(up[10m])").await, [1.0]);
    assert_eq!(prometheus.query("computelet_hypervisor_up").await, [1.0]);
    let samples = prometheus
        .query("min_over_time(scrape_samples_scraped[10m])")
        .await;
    assert!(samples[0] > 50.0, "{samples:?}");
}
