//! Every metric of the server, by name. `docs/metrics.md` tells the same to people; a test compares the two.

use super::{
    Family, Gauge, Kind, Series,
    instrument::{Bounds, Counter, Histogram, Instrument},
};

/// Ranges for what ends soon: those that OpenTelemetry advises for calls, and finer ones below, where most of ours end.
#[derive(Debug)]
pub struct Soon;

impl Bounds for Soon {
    const SECONDS: &'static [f64] = &[
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
        2.5, 5.0, 10.0,
    ];
}

/// Ranges for work: from a step that only notes something to the fetch of a large image.
#[derive(Debug)]
pub struct Long;

impl Bounds for Long {
    const SECONDS: &'static [f64] = &[
        0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    ];
}

macro_rules! instruments {
    ($(#[doc = $help:literal] $name:ident: $kind:ident $cell:ty = $otel:literal, $unit:literal, [$($label:literal),*];)+) => {
        $(
            #[doc = $help]
            pub static $name: Series<{ <[&str]>::len(&[$($label),*]) }, $cell> = Series::new(Family {
                name: $otel,
                unit: $unit,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help.trim_ascii(),
            });
        )+
        /// What parts count themselves.
        pub static INSTRUMENTS: &[&dyn Instrument] = &[$(&$name),+];
    };
}

macro_rules! families {
    ($(#[doc = $about:literal])* $all:ident: $(#[doc = $help:literal] $name:ident: $kind:ident = $otel:literal, $unit:literal, [$($label:literal),*];)+) => {
        $(
            #[doc = $help]
            pub static $name: Family = Family {
                name: $otel,
                unit: $unit,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help.trim_ascii(),
            };
        )+
        $(#[doc = $about])*
        pub static $all: &[&Family] = &[$(&$name),+];
    };
}

instruments! {
    /// Length of calls, to the end of the answer; streams count when they end.
    CALLS: Histogram Histogram<Soon> = "rpc.server.call.duration", "s", ["rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"];
    /// Calls that are being answered.
    CALLS_ACTIVE: Gauge Gauge = "computelet.rpc.active", "{call}", ["shape"];
    /// Length of operations.
    OPERATIONS: Histogram Histogram<Long> = "computelet.operation.duration", "s", ["verb", "outcome"];
    /// Operations that run.
    OPERATIONS_ACTIVE: Gauge Gauge = "computelet.operation.active", "{operation}", ["verb"];
    /// Length of the phases of operations that ended well.
    PHASES: Histogram Histogram<Long> = "computelet.operation.phase.duration", "s", ["verb", "phase"];
    /// Operations that failed and could not be undone: something is left on this host.
    UNDO_FAILURES: Counter Counter = "computelet.operation.undo.failures", "{operation}", ["verb"];
    /// Length of calls to the hypervisor, without the wait for a worker.
    HYPERVISOR_CALLS: Histogram Histogram<Soon> = "computelet.hypervisor.call.duration", "s", ["call", "outcome"];
    /// Time that calls to the hypervisor waited for a worker.
    POOL_WAIT: Histogram Histogram<Soon> = "computelet.hypervisor.pool.wait.duration", "s", ["pool"];
    /// Calls that wait for a worker.
    POOL_QUEUED: Gauge Gauge = "computelet.hypervisor.pool.queued", "{call}", ["pool"];
    /// Workers that are in a call.
    POOL_RUNNING: Gauge Gauge = "computelet.hypervisor.pool.running", "{worker}", ["pool"];
    /// Workers whose call hangs, and that were replaced.
    POOL_ABANDONED: Gauge Gauge = "computelet.hypervisor.pool.abandoned", "{worker}", ["pool"];
    /// Calls that were refused because too many waited.
    POOL_REJECTIONS: Counter Counter = "computelet.hypervisor.pool.rejections", "{call}", ["pool"];
    /// Images asked of the cache, by whether they were there.
    IMAGE_REQUESTS: Counter Counter = "computelet.image.cache.requests", "{request}", ["result"];
    /// Length of fetches of images, with verification and conversion.
    IMAGE_FETCHES: Histogram Histogram<Long> = "computelet.image.fetch.duration", "s", ["outcome"];
    /// Spans and records that were not sent, because the collector is slow or away.
    TELEMETRY_DROPPED: Counter Counter = "computelet.telemetry.dropped", "{item}", ["signal"];
    /// Spans and records that wait to be sent.
    TELEMETRY_QUEUED: Gauge Gauge = "computelet.telemetry.queued", "{item}", ["signal"];
    /// Messages to the collector.
    TELEMETRY_EXPORTS: Counter Counter = "computelet.telemetry.exports", "{export}", ["signal", "outcome"];
    /// Length of the work for one answer of the metrics page.
    PAGE_SCRAPES: Histogram Histogram<Soon> = "computelet.page.scrape.duration", "s", ["outcome"];
}

families! {
    /// What is looked up when a snapshot is asked for.
    OBSERVED:
    /// The version of the server and of the contract that it speaks.
    BUILD: Info = "computelet.build", "1", ["version", "contract"];
    /// The host and its hypervisor.
    HOST: Info = "computelet.host", "1", ["hostname", "hypervisor_version", "virt_type"];
    /// Whether the hypervisor answers: 1 or 0.
    HYPERVISOR_UP: Gauge = "computelet.hypervisor.up", "{bool}", [];
    /// Instances of this host, by the power state of their guest.
    INSTANCES: Gauge = "computelet.instances", "{instance}", ["state"];
    /// Virtual CPUs that are claimed.
    CLAIMED_VCPUS: Gauge = "computelet.claimed.vcpus", "{vcpu}", [];
    /// Memory that is claimed.
    CLAIMED_MEMORY: Gauge = "computelet.claimed.memory", "By", [];
    /// Disk that is claimed.
    CLAIMED_DISK: Gauge = "computelet.claimed.disk", "By", [];
    /// Virtual CPUs that may be claimed in all.
    CLAIMABLE_VCPUS: Gauge = "computelet.claimable.vcpus", "{vcpu}", [];
    /// Memory that may be claimed in all.
    CLAIMABLE_MEMORY: Gauge = "computelet.claimable.memory", "By", [];
    /// Disk that may be claimed in all.
    CLAIMABLE_DISK: Gauge = "computelet.claimable.disk", "By", [];
    /// What the cached images take on disk.
    IMAGE_CACHE_SIZE: Gauge = "computelet.image.cache.size", "By", [];
    /// Images in the cache.
    IMAGE_CACHE_ENTRIES: Gauge = "computelet.image.cache.entries", "{image}", [];
    /// Processor time of the server; guests are processes of their own.
    PROCESS_CPU: Counter = "computelet.process.cpu.time", "s", [];
    /// Memory of the server that is in RAM.
    PROCESS_MEMORY: Gauge = "computelet.process.memory.resident", "By", [];
    /// Files, sockets and the like that the server has open.
    PROCESS_FILES: Gauge = "computelet.process.open_files", "{file}", [];
    /// How many of them it may have.
    PROCESS_FILES_MAX: Gauge = "computelet.process.open_files.limit", "{file}", [];
    /// Threads of the server.
    PROCESS_THREADS: Gauge = "computelet.process.threads", "{thread}", [];
    /// When the server started, in seconds since 1970.
    PROCESS_START: Gauge = "computelet.process.start_time", "s", [];
}
