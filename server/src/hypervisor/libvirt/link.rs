//! Keeps the link to libvirt: connects, listens, notices the loss, connects again.
//!
//! ```text
//!   Connecting ──▶ Up ──▶ Down ──┐     lost: close callback, keepalive, or a worker's call that failed as such
//!                  ▲             │     and the probe that follows it
//!                  └── back-off ─┘
//! ```
//!
//! One thread. Events are registered before states are read, so that no change falls between; the workers' route is
//! opened last, so that whoever sees `Up` finds everything there.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tracing::{debug, info, warn};
use uuid::Uuid;
use virt::sys;

use super::{
    ConnectTo, LibvirtSettings, capability,
    events::{self, Listener, Registration},
    fault::Fault,
    guest::{self, Owned},
    known::Known,
    lifecycle,
    line::{Conn, Keeper, Route},
    names::Names,
    secret::{self, Keeps},
    worker::Pool,
};
use crate::{
    hypervisor::{
        Capabilities, HypervisorError, Link,
        news::News as Tiding,
        signals::{Change, Signals},
    },
    model::{Event, EventKind, InstanceId, PowerState},
};

/// First wait after a loss: a restarted libvirtd is back within a second.
const BACK_OFF: Duration = Duration::from_millis(200);
/// Longest wait: a host that was without libvirt for hours is served within this once it is back.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// How often workers are looked after.
const TICK: Duration = Duration::from_secs(1);
/// A peer that answers nothing for 5 s, three times, is gone.
const KEEPALIVE: (i32, u32) = (5, 3);

/// What the supervisor thread is told from outside.
#[derive(Debug, Default)]
struct News {
    /// The connection ended; why.
    lost: Option<String>,
    /// A call failed as if the connection had ended.
    suspect: bool,
    /// The thread is to end.
    stop: bool,
}

/// What supervisor, event thread and callers share.
#[derive(Debug)]
pub(super) struct Exchange {
    link: watch::Sender<Link>,
    /// Since when the link is there, or not there.
    since: Mutex<SystemTime>,
    route: Mutex<Option<Route>>,
    capabilities: Mutex<Option<Arc<Capabilities>>>,
    /// Whether the other end keeps secrets; none until it has said so.
    keeps: Mutex<Option<bool>>,
    news: Mutex<News>,
    /// All guests are to be read anew; seen at the next turn, within a second.
    reread: AtomicBool,
    rung: Condvar,
    pub(super) signals: Signals,
    pub(super) owned: Owned,
    pub(super) names: Names,
    pub(super) known: Arc<Known>,
}

impl Exchange {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            link: watch::Sender::new(Link::Connecting),
            since: Mutex::new(SystemTime::now()),
            route: Mutex::default(),
            capabilities: Mutex::default(),
            keeps: Mutex::default(),
            news: Mutex::default(),
            reread: AtomicBool::default(),
            rung: Condvar::new(),
            signals: Signals::default(),
            owned: Owned::default(),
            names: Names::default(),
            known: Arc::default(),
        })
    }

    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) fn since(&self) -> SystemTime {
        *self.since.lock()
    }

    /// Where calls go, or why they cannot.
    pub(super) fn route(&self) -> Result<Route, HypervisorError> {
        self.route.lock().clone().ok_or_else(|| self.unavailable())
    }

    pub(super) fn capabilities(&self) -> Result<Arc<Capabilities>, HypervisorError> {
        if *self.link.borrow() != Link::Up {
            return Err(self.unavailable());
        }
        self.capabilities
            .lock()
            .clone()
            .ok_or_else(|| self.unavailable())
    }

    /// Whether the other end keeps secrets, when it has said so.
    pub(super) fn keeps(&self) -> Option<bool> {
        *self.keeps.lock()
    }

    /// It was asked whether it does.
    pub(super) fn learn_keeps(&self, said: Keeps) {
        *self.keeps.lock() = match said {
            Keeps::Known(known) => Some(known),
            Keeps::NotNow => None,
        };
    }

    /// A call failed as if the connection had ended.
    pub(super) fn suspect(&self) {
        self.news.lock().suspect = true;
        self.rung.notify_all();
    }

    /// Has all guests read anew.
    pub(super) fn reread(&self) {
        self.reread.store(true, Ordering::Release);
        self.rung.notify_all();
    }

    /// Lets the supervisor end.
    pub(super) fn stop(&self) {
        self.news.lock().stop = true;
        self.rung.notify_all();
    }

    fn unavailable(&self) -> HypervisorError {
        let reason = match &*self.link.borrow() {
            Link::Down { reason } => reason.clone(),
            Link::Connecting | Link::Up => "connecting".to_owned(),
        };
        HypervisorError::Unavailable { reason }.public()
    }

    fn lose(&self, reason: &str) {
        self.news
            .lock()
            .lost
            .get_or_insert_with(|| reason.to_owned());
        self.rung.notify_all();
    }

    /// What is said of an earlier connection is not said of the next.
    fn forget_losses(&self) {
        let mut news = self.news.lock();
        news.lost = None;
        news.suspect = false;
    }

    fn publish_down(&self, reason: String) {
        *self.route.lock() = None;
        self.known.clear();
        self.signals.herald.tell(Tiding::Down);
        self.link.send_if_modified(|link| {
            let down = Link::Down { reason };
            let news = *link != down;
            if !matches!(link, Link::Down { .. }) {
                *self.since.lock() = SystemTime::now();
            }
            *link = down;
            news
        });
    }
}

impl Listener for Exchange {
    fn lifecycle(&self, guest: Uuid, event: u32, detail: u32) {
        let id = InstanceId::from(guest);
        self.known.touch(id);
        if event == sys::VIR_DOMAIN_EVENT_UNDEFINED {
            self.owned.forget(id);
            self.names.forget(id);
            self.known.forget(id);
        }
        if let Some(change) = lifecycle::meaning(event, detail) {
            let change = lifecycle::following(self.signals.last(id), change);
            debug!(instance = %id, state = ?change.power, reason = change.word, "guest changed");
            self.signals.change(id, change);
        }
    }

    fn reboot(&self, guest: Uuid) {
        self.changed(guest);
        let change = Change::new(EventKind::Rebooted, PowerState::Running, "rebooted");
        self.signals.change(InstanceId::from(guest), change);
    }

    fn agent(&self, guest: Uuid, open: bool) {
        self.changed(guest);
        self.signals.agent(InstanceId::from(guest), open);
    }

    fn changed(&self, guest: Uuid) {
        self.known.touch(InstanceId::from(guest));
    }

    fn event(&self, guest: Uuid, event: Event) {
        let guest = InstanceId::from(guest);
        self.known.touch(guest);
        self.signals.event(guest, self.names.named(guest, event));
    }

    fn closed(&self, reason: u32) {
        self.lose(match reason {
            sys::VIR_CONNECT_CLOSE_REASON_EOF => "libvirt closed the connection",
            sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "libvirt does not answer",
            _ => "the connection to libvirt broke",
        });
    }
}

/// Starts the supervisor thread. It ends after [`Exchange::stop`].
pub(super) fn supervise(
    exchange: Arc<Exchange>,
    settings: LibvirtSettings,
    uri: Arc<str>,
    pools: Vec<Weak<Pool>>,
) -> std::io::Result<()> {
    let supervisor = Supervisor {
        exchange,
        settings,
        uri,
        pools,
        epoch: 0,
        secrets: None,
    };
    let builder = thread::Builder::new().name("libvirt-link".to_owned());
    builder.spawn(move || supervisor.run()).map(drop)
}

struct Supervisor {
    exchange: Arc<Exchange>,
    settings: LibvirtSettings,
    uri: Arc<str>,
    pools: Vec<Weak<Pool>>,
    epoch: u64,
    /// What keeps secrets beside an embedded driver; opened once, and before that.
    secrets: Option<Keeper>,
}

impl Supervisor {
    fn run(mut self) {
        let mut wait = BACK_OFF;
        loop {
            match self.establish() {
                Ok(established) => {
                    wait = BACK_OFF;
                    info!(uri = %self.uri, "hypervisor is up");
                    let Some(reason) = self.watch(&established.conn) else {
                        return;
                    };
                    warn!(reason, "hypervisor is lost");
                    self.exchange.publish_down(reason);
                }
                Err(fault) => {
                    let reason = reason(fault);
                    debug!(reason, "hypervisor cannot be reached");
                    self.exchange.publish_down(reason);
                }
            }
            if !self.pause(jittered(wait)) {
                return;
            }
            wait = (wait * 2).min(BACK_OFF_MAX);
        }
    }

    fn establish(&mut self) -> Result<Established, Fault> {
        events::start_loop().map_err(|reason| HypervisorError::Unavailable { reason })?;
        self.exchange.forget_losses();
        let embedded = matches!(self.settings.connect, ConnectTo::Embedded { .. });
        if embedded && self.secrets.is_none() {
            self.secrets = secret::beside(&self.uri);
        }
        let conn = Arc::new(Conn::open(&self.uri).map_err(|e| Fault::unreachable(&e))?);
        // Drivers in this process have no wire to keep alive.
        if let Err(e) = conn.get().set_keep_alive(KEEPALIVE.0, KEEPALIVE.1) {
            debug!(error = e.message(), "no keepalive");
        }
        let listener: Arc<dyn Listener> = self.exchange.clone();
        let registration = Registration::new(conn.clone(), &listener)?;
        let capabilities = capability::read(conn.get(), self.settings.virt_type)?;
        // A daemon is asked when that is wanted: it may not be able to tell now.
        *self.exchange.keeps.lock() = embedded.then_some(self.secrets.is_some());
        self.exchange.owned.clear();
        // Whatever may fail for another reason than the link's loss comes before it is told to be there.
        let present = guest::present(conn.get(), &self.exchange.owned)?;
        self.exchange.signals.herald.tell(Tiding::Up);
        self.observe(&conn, present)?;
        // Each connection to the test driver with a file is a world of its own. An embedded driver registers itself with
        // libvirt anew whenever it is opened, which works some twenty times in the life of a process.
        let one = capabilities.driver == "TEST" || embedded;
        let shared = one.then(|| conn.clone());
        self.epoch += 1;
        *self.exchange.capabilities.lock() = Some(Arc::new(capabilities));
        *self.exchange.route.lock() = Some(Route {
            epoch: self.epoch,
            uri: self.uri.clone(),
            shared,
            secrets: self.secrets.clone(),
        });
        *self.exchange.since.lock() = SystemTime::now();
        self.exchange.link.send_replace(Link::Up);
        self.exchange.signals.herald.tell(Tiding::Read);
        Ok(Established {
            _registration: registration,
            conn,
        })
    }

    /// Tells the present state of every guest of ours, and of those that went while nobody looked.
    fn observe(&self, conn: &Conn, present: HashSet<InstanceId>) -> Result<(), Fault> {
        let Exchange {
            owned,
            names,
            signals,
            ..
        } = &*self.exchange;
        for id in signals
            .known()
            .into_iter()
            .filter(|id| !present.contains(id))
        {
            signals.vanish(id);
        }
        for id in present {
            let mut settled = false;
            // An event that comes between the reading and the telling is newer than what was read.
            while !settled {
                let before = signals.watch(id).borrow().generation;
                settled = match guest::observe(conn.get(), (owned, names), id) {
                    Ok((state, agent)) => signals.observe(id, before, state, agent),
                    Err(fault) if fault.is_loss() => return Err(fault),
                    // It went just now, and its events tell; or it cannot be read, and the journal looks for it once more.
                    Err(_) => true,
                };
            }
        }
        Ok(())
    }

    /// Why the connection is lost; none when the thread is to end.
    fn watch(&self, conn: &Conn) -> Option<String> {
        loop {
            let suspect = {
                let mut news = self.exchange.news.lock();
                if !news.stop && news.lost.is_none() && !news.suspect {
                    self.exchange.rung.wait_for(&mut news, TICK);
                }
                if news.stop {
                    return None;
                }
                if let Some(reason) = news.lost.take() {
                    return Some(reason);
                }
                std::mem::take(&mut news.suspect)
            };
            for pool in self.pools.iter().filter_map(Weak::upgrade) {
                pool.tend();
            }
            if suspect && let Some(reason) = probe(conn) {
                return Some(reason);
            }
            if self.exchange.reread.swap(false, Ordering::AcqRel)
                && let Err(fault) = self.read_anew(conn)
            {
                if fault.is_loss() {
                    return Some(reason(fault));
                }
                warn!(reason = reason(fault), "guests cannot be read anew yet");
                // Seen at the next turn.
                self.exchange.reread.store(true, Ordering::Release);
            }
        }
    }

    fn read_anew(&self, conn: &Conn) -> Result<(), Fault> {
        let present = guest::present(conn.get(), &self.exchange.owned)?;
        self.observe(conn, present)?;
        self.exchange.signals.herald.tell(Tiding::Read);
        Ok(())
    }

    /// Whether to go on after the pause.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut news = self.exchange.news.lock();
        while !news.stop && !self.exchange.rung.wait_until(&mut news, until).timed_out() {}
        !news.stop
    }
}

struct Established {
    _registration: Registration,
    conn: Arc<Conn>,
}

/// Why the connection is dead, if it is.
fn probe(conn: &Conn) -> Option<String> {
    match conn.get().is_alive() {
        Ok(true) => {}
        Ok(false) => return Some("the connection to libvirt broke".to_owned()),
        Err(e) => return Some(e.message().to_owned()),
    }
    let asked = conn.get().lib_version().map_err(Fault::from);
    asked.err().filter(Fault::is_loss).map(reason)
}

fn reason(fault: Fault) -> String {
    match fault.into_error("virConnectOpen", None) {
        HypervisorError::Unavailable { reason } => reason,
        e => e.to_string(),
    }
}

/// Between half and all of it, so that many hosts do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let random = InstanceId::random().uuid().as_u128() % 1000;
    let share = u32::try_from(random).unwrap_or_default();
    wait / 2 + wait / 2 * share / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_keeps_within_its_bounds() {
        for _ in 0..100 {
            let wait = jittered(BACK_OFF_MAX);
            assert!(wait >= BACK_OFF_MAX / 2 && wait <= BACK_OFF_MAX, "{wait:?}");
        }
    }
}
