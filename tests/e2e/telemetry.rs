//! What a collector gets: a real one (rotel) over gRPC, and one that accepts and never answers.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Child,
};

use computedriver::v1;
use tonic::Request;

use crate::{
    scrape::get,
    support::{Sandbox, command, finish, free_ports, request, serves, until},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const SECRET: &str = "correct-horse-battery";

/// The collector that `tools/setup tests` put into the tests' Python.
fn agent() -> PathBuf {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/venv/lib");
    let found = fs::read_dir(&lib).into_iter().flatten().flatten();
    let agents = found.map(|python| python.path().join("site-packages/rotel/rotel-agent"));
    let mut agents = agents.filter(|agent| agent.is_file());
    agents
        .next()
        .expect("rotel is there; run `tools/setup tests`")
}

/// A collector that writes down all that it gets.
struct Receiver {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Receiver {
    async fn start() -> Self {
        for _ in 0..5 {
            let mut receiver = Self::try_start();
            if serves(&mut receiver.process, receiver.port).await {
                return receiver;
            }
        }
        panic!("rotel ends at once");
    }

    fn try_start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [port, http] = free_ports();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let out = fs::File::create(file("got")).unwrap();
        let process = command(agent())
            .args(["start", "--exporter", "blackhole"])
            .args([
                "--debug-log",
                "traces",
                "--debug-log",
                "metrics",
                "--debug-log",
                "logs",
            ])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--pid-file", &file("pid"), "--log-file", &file("log")])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .expect("rotel starts");
        Self { process, port, dir }
    }

    fn got(&self) -> String {
        fs::read_to_string(self.dir.path().join("got")).unwrap_or_default()
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.got();
        let blocks = got.split("\nSpan #").skip(1);
        blocks.map(Span::read).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.process.kill().expect("our own child can be killed");
        self.process
            .wait()
            .expect("our own child can be waited for");
    }
}

#[derive(Clone, Debug)]
struct Span {
    trace: String,
    parent: String,
    id: String,
    name: String,
    kind: String,
    attributes: HashMap<String, String>,
}

impl Span {
    fn read(block: &str) -> Self {
        let own = block.split("\nResource").next().unwrap_or_default();
        let field = |name: &str| {
            let line = own.lines().find(|line| line.trim_start().starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let attribute = |line: &str| {
            let (key, value) = line.trim().strip_prefix("-> ")?.split_once(": ")?;
            let value = value.split_once('(')?.1.strip_suffix(')')?;
            Some((key.to_owned(), value.to_owned()))
        };
        Self {
            trace: field("Trace ID"),
            parent: field("Parent ID"),
            id: field("ID "),
            name: field("Name"),
            kind: field("Kind"),
            attributes: own.lines().filter_map(attribute).collect(),
        }
    }
}

fn traced<T>(body: T) -> Request<T> {
    let mut request = Request::new(body);
    let parent = format!("00-{TRACE}-{CALLER}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    request
}

#[tokio::test]
async fn a_spawn_is_one_trace_from_its_caller_down_to_libvirt() {
    let receiver = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint=http://127.0.0.1:{}", receiver.port);
    let mut sandbox =
        Sandbox::start(&["--set", &endpoint, "--set", "telemetry.export_interval=1s"]).await;
    let mut spawn = request();
    spawn.admin_password = SECRET.to_owned();
    spawn.user_data = SECRET.as_bytes().to_vec();
    let stream = sandbox.instances().await.spawn(traced(spawn)).await;
    finish(stream.unwrap().into_inner())
        .await
        .expect("a guest runs");
    // Also what waits for company is sent at the end.
    assert!(sandbox.stop().await.success());
    let call = "computedriver.v1.InstanceService/Spawn";
    let spans = until("the call's span", || async {
        let spans = receiver.spans();
        spans.iter().any(|span| span.name == call).then_some(spans)
    })
    .await;
    let ours: Vec<_> = spans
        .into_iter()
        .filter(|span| span.trace == TRACE)
        .collect();
    let named = |name: &str| {
        let found = ours.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name}: {ours:#?}"))
    };
    let rpc = named(call);
    assert_eq!((&*rpc.parent, &*rpc.kind), (CALLER, "SPAN_KIND_SERVER"));
    assert_eq!(rpc.attributes["rpc.response.status_code"], "OK");
    assert_eq!(rpc.attributes["rpc.system.name"], "grpc");
    let operation = named("SPAWN");
    assert_eq!(operation.parent, rpc.id);
    assert_eq!(operation.attributes["computelet.outcome"], "SUCCEEDED");
    let step = named("start guest");
    assert_eq!(step.parent, operation.id);
    let start = named("virDomainCreateWithFlags");
    assert_eq!(
        (&start.parent, &*start.kind),
        (&step.id, "SPAN_KIND_CLIENT")
    );
    assert!(
        start.attributes.contains_key("computelet.wait_ms"),
        "{start:?}"
    );

    let got = receiver.got();
    for name in [
        "Name: rpc.server.call.duration",
        "Name: computelet.operation.duration",
        "Name: computelet.hypervisor.call.duration",
        "Name: computelet.process.memory.resident",
        "service.name: Str(computelet)",
    ] {
        assert!(got.contains(name), "{name} did not arrive");
    }
    let records = got.split("LogRecord #").skip(1);
    let mut begun = records.filter(|record| record.contains("Str(operation begun)"));
    let begun = begun.next().expect("the operation's begin is in the log");
    assert!(
        begun.contains(&format!("Trace ID       : {TRACE}")),
        "{begun}"
    );
    assert!(!got.contains(SECRET), "a secret left the host");
}

/// Calls that fill what may be filled while the collector hangs: queues of 2048, and a message on its way. Each makes a
/// span and some records.
const FIRST: u64 = 4000;
/// Calls after that. Were they kept, they would take some 2 kB each.
const MORE: u64 = 12_000;
/// What the server may grow by meanwhile; its allocator is not still.
const GROWTH: f64 = 8e6;

#[tokio::test]
async fn a_collector_that_never_answers_costs_what_it_misses_and_nothing_else() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hole.local_addr().unwrap().port();
    // Takes every connection and every byte, and says nothing.
    std::thread::spawn(move || {
        for stream in hole.incoming().flatten() {
            std::thread::spawn(move || swallow(stream));
        }
    });
    let endpoint = format!("telemetry.otlp_endpoint=http://127.0.0.1:{port}");
    let mut sandbox =
        Sandbox::start(&["--set", &endpoint, "--metrics-listen", "tcp:127.0.0.1:0"]).await;
    let page = sandbox.page().await;
    let mut host = sandbox.host().await;
    let mut before = 0.0;
    for call in 0..FIRST + MORE {
        if call == FIRST {
            before = value(page, "computelet_process_memory_resident_bytes").await;
        }
        let answer = host.get_readiness(v1::GetReadinessRequest {}).await;
        answer.expect("calls are answered");
    }
    let dropped = value(
        page,
        "computelet_telemetry_dropped_total{signal=\"traces\"}",
    )
    .await;
    let queued = value(page, "computelet_telemetry_queued{signal=\"traces\"}").await;
    assert!(
        dropped > 0.0 && queued <= 2048.0,
        "{dropped} dropped, {queued} queued"
    );
    let grown = value(page, "computelet_process_memory_resident_bytes").await - before;
    println!("the server grew by {grown} bytes");
    assert!(grown < GROWTH, "the server grew by {grown} bytes");
    // An orderly end does not wait for it either.
    assert!(sandbox.stop().await.success());
}

fn swallow(mut stream: TcpStream) {
    let mut bytes = [0; 65536];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

async fn value(page: u16, series: &str) -> f64 {
    let text = get(page, "/metrics", "text/plain").await;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(series));
    let value = lines.find_map(|rest| rest.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{series} is not in\n{text}"))
}
