//! The one seam between computelet and whatever runs its guests.
//!
//! The trait speaks of guests by [`InstanceId`] and never of the platform's own ids. Every call answers or fails in
//! bounded time. Only guests that carry our mark in their metadata are ever touched: one that does not counts as absent,
//! but for [`Hypervisor::define`], which refuses to write over it.

pub mod agent;
pub mod console;
pub mod copy;
pub mod device;
pub mod fake;
pub mod libvirt;
pub mod mirror;
mod news;
mod node;
pub mod overlay;
pub mod power;
mod public;
pub mod save;
pub mod secret;
mod signals;
pub mod stats;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;

use self::{
    console::Consoles,
    copy::Copying,
    device::Devices,
    mirror::Mirrors,
    overlay::Overlays,
    power::Power,
    save::Save,
    secret::Secrets,
    stats::{Groups, HostCounters, MonitorCounters},
};
use crate::{
    domain::Domain,
    error::{Classify, Details, Kind},
    model::{Architecture, InstanceId, PowerState},
};

pub use self::agent::Agent;
pub use crate::model::VirtType;
pub use news::{Hearing, News};
pub use node::Node;
pub use public::public;

/// Whether the hypervisor can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not yet, for the first time.
    Connecting,
    /// Yes.
    Up,
    /// No longer; it is tried again and again.
    Down {
        /// Why, in the hypervisor's words; for the operator, not for callers.
        reason: String,
    },
}

/// What the hypervisor is and can do, learned when the link came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// libvirt's name of the driver: `QEMU`, `TEST`.
    pub driver: String,
    /// The address it was reached at, without credentials.
    pub uri: String,
    /// libvirt's version, as `11.3.0`.
    pub libvirt_version: String,
    /// The emulator's version, as `10.0.2`.
    pub hypervisor_version: String,
    /// Path of the emulator.
    pub emulator: Option<String>,
    /// What guests will run on.
    pub virt_type: VirtType,
    /// Guests' architecture.
    pub architecture: Architecture,
    /// Canonical machine types by their aliases: `q35` → `pc-q35-10.0`.
    pub machines: Vec<(String, String)>,
    /// Processors that guests may run on.
    pub cpus: u32,
    /// Memory of the host in bytes.
    pub memory: u64,
}

/// How `start` leaves the vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartMode {
    /// Running.
    #[default]
    Running,
    /// Stopped, until [`Power::resume`].
    Paused,
}

/// Nova's InstanceInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestInfo {
    /// Its power state.
    pub state: PowerState,
    /// Memory it may grow to, KiB.
    pub max_mem_kib: u64,
    /// Memory it has, KiB.
    pub mem_kib: u64,
    /// Its virtual CPUs.
    pub num_cpu: u32,
    /// Processor time it has used, ns.
    pub cpu_time_ns: u64,
}

/// What is known of a running guest from its live definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveGuest {
    /// Host names of its taps by MAC address.
    pub interfaces: Vec<(String, String)>,
    /// TCP port of its VNC server on loopback.
    pub vnc_port: Option<u16>,
}

/// What the hypervisor last said of a guest by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// Grows with every change.
    pub generation: u64,
    /// Grows with every start of the guest and with every end of its run.
    pub turns: u64,
    /// Power state after the last lifecycle event; none before the first.
    pub state: Option<PowerState>,
    /// Why, in libvirt's words: `booted`, `destroyed`, `failed`, `shutdown`.
    pub reason: Option<&'static str>,
    /// Whether the guest agent's channel is open at the guest's end.
    pub agent: bool,
    /// Grows with every device that the guest has let go of.
    pub removals: u64,
    /// Grows with every device that the guest would not let go of.
    pub refusals: u64,
}

/// Why the hypervisor did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HypervisorError {
    /// It cannot be asked.
    #[error("the hypervisor cannot be reached: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Too many calls wait already.
    #[error("too many hypervisor calls are waiting")]
    Busy,
    /// The call did not come back in time; it may still take effect.
    #[error("the hypervisor did not answer {call} within {limit:?}")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// It does not know the guest.
    #[error("the hypervisor has no guest {0}")]
    NotFound(InstanceId),
    /// A domain that is not ours has that id or name.
    #[error("a domain that computelet does not own already has the id or the name of {0}")]
    Foreign(InstanceId),
    /// The guest is in the wrong state for it.
    #[error("guest {guest} is in the wrong state: {message}")]
    State {
        /// Which guest.
        guest: InstanceId,
        /// In the hypervisor's words.
        message: String,
    },
    /// No guest agent is connected.
    #[error("guest {0} has no agent that is connected")]
    Agent(InstanceId),
    /// The guest agent cannot do it.
    #[error("the agent of guest {guest} does not know {command}, or may not run it")]
    AgentLacks {
        /// Which guest.
        guest: InstanceId,
        /// The agent's name for it.
        command: &'static str,
    },
    /// The guest agent is there and does not answer; it may still do it.
    #[error("the agent of guest {0} does not answer")]
    AgentTimeout(InstanceId),
    /// The guest agent says no, or what is not its protocol.
    #[error("the agent of guest {guest} failed: {message}")]
    AgentFailed {
        /// Which guest.
        guest: InstanceId,
        /// In the agent's words.
        message: String,
    },
    /// There is no place left to plug a device into.
    #[error("guest {0} has no free slot for another device")]
    Slots(InstanceId),
    /// The emulator cannot open what a disk is to be.
    #[error("the emulator cannot open the volume: {message}")]
    Volume {
        /// In its words.
        message: String,
    },
    /// This hypervisor cannot do it.
    #[error("this hypervisor does not support it: {message}")]
    Unsupported {
        /// In the hypervisor's words.
        message: String,
    },
    /// It failed.
    #[error("the hypervisor failed in {call}: {message}")]
    Failed {
        /// Which call.
        call: &'static str,
        /// In the hypervisor's words.
        message: String,
        /// libvirt's error number.
        code: i32,
        /// libvirt's error domain.
        domain: i32,
    },
}

impl HypervisorError {
    /// The same, fit for a caller: without this host's paths.
    #[must_use]
    pub fn public(mut self) -> Self {
        match &mut self {
            Self::Unavailable { reason: words }
            | Self::State { message: words, .. }
            | Self::Unsupported { message: words }
            | Self::Volume { message: words }
            | Self::Failed { message: words, .. } => *words = public::public(words),
            Self::Busy
            | Self::Timeout { .. }
            | Self::NotFound(_)
            | Self::Foreign(_)
            | Self::Agent(_)
            | Self::AgentLacks { .. }
            | Self::AgentTimeout(_)
            // It speaks of the guest's paths, not of this host's.
            | Self::AgentFailed { .. }
            | Self::Slots(_) => {}
        }
        self
    }
}

impl Classify for HypervisorError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Timeout { .. } | Self::AgentTimeout(_) => Kind::Deadline,
            Self::Volume { message } if public::stays(message) => Kind::Precondition,
            Self::AgentFailed { .. } | Self::Volume { .. } => Kind::Pending,
            Self::Busy | Self::Slots(_) => Kind::Exhausted,
            Self::NotFound(_) => Kind::NotFound,
            Self::Foreign(_) => Kind::Exists,
            Self::State { .. } | Self::Agent(_) | Self::AgentLacks { .. } => Kind::Precondition,
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::Failed { .. } => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "HYPERVISOR_UNAVAILABLE",
            Self::Timeout { .. } => "HYPERVISOR_TIMEOUT",
            Self::Busy => "OVERLOADED",
            Self::NotFound(_) => "INSTANCE_NOT_FOUND",
            Self::Foreign(_) => "INSTANCE_EXISTS",
            Self::State { .. } => "INSTANCE_STATE",
            Self::Agent(_) | Self::AgentLacks { .. } => "GUEST_AGENT_UNAVAILABLE",
            Self::AgentTimeout(_) => "GUEST_AGENT_TIMEOUT",
            Self::AgentFailed { .. } => "GUEST_AGENT_ERROR",
            Self::Slots(_) => "DEVICE_SLOTS",
            Self::Volume { message } if public::stays(message) => "VOLUME_UNUSABLE",
            Self::Volume { .. } => "VOLUME_CONNECT_FAILED",
            Self::Unsupported { .. } => "NOT_SUPPORTED",
            Self::Failed { .. } => "HYPERVISOR_ERROR",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NotFound(id)
            | Self::Foreign(id)
            | Self::Agent(id)
            | Self::AgentTimeout(id)
            | Self::Slots(id) => {
                vec![("instance_id", id.to_string())]
            }
            Self::AgentLacks { guest, command } => vec![
                ("instance_id", guest.to_string()),
                ("agent_command", (*command).to_owned()),
            ],
            Self::AgentFailed { guest, message } => vec![
                ("instance_id", guest.to_string()),
                ("agent_message", message.clone()),
            ],
            Self::State { guest, .. } => vec![("instance_id", guest.to_string())],
            Self::Timeout { call, .. } => vec![("call", (*call).to_owned())],
            Self::Failed {
                call, code, domain, ..
            } => vec![
                ("call", (*call).to_owned()),
                ("libvirt_code", code.to_string()),
                ("libvirt_domain", domain.to_string()),
            ],
            Self::Unavailable { .. }
            | Self::Busy
            | Self::Volume { .. }
            | Self::Unsupported { .. } => Vec::new(),
        }
    }

    fn details(&self) -> Details {
        // Not a timeout: one guest that hangs would be waited for like a hypervisor that is away, for ever.
        let retry = matches!(self, Self::Unavailable { .. } | Self::Busy);
        Details {
            retry_after: retry.then_some(Duration::from_secs(1)),
            ..Details::default()
        }
    }
}

/// What a hypervisor call answers.
pub type Result<T, E = HypervisorError> = std::result::Result<T, E>;

/// The one seam between computelet and whatever runs its guests.
#[async_trait]
pub trait Hypervisor:
    Agent
    + Consoles
    + Copying
    + Devices
    + Mirrors
    + Node
    + Overlays
    + Power
    + Save
    + Secrets
    + Send
    + Sync
    + std::fmt::Debug
    + 'static
{
    /// Whether it can be asked, now and from now on.
    fn link(&self) -> watch::Receiver<Link>;

    /// Since when the link is what it is; for what reason it is down does not matter.
    fn link_since(&self) -> SystemTime;

    /// What it is and can do.
    async fn capabilities(&self) -> Result<Arc<Capabilities>>;

    /// Defines the guest, or redefines one of ours. A domain that is not ours is refused with `Foreign`.
    async fn define(&self, domain: &Domain) -> Result<()>;

    /// Defines the guest by words that [`Domain::to_xml`] said before.
    async fn define_again(&self, id: InstanceId, xml: String) -> Result<()>;

    /// Starts a defined guest; success when it runs already.
    async fn start(&self, id: InstanceId, mode: StartMode) -> Result<()>;

    /// Stops the guest at once, as if its power was cut; success when it is absent or off.
    async fn destroy(&self, id: InstanceId) -> Result<()>;

    /// Forgets the definition of a guest that is off; success when it is absent.
    async fn undefine(&self, id: InstanceId) -> Result<()>;

    /// State and size of one guest.
    async fn info(&self, id: InstanceId) -> Result<GuestInfo>;

    /// The same of some; those that are absent are left out.
    async fn infos(&self, ids: Vec<InstanceId>) -> Result<Vec<(InstanceId, GuestInfo)>>;

    /// State and size of all our guests, in no order.
    async fn list(&self) -> Result<Vec<(InstanceId, GuestInfo)>>;

    /// What its live definition tells.
    async fn live(&self, id: InstanceId) -> Result<LiveGuest>;

    /// Counters that the host itself keeps, of all our guests at once, those that are off included, in no order. Waits for
    /// no guest. Groups that only a monitor knows are left out.
    async fn host_counters(&self, groups: Groups) -> Result<Vec<HostCounters>>;

    /// The same of one guest.
    async fn host_counters_of(&self, id: InstanceId, groups: Groups) -> Result<HostCounters>;

    /// Counters that only the guest's monitor knows. Callers at the same time share an answer. `Busy` when an earlier
    /// question to the same guest has had no answer for long, or where it can be seen that it would not answer this one; `Timeout` when it gives none, `State` when
    /// the guest is off.
    async fn monitor_counters(&self, id: InstanceId, groups: Groups) -> Result<MonitorCounters>;

    /// What the hypervisor says of a guest by itself. The receiver outlives the guest.
    fn signals(&self, id: InstanceId) -> watch::Receiver<Signal>;

    /// Forgets what [`Hypervisor::signals`] keeps of a guest that is gone for good.
    fn forget(&self, id: InstanceId);

    /// All that it tells by itself, in order, for the journal. Whoever asks again takes over, and is told how every guest
    /// stands.
    fn hear(&self) -> Hearing;

    /// Has every guest read anew, and told to the journal.
    fn reread(&self);

    /// Ends emulator processes of ours that a crash left behind outside the hypervisor's knowledge, and waits until the
    /// guests of an earlier life of this process are known again. Called once at start, before anything acts on a guest.
    async fn settle(&self) -> Result<()>;
}
