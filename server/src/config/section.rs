//! The sections of the configuration, one small struct a concern.

use std::{path::PathBuf, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{
    Listen,
    reader::Reader,
    value::{Raw, Setting, Text, words},
};
use crate::model::Bytes;

/// Which hypervisor runs the guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// libvirt's QEMU driver in our own process.
    Embedded,
    /// A libvirt that runs already, by its address.
    Uri(Text),
}

impl Setting for Connect {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text() {
            Some("embedded") => Ok(Self::Embedded),
            Some(text) if url::Url::parse(text).is_ok() => Ok(Self::Uri(Text(text.to_owned()))),
            _ => Err("must be embedded or an address of libvirt, as qemu:///system".to_owned()),
        }
    }
}

words! {
    /// What guests' code runs on.
    Virt {
        /// KVM when it is usable here, else QEMU's translator.
        Auto = "auto",
        /// KVM, or no guest at all.
        Kvm = "kvm",
        /// QEMU's translator (TCG).
        Qemu = "qemu",
    }
}

words! {
    /// How the disks of instances are kept.
    DiskKind {
        /// A qcow2 overlay on the cached image.
        Qcow2 = "qcow2",
        /// A raw copy of it, shared block by block where the filesystem can.
        Raw = "raw",
    }
}

/// Where images may come from and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// How the disks of instances are kept.
    pub disks: DiskKind,
    /// Whether cached images are converted to raw.
    pub force_raw: bool,
    /// The folders that `file:` images may lie in.
    pub file_dirs: Vec<PathBuf>,
    /// The folders that images of guests may be written to.
    pub export_dirs: Vec<PathBuf>,
    /// How long an image that no disk rests on is kept.
    pub unused_for: Duration,
    /// Whether such images are removed without being asked to.
    pub prune: bool,
    /// The largest image that is fetched.
    pub max: Bytes,
    /// How long a server of images may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long it may send nothing.
    pub idle_timeout: Duration,
}

/// A limit that is no limit is a mistake: it would hang or always fail.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// So that bytes fit 64 bits, signed, with room to add.
const MAX_MIB: u64 = 1 << 40;

impl Images {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let mib = keys.within("images.max_mib", 65_536, 1..=MAX_MIB);
        Self {
            disks: keys.take("images.disks", DiskKind::Qcow2),
            force_raw: keys.take("images.force_raw", true),
            file_dirs: keys.dirs("images.file_dirs", "{state_dir}/import"),
            export_dirs: keys.dirs("images.export_dirs", "{state_dir}/export"),
            unused_for: keys.within(
                "images.unused_for",
                Duration::from_secs(24 * 3600),
                Duration::ZERO..=LONGEST,
            ),
            prune: keys.take("images.prune", true),
            max: mebibytes(mib),
            connect_timeout: keys.within(
                "images.connect_timeout",
                Duration::from_secs(10),
                SHORTEST..=LONGEST,
            ),
            idle_timeout: keys.within(
                "images.idle_timeout",
                Duration::from_secs(60),
                SHORTEST..=LONGEST,
            ),
        }
    }
}

/// Where volumes may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// The folders of files, block devices and sockets that may be attached.
    pub dirs: Vec<PathBuf>,
}

impl Volumes {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        Self {
            dirs: keys.dirs("volumes.dirs", "{state_dir}/volumes"),
        }
    }
}

/// How much of the host may be promised.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Virtual CPUs promised for each processor.
    pub cpu_allocation_ratio: f64,
    /// Memory promised for each byte there is.
    pub ram_allocation_ratio: f64,
    /// Disk promised for each byte there is.
    pub disk_allocation_ratio: f64,
    /// Processors kept for the host.
    pub reserved_host_cpus: u64,
    /// Memory kept for the host, MiB.
    pub reserved_host_memory_mib: u64,
    /// Disk kept for the host, GiB.
    pub reserved_host_disk_gib: u64,
}

impl Resources {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let mut ratio = |key, default| keys.within(key, default, 0.01..=1000.0);
        let (cpu, ram, disk) = (
            ratio("resources.cpu_allocation_ratio", 4.0),
            ratio("resources.ram_allocation_ratio", 1.0),
            ratio("resources.disk_allocation_ratio", 1.0),
        );
        Self {
            cpu_allocation_ratio: cpu,
            ram_allocation_ratio: ram,
            disk_allocation_ratio: disk,
            reserved_host_cpus: keys.take("resources.reserved_host_cpus", 0),
            reserved_host_memory_mib: keys.take("resources.reserved_host_memory_mib", 512),
            reserved_host_disk_gib: keys.take("resources.reserved_host_disk_gib", 0),
        }
    }
}

words! {
    /// Which processor a guest sees.
    CpuMode {
        /// `host-model` under KVM, `maximum` under QEMU's translator.
        Auto = "auto",
        /// The nearest named model, so that a guest can move to a like host.
        HostModel = "host-model",
        /// The host's own.
        HostPassthrough = "host-passthrough",
        /// Everything that the emulator can do.
        Maximum = "maximum",
        /// The model named by `cpu_model`.
        Custom = "custom",
    }
}

words! {
    /// How guests' disks use the host's page cache.
    DiskCache {
        /// Not at all (O_DIRECT).
        None = "none",
        /// For reads and writes; flushes are honoured.
        Writeback = "writeback",
        /// For reads.
        Writethrough = "writethrough",
        /// Not at all, and every write is flushed.
        Directsync = "directsync",
        /// For everything; flushes are ignored.
        Unsafe = "unsafe",
    }
}

/// How guests are built.
#[derive(Clone, Debug, PartialEq)]
pub struct Guests {
    /// Which processor they see.
    pub cpu_mode: CpuMode,
    /// The processor's model, when `cpu_mode` is custom.
    pub cpu_model: Option<String>,
    /// How their disks use the host's page cache.
    pub disk_cache: DiskCache,
    /// Whether they have a screen, reachable by VNC on loopback.
    pub vnc: bool,
    /// PCIe ports left free for devices that are attached later.
    pub spare_pcie_ports: u64,
    /// Memory for translated code under QEMU's translator, MiB; none: QEMU's own default.
    pub tcg_cache_mib: Option<u64>,
    /// The largest console log of a guest, before its older half is dropped.
    pub console_log_max: Bytes,
    /// Whether guests that should run are started when the server finds them off, as after the host restarted.
    pub resume_state_on_host_boot: bool,
    /// How long a guest is asked to switch itself off before its power is cut, where no caller says.
    pub shutdown_timeout: Duration,
    /// How long a rescued instance stays so; none: until it is unrescued.
    pub rescue_timeout: Option<Duration>,
}

impl Guests {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let guests = Self {
            cpu_mode: keys.take("guests.cpu_mode", CpuMode::Auto),
            cpu_model: keys
                .optional("guests.cpu_model", "")
                .map(|Text(model)| model),
            disk_cache: keys.take("guests.disk_cache", DiskCache::Writeback),
            vnc: keys.take("guests.vnc", true),
            // A q35 machine takes at most 32 devices on its root bus, of which a dozen are ours.
            spare_pcie_ports: keys.within("guests.spare_pcie_ports", 4, 0..=16),
            tcg_cache_mib: Some(keys.within("guests.tcg_cache_mib", 0, 0..=16_384))
                .filter(|mib| *mib > 0),
            console_log_max: mebibytes(keys.within("guests.console_log_max_mib", 16, 1..=4096)),
            resume_state_on_host_boot: keys.take("guests.resume_state_on_host_boot", true),
            shutdown_timeout: keys.within(
                "guests.shutdown_timeout",
                Duration::from_secs(60),
                Duration::ZERO..=LONGEST,
            ),
            rescue_timeout: keys.optional("guests.rescue_timeout", "never"),
        };
        match (guests.cpu_mode, &guests.cpu_model) {
            (CpuMode::Custom, None) => keys.refuse(
                "guests.cpu_model",
                "must name a model when guests.cpu_mode is custom",
            ),
            (mode, Some(_)) if mode != CpuMode::Custom => keys.refuse(
                "guests.cpu_model",
                "is honoured only when guests.cpu_mode is custom",
            ),
            _ => {}
        }
        guests
    }
}

/// What callers may have done to the host itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCommands {
    /// The program that restarts the host, and its arguments; empty: not allowed.
    pub reboot: Vec<String>,
    /// The program that stops it, and its arguments; empty: not allowed.
    pub shutdown: Vec<String>,
}

impl HostCommands {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        Self {
            reboot: keys.words("host.reboot_command"),
            shutdown: keys.words("host.shutdown_command"),
        }
    }
}

/// What callers may take of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Calls with one answer that are worked on at once.
    pub calls: usize,
    /// Streams that are open at once.
    pub streams: usize,
    /// The largest message, in either direction.
    pub message: Bytes,
    /// How long an ended operation is remembered, and with it its request id.
    pub operation_retention: Duration,
}

impl Limits {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let mut count =
            |key, default| usize::try_from(keys.within(key, default, 1..=1_000_000)).unwrap_or(1);
        let (calls, streams) = (count("limits.calls", 256), count("limits.streams", 4096));
        Self {
            calls,
            streams,
            message: mebibytes(keys.within("limits.message_mib", 20, 1..=1024)),
            operation_retention: keys.within(
                "limits.operation_retention",
                Duration::from_secs(24 * 3600),
                SHORTEST..=LONGEST,
            ),
        }
    }
}

/// How long what happened can be told again.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// How many events are kept.
    pub retention_count: u64,
    /// How long an event is kept.
    pub retention_age: Duration,
}

impl Events {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        Self {
            // Some 40 MB; a host of a hundred guests that are made and removed once an hour fills it in a week.
            retention_count: keys.within("events.retention_count", 100_000, 1000..=100_000_000),
            retention_age: keys.within(
                "events.retention_age",
                Duration::from_secs(7 * 24 * 3600),
                SHORTEST..=LONGEST,
            ),
        }
    }
}

words! {
    /// How a line of the log looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Which records, in the words of `tracing-subscriber`'s filter.
    pub filter: Text,
    /// How a line looks.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let filter = keys.take("log.filter", Text("info".to_owned()));
        if let Err(e) = EnvFilter::builder().parse(&filter.0) {
            keys.refuse("log.filter", &format!("must be a filter of tracing: {e}"));
        }
        Self {
            filter,
            format: keys.take("log.format", LogFormat::Text),
        }
    }
}

/// The page for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where it is served; none: not at all.
    pub listen: Option<Listen>,
}

impl Metrics {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let listen = keys.optional("metrics.listen", "none");
        if matches!(listen, Some(Listen::Unix(_))) {
            keys.refuse(
                "metrics.listen",
                "must be tcp:ADDRESS:PORT: Prometheus scrapes over TCP",
            );
        }
        Self { listen }
    }
}

/// What is sent to an OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The collector, as `http://127.0.0.1:4317`; none: what OpenTelemetry's own variables say, or nothing.
    pub otlp_endpoint: Option<Text>,
    /// Which part of the traces that begin here is sent.
    pub sample_ratio: f64,
    /// How often metrics are sent, and how long spans and records may wait.
    pub export_interval: Duration,
}

impl Telemetry {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let endpoint: Option<Text> = keys.optional("telemetry.otlp_endpoint", "none");
        let http = |Text(endpoint): &Text| {
            let url = url::Url::parse(endpoint);
            url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        if endpoint.as_ref().is_some_and(|endpoint| !http(endpoint)) {
            let right = "must be the address of a collector, as http://127.0.0.1:4317, or none";
            keys.refuse("telemetry.otlp_endpoint", right);
        }
        Self {
            otlp_endpoint: endpoint,
            sample_ratio: keys.within("telemetry.sample_ratio", 1.0, 0.0..=1.0),
            export_interval: keys.within(
                "telemetry.export_interval",
                Duration::from_secs(10),
                Duration::from_millis(100)..=Duration::from_secs(3600),
            ),
        }
    }
}

/// How guests are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The shortest time between two samples of all guests.
    pub min_interval: Duration,
}

impl Stats {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let second = Duration::from_secs(1);
        Self {
            min_interval: keys.within("stats.min_interval", second, second..=second * 3600),
        }
    }
}

/// How consoles are reached beside the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consoles {
    /// Where the proxy listens; none: there is none.
    pub listen: Option<Listen>,
    /// Where callers are told that it is; none: where it listens.
    pub address: Option<(String, u16)>,
    /// How long a token waits to be used.
    pub token_lifetime: Duration,
}

impl Consoles {
    pub(super) fn read(keys: &mut Reader<'_>) -> Self {
        let listen = keys.optional("console.listen", "none");
        if matches!(listen, Some(Listen::Unix(_))) {
            let right = "must be tcp:ADDRESS:PORT: console proxies connect over TCP";
            keys.refuse("console.listen", right);
        }
        let told: Option<Text> = keys.optional("console.address", "listen");
        let address = told.as_ref().and_then(|Text(told)| place(told));
        if told.is_some() && address.is_none() {
            let right = "must be HOST:PORT, as console.example:6080, or listen";
            keys.refuse("console.address", right);
        }
        if told.is_some() && listen.is_none() {
            let right = "is honoured only when console.listen is set";
            keys.refuse("console.address", right);
        }
        Self {
            listen,
            address,
            // Nova's: a person who asks for a console opens it within minutes.
            token_lifetime: keys.within(
                "console.token_lifetime",
                Duration::from_secs(600),
                Duration::from_secs(1)..=Duration::from_secs(24 * 3600),
            ),
        }
    }
}

/// A host and its port; an IPv6 address stands in brackets.
fn place(text: &str) -> Option<(String, u16)> {
    let url = url::Url::parse(&format!("tcp://{text}")).ok()?;
    let plain = url.path().is_empty() && url.query().is_none() && url.username().is_empty();
    let host = url.host_str().filter(|_| plain)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), url.port()?))
}

fn mebibytes(mib: u64) -> Bytes {
    Bytes::from_mib(mib).unwrap_or(Bytes(u64::MAX))
}
