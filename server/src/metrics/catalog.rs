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
    /// Events that were written into the journal.
    EVENTS: Counter Counter = "computelet.journal.events", "{event}", ["kind"];
    /// Who watches the journal.
    WATCHERS: Gauge Gauge = "computelet.journal.watchers", "{watcher}", [];
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
    /// Who listens to the sampler of guests.
    SAMPLER_LISTENERS: Gauge = "computelet.sampler.listeners", "{listener}", [];
    /// How often the sampler asked, by whom: the host for all guests, or guests' monitors.
    SAMPLER_ROUNDS: Counter = "computelet.sampler.rounds", "{round}", ["source"];
    /// Time that its asking took.
    SAMPLER_TIME: Counter = "computelet.sampler.time", "s", ["source"];
    /// Guests in its last sample, by whether they could be measured; none once nobody has listened for a minute.
    SAMPLER_GUESTS: Gauge = "computelet.sampler.guests", "{instance}", ["health"];
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

families! {
    /// What the page tells of guests; the only series that are one a guest.
    GUESTS:
    /// An instance, by the names that its owner gave.
    INSTANCE: Info = "computelet.instance", "1", ["instance_id", "name", "flavor"];
    /// Whether the guest's counters are here: 1, or 0 when the host or the guest's monitor did not tell them.
    GUEST_FRESH: Gauge = "computelet.instance.fresh", "{bool}", ["instance_id", "source"];
    /// Always 1, with the power state of the guest.
    GUEST_STATE: Gauge = "computelet.instance.power_state", "{bool}", ["instance_id", "state"];
    /// Processor time of the guest.
    GUEST_CPU: Counter = "computelet.instance.cpu.time", "s", ["instance_id"];
    /// Time that a virtual CPU ran.
    GUEST_VCPU: Counter = "computelet.instance.vcpu.time", "s", ["instance_id", "vcpu"];
    /// Time that a virtual CPU was ready to run and did not.
    GUEST_VCPU_DELAY: Counter = "computelet.instance.vcpu.delay.time", "s", ["instance_id", "vcpu"];
    /// Memory that the guest may grow to.
    GUEST_MEMORY_MAX: Gauge = "computelet.instance.memory.maximum", "By", ["instance_id"];
    /// Memory that the guest has.
    GUEST_MEMORY: Gauge = "computelet.instance.memory.current", "By", ["instance_id"];
    /// Memory that the guest takes of the host.
    GUEST_MEMORY_RESIDENT: Gauge = "computelet.instance.memory.resident", "By", ["instance_id"];
    /// Memory that the guest says it leaves unused.
    GUEST_MEMORY_UNUSED: Gauge = "computelet.instance.memory.unused", "By", ["instance_id"];
    /// Memory that the guest says it could use without swapping.
    GUEST_MEMORY_USABLE: Gauge = "computelet.instance.memory.usable", "By", ["instance_id"];
    /// Bytes that the guest received.
    GUEST_RX: Counter = "computelet.instance.interface.receive", "By", ["instance_id", "interface"];
    /// Packets that the guest received.
    GUEST_RX_PACKETS: Counter = "computelet.instance.interface.receive.packets", "{packet}", ["instance_id", "interface"];
    /// Errors on the way to the guest.
    GUEST_RX_ERRORS: Counter = "computelet.instance.interface.receive.errors", "{error}", ["instance_id", "interface"];
    /// Packets dropped on the way to the guest.
    GUEST_RX_DROPS: Counter = "computelet.instance.interface.receive.drops", "{packet}", ["instance_id", "interface"];
    /// Bytes that the guest sent.
    GUEST_TX: Counter = "computelet.instance.interface.transmit", "By", ["instance_id", "interface"];
    /// Packets that the guest sent.
    GUEST_TX_PACKETS: Counter = "computelet.instance.interface.transmit.packets", "{packet}", ["instance_id", "interface"];
    /// Errors on the way from the guest.
    GUEST_TX_ERRORS: Counter = "computelet.instance.interface.transmit.errors", "{error}", ["instance_id", "interface"];
    /// Packets dropped on the way from the guest.
    GUEST_TX_DROPS: Counter = "computelet.instance.interface.transmit.drops", "{packet}", ["instance_id", "interface"];
    /// Bytes that the guest read.
    GUEST_READ: Counter = "computelet.instance.block.read", "By", ["instance_id", "disk"];
    /// Reads of the guest.
    GUEST_READS: Counter = "computelet.instance.block.reads", "{request}", ["instance_id", "disk"];
    /// Time that reads took.
    GUEST_READ_TIME: Counter = "computelet.instance.block.read.time", "s", ["instance_id", "disk"];
    /// Bytes that the guest wrote.
    GUEST_WRITE: Counter = "computelet.instance.block.written", "By", ["instance_id", "disk"];
    /// Writes of the guest.
    GUEST_WRITES: Counter = "computelet.instance.block.writes", "{request}", ["instance_id", "disk"];
    /// Time that writes took.
    GUEST_WRITE_TIME: Counter = "computelet.instance.block.write.time", "s", ["instance_id", "disk"];
    /// Flushes of the guest.
    GUEST_FLUSHES: Counter = "computelet.instance.block.flushes", "{request}", ["instance_id", "disk"];
    /// Time that flushes took.
    GUEST_FLUSH_TIME: Counter = "computelet.instance.block.flush.time", "s", ["instance_id", "disk"];
    /// Requests of the guest that failed.
    GUEST_BLOCK_ERRORS: Counter = "computelet.instance.block.errors", "{error}", ["instance_id", "disk"];
}
