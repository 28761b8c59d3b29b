//! An honest hypervisor in memory: it keeps guests and their states, and fails when it is told to.
//!
//! For tests, of this crate and of others. It answers as libvirt does: what is done already succeeds, what is absent
//! cannot be started, what is not ours is refused.

mod agent;
mod console;
mod copy;
mod counters;
mod device;
mod fault;
mod guest;
mod mirror;
mod node;
mod overlay;
mod power;
mod save;
mod secret;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::SystemTime,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::{
    agent::Inside,
    console::Socket,
    counters::Counted,
    fault::{Gate, Times},
    guest::FakeGuest,
    secret::KeptSecrets,
};
use self::{
    console::Ends,
    fault::Faults,
    guest::{is_on, taps, wrong_state},
};
use super::{
    Capabilities, GuestInfo, Hearing, Hypervisor, HypervisorError, Link, LiveGuest, News, Result,
    Signal, StartMode, VirtType,
    signals::{Change, Signals},
    stats::{Groups, HostCounters, MonitorCounters},
};
use crate::{
    domain::{Disk, Domain},
    model::{Architecture, Bytes, Event, EventKind, InstanceId, PowerState},
};

/// First VNC port, as QEMU counts them.
const VNC: u16 = 5900;

const BOOTED: Change = Change::new(EventKind::Started, PowerState::Running, "booted");
const PAUSED: Change = Change::new(EventKind::Paused, PowerState::Paused, "paused");
const UNPAUSED: Change = Change::new(EventKind::Resumed, PowerState::Running, "unpaused");
const DESTROYED: Change = Change::new(EventKind::Stopped, PowerState::Shutdown, "destroyed");

/// What happens to a guest without anybody asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The emulator died.
    Crash,
    /// The guest switched itself off.
    PowerOff,
    /// The guest restarted.
    Reboot,
    /// The guest agent came up.
    AgentUp,
    /// The guest agent went away.
    AgentDown,
}

/// The hypervisor in memory.
#[derive(Debug)]
pub struct Fake {
    link: watch::Sender<Link>,
    since: Mutex<SystemTime>,
    guests: Mutex<BTreeMap<InstanceId, FakeGuest>>,
    /// Every definition so far, by its words.
    defined: Mutex<BTreeMap<String, Domain>>,
    /// Guests that do not do what they are asked.
    deaf: Mutex<BTreeSet<InstanceId>>,
    /// Sizes of disks, by their names.
    sizes: Mutex<BTreeMap<(InstanceId, String), Bytes>>,
    /// Mirrors of disks, by their names.
    mirrors: Mutex<BTreeMap<(InstanceId, String), Disk>>,
    secrets: Mutex<KeptSecrets>,
    /// Whether no secret can be kept.
    careless: AtomicBool,
    signals: Signals,
    faults: Faults,
    counted: Counted,
    ends: Ends,
    inside: Mutex<BTreeMap<InstanceId, Inside>>,
}

impl Fake {
    /// One that is up and empty.
    pub fn new() -> Arc<Self> {
        let fake = Self {
            link: watch::Sender::new(Link::Up),
            since: Mutex::new(SystemTime::now()),
            guests: Mutex::default(),
            defined: Mutex::default(),
            deaf: Mutex::default(),
            sizes: Mutex::default(),
            mirrors: Mutex::default(),
            secrets: Mutex::default(),
            careless: AtomicBool::default(),
            signals: Signals::default(),
            faults: Faults::default(),
            counted: Counted::default(),
            ends: Ends::default(),
            inside: Mutex::default(),
        };
        fake.tell_all();
        Arc::new(fake)
    }

    /// Lets the named call of [`Hypervisor`] fail before it has any effect.
    pub fn fail(&self, call: &'static str, times: Times, error: HypervisorError) {
        self.faults.fail(call, times, error);
    }

    /// Lets the named call take its effect and fail nevertheless, as one does that ran into its limit.
    pub fn fail_after(&self, call: &'static str, times: Times, error: HypervisorError) {
        self.faults.fail_after(call, times, error);
    }

    /// Lets no fault happen any more.
    pub fn heal(&self) {
        self.faults.heal();
    }

    /// Holds the named call back, before its effect, until the gate is dropped.
    pub fn hold(&self, call: &'static str) -> Gate {
        self.faults.hold(call)
    }

    /// Calls so far, by name, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        self.faults.calls()
    }

    /// Counts calls anew.
    pub fn forget_calls(&self) {
        self.faults.forget_calls();
    }

    /// All guests, for comparing before with after.
    pub fn snapshot(&self) -> BTreeMap<InstanceId, FakeGuest> {
        self.guests.lock().clone()
    }

    /// Puts a running domain there that is not ours.
    pub fn add_foreign(&self, id: InstanceId) {
        let state = PowerState::Running;
        let guest = FakeGuest {
            domain: None,
            state,
            live: None,
            vcpus: None,
        };
        self.guests.lock().insert(id, guest);
    }

    /// Loses the link; the guests stay.
    pub fn go_down(&self, reason: &str) {
        self.signals.herald.tell(News::Down);
        *self.since.lock() = SystemTime::now();
        self.link.send_replace(Link::Down {
            reason: reason.to_owned(),
        });
    }

    /// Has the link again, and tells what it finds.
    pub fn come_back(&self) {
        *self.since.lock() = SystemTime::now();
        self.link.send_replace(Link::Up);
        self.tell_all();
    }

    /// Lets something happen to a guest while nobody hears of it.
    pub fn set_unheard(&self, id: InstanceId, state: PowerState) {
        let _ = self.ours(id, |held, _| *held = state);
    }

    /// Tells anything about a guest of ours.
    pub fn tell(&self, id: InstanceId, event: Event) {
        self.signals.event(id, event);
    }

    fn tell_all(&self) {
        self.signals.herald.tell(News::Up);
        self.observe_all();
        self.signals.herald.tell(News::Read);
    }

    fn observe_all(&self) {
        let ours = |(_, guest): &(_, FakeGuest)| guest.domain.is_some();
        for (id, guest) in self.snapshot().into_iter().filter(ours) {
            let last = self.signals.watch(id).borrow().clone();
            self.signals.observe(
                id,
                last.generation,
                guest.state,
                Some(last.agent && is_on(guest.state)),
            );
        }
    }

    /// What is counted of guests, for tests to set.
    pub fn counted(&self) -> &Counted {
        &self.counted
    }

    /// Lets something happen to a guest. Nothing happens to one that is absent.
    pub fn emit(&self, id: InstanceId, happening: Happening) {
        let change = match happening {
            Happening::AgentUp => return self.signals.agent(id, true),
            Happening::AgentDown => return self.signals.agent(id, false),
            Happening::Crash => Change::new(EventKind::Crashed, PowerState::Shutdown, "failed"),
            Happening::PowerOff => {
                Change::new(EventKind::Stopped, PowerState::Shutdown, "shutdown")
            }
            Happening::Reboot => Change::new(EventKind::Rebooted, PowerState::Running, "rebooted"),
        };
        if !is_on(change.power) {
            self.ends.close(id);
        }
        if let Ok(()) = self.ours(id, |held, _| *held = change.power) {
            self.signals.change(id, change);
        }
    }

    async fn enter(&self, call: &'static str) -> Result<()> {
        self.faults.enter(call).await?;
        match &*self.link.borrow() {
            Link::Up => Ok(()),
            Link::Connecting => Err(HypervisorError::Unavailable {
                reason: "connecting".to_owned(),
            }),
            Link::Down { reason } => Err(HypervisorError::Unavailable {
                reason: reason.clone(),
            }),
        }
    }

    fn ours<T>(
        &self,
        id: InstanceId,
        look: impl FnOnce(&mut PowerState, &Domain) -> T,
    ) -> Result<T> {
        let mut guests = self.guests.lock();
        let guest = guests.get_mut(&id);
        let guest = guest.ok_or(HypervisorError::NotFound(id))?;
        let domain = guest.domain.as_ref();
        let domain = domain.ok_or(HypervisorError::NotFound(id))?;
        let seen = look(&mut guest.state, domain);
        guest.settle();
        Ok(seen)
    }
}

#[async_trait]
impl Hypervisor for Fake {
    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn link_since(&self) -> SystemTime {
        *self.since.lock()
    }

    async fn capabilities(&self) -> Result<Arc<Capabilities>> {
        self.enter("capabilities").await?;
        let capabilities = Arc::new(Capabilities {
            driver: "FAKE".to_owned(),
            uri: "fake:///".to_owned(),
            libvirt_version: "0.0.0".to_owned(),
            hypervisor_version: "0.0.0".to_owned(),
            emulator: None,
            virt_type: VirtType::Test,
            architecture: Architecture::X86_64,
            machines: vec![
                ("q35".to_owned(), "pc-q35-10.0".to_owned()),
                ("pc".to_owned(), "pc-i440fx-10.0".to_owned()),
            ],
            cpus: 8,
            memory: 16 << 30,
        });
        self.faults.leave("capabilities").map(|()| capabilities)
    }

    async fn define(&self, domain: &Domain) -> Result<()> {
        self.enter("define").await?;
        {
            let mut guests = self.guests.lock();
            let guest = guests.entry(domain.id).or_insert_with(|| FakeGuest {
                domain: Some(domain.clone()),
                state: PowerState::Shutdown,
                live: None,
                vcpus: None,
            });
            let Some(present) = &mut guest.domain else {
                return Err(HypervisorError::Foreign(domain.id));
            };
            domain.clone_into(present);
        }
        self.defined.lock().insert(domain.to_xml(), domain.clone());
        self.signals.keep(domain.id);
        self.faults.leave("define")
    }

    async fn define_again(&self, id: InstanceId, xml: String) -> Result<()> {
        let known = self.defined.lock().get(&xml).cloned();
        match known.filter(|domain| domain.id == id) {
            Some(domain) => self.define(&domain).await,
            None => Err(HypervisorError::Failed {
                call: "define_again",
                message: "the fake reads no XML but its own".to_owned(),
                code: 0,
                domain: 0,
            }),
        }
    }

    async fn start(&self, id: InstanceId, mode: StartMode) -> Result<()> {
        self.enter("start").await?;
        let state = match mode {
            StartMode::Running => PowerState::Running,
            StartMode::Paused => PowerState::Paused,
        };
        let booted = self.ours(id, |held, domain| {
            let off = !is_on(*held);
            if off {
                self.unlock_all(domain)?;
                *held = state;
            }
            Ok(off)
        })??;
        if booted {
            self.signals.change(id, BOOTED);
        }
        if booted && mode == StartMode::Paused {
            self.signals.change(id, PAUSED);
        }
        self.faults.leave("start")
    }

    async fn destroy(&self, id: InstanceId) -> Result<()> {
        self.enter("destroy").await?;
        let was_on = self.ours(id, |held, _| {
            let was_on = is_on(*held) || *held == PowerState::Crashed;
            // What is saved outlives a cut of the power.
            if *held != PowerState::Suspended {
                *held = PowerState::Shutdown;
            }
            was_on
        });
        if matches!(was_on, Ok(true)) {
            self.signals.change(id, DESTROYED);
        }
        self.ends.close(id);
        self.faults.leave("destroy")
    }

    async fn undefine(&self, id: InstanceId) -> Result<()> {
        self.enter("undefine").await?;
        match self.ours(id, |held, _| *held) {
            Ok(state) if is_on(state) => return Err(wrong_state(id, "domain is running")),
            Ok(_) => drop(self.guests.lock().remove(&id)),
            Err(_) => {}
        }
        self.faults.leave("undefine")
    }

    async fn info(&self, id: InstanceId) -> Result<GuestInfo> {
        self.enter("info").await?;
        let found = self.guest(id, |guest| guest.info())?;
        let found = found.ok_or(HypervisorError::NotFound(id))?;
        self.faults.leave("info").map(|()| found)
    }

    async fn infos(&self, ids: Vec<InstanceId>) -> Result<Vec<(InstanceId, GuestInfo)>> {
        self.enter("infos").await?;
        let found = ids.into_iter().filter_map(|id| {
            let found = self.guest(id, |guest| guest.info());
            found.ok().flatten().map(|found| (id, found))
        });
        let found = found.collect();
        self.faults.leave("infos").map(|()| found)
    }

    async fn list(&self) -> Result<Vec<(InstanceId, GuestInfo)>> {
        self.enter("list").await?;
        let all = self.snapshot();
        let ours = all
            .iter()
            .filter_map(|(id, guest)| Some((*id, guest.info()?)));
        let listed = ours.collect();
        self.faults.leave("list").map(|()| listed)
    }

    async fn live(&self, id: InstanceId) -> Result<LiveGuest> {
        self.enter("live").await?;
        let place = self.guests.lock().range(..id).count();
        let port = u16::try_from(place).ok().map(|place| VNC + place);
        let (state, live) = self.ours(id, |held, domain| {
            let vnc_port = port.filter(|_| domain.machine.graphics.is_some());
            let interfaces = taps(domain);
            let live = LiveGuest {
                interfaces,
                vnc_port,
            };
            (*held, live)
        })?;
        if !is_on(state) {
            return Err(wrong_state(id, "domain is not running"));
        }
        self.faults.leave("live").map(|()| live)
    }

    async fn host_counters(&self, groups: Groups) -> Result<Vec<HostCounters>> {
        self.enter("host_counters").await?;
        let ours = self.snapshot().into_iter();
        let ours = ours.filter(|(_, guest)| guest.domain.is_some());
        let counters = ours.map(|(id, guest)| self.counted.host(id, guest.state, groups));
        self.faults
            .leave("host_counters")
            .map(|()| counters.collect())
    }

    async fn host_counters_of(&self, id: InstanceId, groups: Groups) -> Result<HostCounters> {
        self.enter("host_counters_of").await?;
        let state = self.ours(id, |held, _| *held)?;
        let counters = self.counted.host(id, state, groups);
        self.faults.leave("host_counters_of").map(|()| counters)
    }

    async fn monitor_counters(&self, id: InstanceId, groups: Groups) -> Result<MonitorCounters> {
        self.enter("monitor_counters").await?;
        if !is_on(self.ours(id, |held, _| *held)?) {
            return Err(wrong_state(id, "domain is not running"));
        }
        let counters = self.counted.monitor(id, groups).await?;
        self.faults.leave("monitor_counters").map(|()| counters)
    }

    fn signals(&self, id: InstanceId) -> watch::Receiver<Signal> {
        self.signals.watch(id)
    }

    fn forget(&self, id: InstanceId) {
        self.signals.forget(id);
    }

    fn hear(&self) -> Hearing {
        let (hearing, first) = self.signals.herald.hear();
        if !first {
            self.tell_all();
        }
        hearing
    }

    fn reread(&self) {
        self.observe_all();
        self.signals.herald.tell(News::Read);
    }

    async fn settle(&self) -> Result<()> {
        self.enter("settle").await?;
        self.faults.leave("settle")
    }
}

#[cfg(test)]
mod tests;
