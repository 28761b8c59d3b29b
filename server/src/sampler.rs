//! Measures guests for everyone who listens. However many they are, the hypervisor is asked once, as often as the most
//! impatient of them wants, for what anyone looks at; while nobody listens it is not asked at all.
//!
//!   due ──▶ ask the host ──▶ sample for who wants no more ──▶ ask monitors ──▶ sample for the others ──▶ due …
//!
//! What the host knows comes at once and waits for no guest. Monitors are asked afterwards, and only when somebody is due
//! who wants it; a guest that does not answer in time is passed over, then told as stale. A listener pulls samples from a
//! watched value: one that does not read costs nothing and slows nobody, and what it is told next is everything that
//! changed since the sample it saw last.

mod demand;
mod entry;
mod name;
mod poller;
mod question;
mod sample;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    entry::{Entry, Health},
    sample::{Base, Batch, Sample, Shape, View},
};

use self::{
    demand::{Demands, Turn},
    poller::{LAPSE, Poller},
};
use crate::{host::Host, hypervisor::stats::Groups};

/// Somebody who wants one sample has no interval; this is longer than any.
const ONCE: Duration = Duration::from_secs(24 * 3600);

/// Measures guests for everyone who listens.
#[derive(Clone, Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    demands: Mutex<Demands>,
    /// Somebody came or left.
    changed: Notify,
    /// Samples without the monitors' part.
    cheap: watch::Sender<Option<Arc<Sample>>>,
    /// Samples with it.
    whole: watch::Sender<Option<Arc<Sample>>>,
    figures: Mutex<Costs>,
    least: Duration,
    ended: CancellationToken,
}

impl Shared {
    fn channel(&self, dear: bool) -> &watch::Sender<Option<Arc<Sample>>> {
        if dear { &self.whole } else { &self.cheap }
    }
}

/// What one listener wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What it looks at.
    pub groups: Groups,
    /// Time between batches.
    pub interval: Duration,
    /// How often a batch holds everything.
    pub full_every: Option<Duration>,
    /// Whether the first batch must be measured after now, not just lately.
    pub fresh: bool,
}

/// What a part of the sampling took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often it was done.
    pub count: u64,
    /// In all.
    pub total: Duration,
    /// The last time.
    pub last: Duration,
}

impl Spent {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
        self.last = took;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    host: Spent,
    monitor: Spent,
}

/// What the sampler does and costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Who listens now.
    pub listeners: usize,
    /// Asking the host for all guests.
    pub host: Spent,
    /// Asking the guests' monitors.
    pub monitor: Spent,
    /// Guests that could be measured in the last sample.
    pub measured: usize,
    /// Guests that were passed over in it.
    pub skipped: usize,
    /// Guests that have not answered for longer.
    pub stale: usize,
}

impl Sampler {
    /// A sampler that takes no interval below `least`. Listeners are told of the end when `ended` is cancelled.
    pub fn new(least: Duration, ended: CancellationToken) -> Self {
        let shared = Shared {
            demands: Mutex::default(),
            changed: Notify::new(),
            cheap: watch::Sender::new(None),
            whole: watch::Sender::new(None),
            figures: Mutex::default(),
            least,
            ended,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Measures `host` until the end. Run it once.
    pub async fn run(self, host: Arc<Host>) {
        let ended = self.shared.ended.clone();
        // In no order: what is in the middle of a sample is no loss.
        tokio::select! {
            () = ended.cancelled() => {}
            () = Poller::new(host, self.shared).run() => {}
        }
    }

    /// Listens, until it is dropped.
    pub fn listen(&self, wish: Wish) -> Listener {
        let now = Instant::now();
        let wanted = if wish.fresh {
            now
        } else {
            now.checked_sub(self.shared.least).unwrap_or(now)
        };
        let interval = wish.interval.max(self.shared.least);
        Listener {
            demand: self.demand(wish.groups, Turn::new(wanted, interval)),
            turn: Turn::new(wanted, interval),
            wish,
            base: None,
            full: None,
        }
    }

    /// One sample with `groups` that is not older than `max_age`; none when the server ends. All who ask at the same time
    /// get the same.
    pub async fn now(&self, groups: Groups, max_age: Duration) -> Option<Arc<Sample>> {
        let now = Instant::now();
        let wanted = now.checked_sub(max_age).unwrap_or(now);
        let turn = Turn::new(wanted, ONCE);
        let mut demand = self.demand(groups, turn);
        demand.next(groups, &turn).await
    }

    /// What the sampler does and costs.
    pub fn figures(&self) -> Figures {
        let costs = *self.shared.figures.lock();
        let mut figures = Figures {
            listeners: self.shared.demands.lock().count(),
            host: costs.host,
            monitor: costs.monitor,
            ..Figures::default()
        };
        let (cheap, whole) = (self.latest(false), self.latest(true));
        let sequence = |sample: &Option<Arc<Sample>>| sample.as_ref().map(|s| s.sequence);
        let sample = if sequence(&whole) >= sequence(&cheap) {
            whole
        } else {
            cheap
        };
        // Of a sample that was the last long ago nothing is said.
        let told = sample.filter(|sample| figures.listeners > 0 || sample.at.elapsed() < LAPSE);
        for entry in told.iter().flat_map(|sample| &sample.entries) {
            match entry.health(Groups::all()) {
                Health::Measured => figures.measured += 1,
                Health::Skipped { .. } => figures.skipped += 1,
                Health::Stale { .. } => figures.stale += 1,
            }
        }
        figures
    }

    fn latest(&self, dear: bool) -> Option<Arc<Sample>> {
        self.shared.channel(dear).borrow().clone()
    }

    fn demand(&self, groups: Groups, turn: Turn) -> Demanded {
        let dear = groups.intersects(Groups::MONITOR);
        let samples = self.shared.channel(dear).subscribe();
        let id = self.shared.demands.lock().add(groups, turn);
        // What is there may do: then no sample is made for this one alone.
        if let Some(sample) = samples.borrow().as_ref() {
            let mut demands = self.shared.demands.lock();
            demands.offer(id, sample.at, sample.pace, sample.groups);
        }
        self.shared.changed.notify_one();
        Demanded {
            id,
            samples,
            shared: self.shared.clone(),
        }
    }
}

/// A demand that stands until it is dropped.
#[derive(Debug)]
struct Demanded {
    id: u64,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    shared: Arc<Shared>,
}

impl Drop for Demanded {
    fn drop(&mut self) {
        self.shared.demands.lock().remove(self.id);
        self.shared.changed.notify_one();
    }
}

impl Demanded {
    /// The latest sample when its turn has come; none when the server ends.
    async fn next(&mut self, groups: Groups, turn: &Turn) -> Option<Arc<Sample>> {
        let fits = |sample: &Option<Arc<Sample>>| {
            sample.as_ref().is_some_and(|sample| {
                sample.groups.contains(groups) && turn.takes(sample.at, sample.pace)
            })
        };
        // Biased: the end is told even while samples are there to be read.
        tokio::select! {
            biased;
            () = self.shared.ended.cancelled() => None,
            sample = self.samples.wait_for(fits) => sample.ok().and_then(|sample| sample.clone()),
        }
    }
}

impl Demanded {
    /// Its listener has taken a sample.
    fn follow(&self, turn: Turn) {
        if self.shared.demands.lock().follow(self.id, turn) {
            self.shared.changed.notify_one();
        }
    }
}

/// Listens to samples. Dropped, it wants nothing more.
#[derive(Debug)]
pub struct Listener {
    demand: Demanded,
    turn: Turn,
    wish: Wish,
    base: Option<Base>,
    full: Option<Instant>,
}

impl Listener {
    /// What it looks at.
    pub fn groups(&self) -> Groups {
        self.wish.groups
    }

    /// The next batch, made of the latest sample; none when the server ends.
    ///
    /// # Cancel safety
    /// A batch that is not returned is not counted as seen.
    pub async fn next(&mut self) -> Option<Batch> {
        let sample = self.demand.next(self.wish.groups, &self.turn).await?;
        self.turn.advance(sample.at, sample.pace);
        // The tick nearest to the wished time: one a moment early would otherwise put it off by a whole pace.
        let soon = sample.at + sample.pace / 2;
        let again = |full: Instant| {
            self.wish
                .full_every
                .is_some_and(|every| soon >= full + every)
        };
        let batch = Batch::new(sample.clone(), self.base, self.full.is_none_or(again));
        if batch.is_full() {
            self.full = Some(sample.at);
        }
        self.base = Some(sample.base());
        self.demand.follow(self.turn);
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
