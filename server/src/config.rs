//! The settings of the daemon: typed, with a default for each, and every fault told in one answer.
//!
//!   command line  ▷  environment (`COMPUTELET_…`)  ▷  file (TOML)  ▷  default
//!
//! A key is named once, where [`Config`] is read; its variable's name, the list of known keys and the message for an
//! unknown one follow from that. Only `main`, `app`, `doctor` and `telemetry` see it: other parts get the fields they need.

mod fault;
mod layer;
mod listen;
mod reader;
mod section;
mod value;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, path::PathBuf, time::Duration};

pub use fault::{Fault, Faults};
pub use layer::{DEFAULT_FILE, Flag, Layers};
pub use listen::Listen;
pub use section::{
    Connect, Consoles, CpuMode, DiskCache, DiskKind, Events, Guests, HostCommands, Images, Limits,
    Log, LogFormat, Metrics, Resources, Stats, Telemetry, Virt, Volumes,
};

pub use value::Text;

use reader::Reader;

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where everything that must survive a restart is kept; absolute.
    pub state_dir: PathBuf,
    /// Where calls are taken.
    pub listen: Vec<Listen>,
    /// Which hypervisor runs the guests.
    pub connect: Connect,
    /// What guests' code runs on.
    pub virt_type: Virt,
    /// What `GetHostIpAddr` tells; none: the address of the default route's interface.
    pub my_ip: Option<IpAddr>,
    /// How long running operations are waited for when the daemon is asked to stop.
    pub drain_timeout: Duration,
    /// Where images may come from and what becomes of them.
    pub images: Images,
    /// Where volumes may lie.
    pub volumes: Volumes,
    /// How much of the host may be promised.
    pub resources: Resources,
    /// How guests are built.
    pub guests: Guests,
    /// What callers may have done to the host itself.
    pub host: HostCommands,
    /// What callers may take of the daemon.
    pub limits: Limits,
    /// How long what happened can be told again.
    pub events: Events,
    /// What is logged.
    pub log: Log,
    /// The page for Prometheus.
    pub metrics: Metrics,
    /// What is sent to an OpenTelemetry collector.
    pub telemetry: Telemetry,
    /// How guests are measured.
    pub stats: Stats,
    /// How consoles are reached beside the calls.
    pub consoles: Consoles,
}

impl Config {
    /// Reads the settings out of all layers.
    ///
    /// # Errors
    /// Every unknown key and every wrong value, whichever layer it comes from.
    pub fn load(layers: &Layers) -> Result<Self, Faults> {
        let mut reader = Reader::new(layers);
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config)
    }

    fn read(keys: &mut Reader<'_>) -> Self {
        let state_dir = keys.dir("state_dir", "/var/lib/computelet");
        keys.state_dir(state_dir.clone());
        let listen = keys.listen("listen", "unix:{state_dir}/computelet.sock");
        Self {
            state_dir,
            listen,
            connect: keys.take("connect", Connect::Embedded),
            virt_type: keys.take("virt_type", Virt::Auto),
            my_ip: keys.optional("my_ip", "auto"),
            drain_timeout: keys.take("drain_timeout", Duration::from_secs(30)),
            images: Images::read(keys),
            volumes: Volumes::read(keys),
            resources: Resources::read(keys),
            guests: Guests::read(keys),
            host: HostCommands::read(keys),
            limits: Limits::read(keys),
            events: Events::read(keys),
            log: Log::read(keys),
            metrics: Metrics::read(keys),
            telemetry: Telemetry::read(keys),
            stats: Stats::read(keys),
            consoles: Consoles::read(keys),
        }
    }

    /// Every key there is, in the order in which it is read.
    pub fn keys() -> Vec<&'static str> {
        let nothing = Layers::default();
        let mut reader = Reader::new(&nothing);
        Self::read(&mut reader);
        reader.known().to_vec()
    }
}
