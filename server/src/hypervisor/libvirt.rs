//! The hypervisor through libvirt: its QEMU driver inside this process, or a libvirt that runs already.
//!
//! ```text
//!   Libvirt ── call ──▶ Pool (cheap · slow · long · monitor · agent) ──▶ worker ── connection ──▶ libvirt
//!      ▲ link, signals                                                                       │
//!      └── supervisor (connects, reconnects) ◀── event thread (one, libvirt's own loop) ◀────────┘
//! ```
//!
//! Five pools, because calls differ in what they wait for: cheap ones for a lock, slow ones for QEMU to start or to go,
//! long ones for a guest's memory to be written or read, those to a guest's monitor for QEMU to turn, and those to its
//! agent for the guest's good will. None may make another kind wait.
//! Each worker has its own connection; one that is in this process is everybody's.
//! A call that runs over its limit goes on by itself; its caller is told that it may still take effect.

mod agent;
mod call;
mod call_watch;
mod capability;
mod console;
mod copy;
mod counters;
mod device;
mod embed;
mod events;
mod fault;
mod ffi;
mod guest;
mod handles;
mod info;
mod known;
mod lifecycle;
mod line;
mod link;
mod mirror;
mod names;
mod node;
mod overlay;
mod power;
mod process;
mod reaper;
mod repoint;
mod save;
mod secret;
mod settings;
mod settle;
mod stray;
mod turn;
mod worker;
mod xml;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;
use virt::connect::Connect;

use self::{
    call::{Call, Kind},
    counters::Counters,
    embed::Root,
    guest::Did,
    link::Exchange,
    reaper::Reaper,
    turn::Turns,
    worker::{Pool, Size},
};
pub use self::{
    embed::OpenError,
    settings::{ConnectTo, LibvirtSettings, VirtChoice},
};
use super::{
    Capabilities, GuestInfo, Hearing, Hypervisor, Link, LiveGuest, Result, Signal, StartMode,
    stats::{Groups, HostCounters, MonitorCounters},
};
use tracing::debug;

use crate::{
    domain::Domain,
    model::{InstanceId, PowerState},
};

/// Cheap calls take microseconds; four threads keep two cores busy, and a call behind a thousand others still
/// answers within a tenth of a second.
const CHEAP: Size = Size {
    workers: 4,
    queue: 1024,
    given_up: GIVEN_UP,
};
/// Each call is some milliseconds of QEMU's and of libvirt's; a host's guests are asked all at once.
const MONITOR: Size = Size {
    workers: 4,
    queue: 1024,
    given_up: GIVEN_UP,
};
/// What waits for a guest's good will is asked seldom; an agent that says nothing keeps its worker for seconds.
const AGENT: Size = Size {
    workers: 4,
    queue: 256,
    given_up: GIVEN_UP,
};
/// In our own process each costs a thread that sleeps, and none of a daemon's.
const AGENT_WORKERS_EMBEDDED: usize = 16;
/// Memory is written as fast as the disk goes; more at a time make each slower and none done earlier.
const LONG: Size = Size {
    workers: 2,
    queue: 64,
    given_up: GIVEN_UP,
};
/// Below libvirtd's own 20 workers, so that it still answers others when all of these hang.
const GIVEN_UP: usize = 8;
/// In our own process a call that hangs costs a thread and nobody's turn.
const GIVEN_UP_EMBEDDED: usize = 64;
/// A start takes half a second: 64 behind four workers wait eight.
const SLOW_QUEUE: usize = 64;

/// An event comes within a millisecond of the call's answer; a loop that is late by more than this is not waited for.
const HEARD: Duration = Duration::from_secs(1);

/// The hypervisor through libvirt.
pub struct Libvirt {
    exchange: Arc<Exchange>,
    cheap: Arc<Pool>,
    slow: Arc<Pool>,
    long: Arc<Pool>,
    monitor: Arc<Pool>,
    agent: Arc<Pool>,
    counters: Arc<Counters>,
    turns: Arc<Turns>,
    call_timeout: Duration,
    monitor_timeout: Duration,
    agent_timeout: Duration,
    root: Option<Root>,
    _reaper: Option<Reaper>,
}

impl Libvirt {
    /// Begins to connect and returns at once; [`Hypervisor::link`] tells when it is up.
    ///
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// When it can never come up: the embedded root is another's, or cannot be made.
    pub fn open(settings: LibvirtSettings) -> Result<Arc<Self>, OpenError> {
        let root = match &settings.connect {
            ConnectTo::Embedded { root } => Some(Root::take(root)?),
            ConnectTo::Uri(_) => None,
        };
        let uri: Arc<str> = match (&root, &settings.connect) {
            (Some(root), _) => root.uri()?.into(),
            (None, ConnectTo::Uri(uri)) => uri.as_str().into(),
            (None, ConnectTo::Embedded { .. }) => unreachable!("an embedded root was taken"),
        };
        let slow = Size {
            workers: settings.workers.max(1),
            queue: SLOW_QUEUE,
            given_up: GIVEN_UP,
        };
        let monitor = Size {
            given_up: root.as_ref().map_or(GIVEN_UP, |_| GIVEN_UP_EMBEDDED),
            ..MONITOR
        };
        let agent = Size {
            workers: root
                .as_ref()
                .map_or(AGENT.workers, |_| AGENT_WORKERS_EMBEDDED),
            ..AGENT
        };
        let pids = match &root {
            Some(root) => Some(settle::status_folder(root.path())),
            None => counters::folder(&uri),
        };
        let exchange = Exchange::new();
        let libvirt = Self {
            cheap: Pool::start("libvirt-cheap", CHEAP)?,
            slow: Pool::start("libvirt-slow", slow)?,
            long: Pool::start("libvirt-long", LONG)?,
            monitor: Pool::start("libvirt-monitor", monitor)?,
            agent: Pool::start("libvirt-agent", agent)?,
            counters: Arc::new(Counters::new(pids)),
            turns: Arc::default(),
            call_timeout: settings.call_timeout,
            monitor_timeout: settings.monitor_timeout,
            agent_timeout: settings.agent_timeout,
            exchange: exchange.clone(),
            _reaper: root.as_ref().map(|_| Reaper::start()).transpose()?,
            root,
        };
        let pools = libvirt.pools().map(Arc::downgrade);
        link::supervise(exchange, settings, uri, pools.into())?;
        Ok(Arc::new(libvirt))
    }

    fn pools(&self) -> [&Arc<Pool>; 5] {
        [
            &self.cheap,
            &self.slow,
            &self.long,
            &self.monitor,
            &self.agent,
        ]
    }

    async fn define_xml(&self, id: InstanceId, xml: String) -> Result<()> {
        let exchange = self.exchange.clone();
        let call = Call::of(Kind::Slow, "virDomainDefineXML", id);
        let define = move |conn: &Connect| guest::define(conn, &exchange.owned, id, &xml);
        self.call(call, define).await?;
        self.exchange.signals.keep(id);
        Ok(())
    }

    /// Waits until libvirt's event of what was done has come, so that it is told before whatever the caller does next.
    async fn heard(&self, id: InstanceId, told: Option<u64>, did: Did) {
        if let (Some(told), Did::Change) = (told, did) {
            let mut signal = self.exchange.signals.watch(id);
            let heard = signal.wait_for(|signal| signal.turns > told);
            if tokio::time::timeout(HEARD, heard).await.is_err() {
                debug!(instance = %id, "libvirt's event has not come yet");
            }
        }
    }

    /// Waits until the guest, which is off, is told to be. It may have gone by itself a moment ago, its event still on
    /// its way; whoever destroyed it forgets it next, and then nothing is told of it.
    async fn seen_off(&self, id: InstanceId, told: Option<u64>) {
        if told.is_none() {
            return;
        }
        let on = [Some(PowerState::Running), Some(PowerState::Paused)];
        let mut signal = self.exchange.signals.watch(id);
        let off = signal.wait_for(|signal| !on.contains(&signal.state));
        if tokio::time::timeout(HEARD, off).await.is_err() {
            let last = signal.borrow().generation;
            let signals = &self.exchange.signals;
            signals.observe(id, last, PowerState::Shutdown, Some(false));
        }
    }
}

impl fmt::Debug for Libvirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libvirt")
            .field("link", &*self.exchange.link().borrow())
            .field("pools", &self.pools())
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        self.exchange.stop();
        for pool in self.pools() {
            pool.close();
        }
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    fn link(&self) -> watch::Receiver<Link> {
        self.exchange.link()
    }

    fn link_since(&self) -> SystemTime {
        self.exchange.since()
    }

    async fn capabilities(&self) -> Result<Arc<Capabilities>> {
        self.exchange.capabilities()
    }

    async fn define(&self, domain: &Domain) -> Result<()> {
        self.define_xml(domain.id, domain.to_xml()).await?;
        self.exchange.names.define(domain);
        Ok(())
    }

    async fn define_again(&self, id: InstanceId, xml: String) -> Result<()> {
        if let Ok(element) = xml::Element::parse(&xml) {
            self.exchange.names.read(id, &element);
        }
        self.define_xml(id, xml).await
    }

    async fn start(&self, id: InstanceId, mode: StartMode) -> Result<()> {
        let call = Call::of(Kind::Slow, "virDomainCreateWithFlags", id);
        let told = self.exchange.signals.turns(id);
        let did = self
            .call(call, move |conn| guest::start(conn, id, mode))
            .await?;
        self.heard(id, told, did).await;
        Ok(())
    }

    async fn destroy(&self, id: InstanceId) -> Result<()> {
        let call = Call::of(Kind::Slow, "virDomainDestroy", id);
        let told = self.exchange.signals.turns(id);
        let did = self
            .call(call, move |conn| guest::destroy(conn, id))
            .await?;
        self.heard(id, told, did).await;
        self.seen_off(id, told).await;
        Ok(())
    }

    async fn undefine(&self, id: InstanceId) -> Result<()> {
        let exchange = self.exchange.clone();
        let call = Call::of(Kind::Slow, "virDomainUndefineFlags", id);
        self.call(call, move |conn| guest::undefine(conn, &exchange.owned, id))
            .await
    }

    async fn info(&self, id: InstanceId) -> Result<GuestInfo> {
        info::of(self, id).await
    }

    async fn infos(&self, ids: Vec<InstanceId>) -> Result<Vec<(InstanceId, GuestInfo)>> {
        info::of_some(self, ids).await
    }

    async fn list(&self) -> Result<Vec<(InstanceId, GuestInfo)>> {
        let exchange = self.exchange.clone();
        let call = Call::plain(Kind::Cheap, "virConnectListAllDomains");
        self.call(call, move |conn| guest::list(conn, &exchange.owned))
            .await
    }

    async fn live(&self, id: InstanceId) -> Result<LiveGuest> {
        let exchange = self.exchange.clone();
        let call = Call::reading(Kind::Cheap, "virDomainGetXMLDesc", id);
        self.call(call, move |conn| guest::live(conn, &exchange.owned, id))
            .await
    }

    async fn host_counters(&self, groups: Groups) -> Result<Vec<HostCounters>> {
        let sweep = self.counters.sweep(self.call_timeout).await?;
        let (exchange, counters) = (self.exchange.clone(), self.counters.clone());
        let call = Call::plain(Kind::Cheap, "virConnectGetAllDomainStats");
        let count = move |conn: &Connect| {
            let _sweep = sweep;
            counters::all(conn, &exchange.owned, &counters, groups)
        };
        self.call(call, count).await
    }

    async fn host_counters_of(&self, id: InstanceId, groups: Groups) -> Result<HostCounters> {
        let (exchange, counters) = (self.exchange.clone(), self.counters.clone());
        let call = Call::reading(Kind::Cheap, "virDomainListGetStats", id);
        let count =
            move |conn: &Connect| counters::one(conn, &exchange.owned, &counters, id, groups);
        self.call(call, count).await
    }

    async fn monitor_counters(&self, id: InstanceId, groups: Groups) -> Result<MonitorCounters> {
        if self.counters.is_unseen(id) {
            self.host_counters_of(id, Groups::empty()).await?;
        }
        let asking = match self.counters.turn(id, groups).await? {
            counters::Turn::Ask(asking) => asking,
            counters::Turn::Answered(counted) => return Ok(counted),
        };
        let (exchange, counters) = (self.exchange.clone(), self.counters.clone());
        let call = Call::reading(Kind::Monitor, "virDomainListGetStats", id);
        let ask = move |conn: &Connect| {
            let counted = counters::ask(conn, &exchange.owned, &counters, id, groups)?;
            asking.answered(groups, &counted);
            Ok(counted)
        };
        self.call(call, ask).await
    }

    fn signals(&self, id: InstanceId) -> watch::Receiver<Signal> {
        self.exchange.signals.watch(id)
    }

    fn forget(&self, id: InstanceId) {
        self.exchange.signals.forget(id);
        self.exchange.known.forget(id);
    }

    fn hear(&self) -> Hearing {
        let (hearing, first) = self.exchange.signals.herald.hear();
        if !first {
            self.exchange.reread();
        }
        hearing
    }

    fn reread(&self) {
        self.exchange.reread();
    }

    async fn settle(&self) -> Result<()> {
        settle::run(self).await
    }
}

#[cfg(test)]
mod tests;
