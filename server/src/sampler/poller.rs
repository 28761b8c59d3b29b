//! The one task that asks, and makes samples of what it hears.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::JoinSet, time::Instant};
use tracing::{debug, warn};

use super::{
    Shared,
    demand::Due,
    entry::{Answer, Entry, Told},
    name::Book,
    question::Questions,
    sample::{Gone, Sample},
};
use crate::{
    host::Host,
    hypervisor::{
        HypervisorError, Link, Result,
        stats::{Groups, HostCounters},
    },
    model::{InstanceId, InstanceRecord, PowerState},
};

/// How long the host's part is waited for. Two hundred guests take some 20 ms; who takes this long is not just slow.
const HOST: Duration = Duration::from_secs(5);
/// How long monitors are waited for at most, however long the interval: a healthy one answers in milliseconds.
const MONITOR: Duration = Duration::from_secs(1);

/// When nobody has wanted a part for this long, a miss of it then says nothing of a miss now. Who asks now and then, as
/// a scraper does, is told since when a guest hangs.
pub(super) const LAPSE: Duration = Duration::from_secs(60);

/// What came of asking the host for all guests.
enum Heard {
    All(Vec<HostCounters>),
    /// Nothing. `away` when nothing is to be expected soon.
    Nothing {
        away: bool,
    },
}

/// Asks, and keeps what is known of guests between samples.
#[derive(Debug)]
pub(super) struct Poller {
    host: Arc<Host>,
    shared: Arc<Shared>,
    sequence: u64,
    last: Option<Instant>,
    /// Since when nobody wants the host's part, and the monitors'.
    idle: [Option<Instant>; 2],
    entries: BTreeMap<InstanceId, Arc<Entry>>,
    gone: Arc<Gone>,
    book: Book,
    questions: Questions,
    /// A question to the host for all guests, when it has not been answered yet: at most one.
    asking: JoinSet<(Groups, Result<Vec<HostCounters>>)>,
}

/// A sample in the making.
#[derive(Clone, Copy)]
struct Tick {
    due: Due,
    sequence: u64,
    time: SystemTime,
    at: Instant,
}

impl Poller {
    pub(super) fn new(host: Arc<Host>, shared: Arc<Shared>) -> Self {
        let questions = Questions::new(host.hypervisor.clone());
        Self {
            host,
            shared,
            sequence: 0,
            last: None,
            idle: [None; 2],
            entries: BTreeMap::new(),
            gone: Arc::default(),
            book: Book::default(),
            questions,
            asking: JoinSet::new(),
        }
    }

    /// Makes samples for whoever listens.
    pub(super) async fn run(mut self) {
        loop {
            let (due, wanted) = {
                let demands = self.shared.demands.lock();
                (demands.due(self.last), demands.wanted())
            };
            self.lapse(wanted);
            let Some(due) = due else {
                self.shared.changed.notified().await;
                continue;
            };
            // Biased: who came or went may change what is due.
            tokio::select! {
                biased;
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep_until(due.at) => self.tick(due).await,
            }
        }
    }

    /// Forgets whose answers were missed before nobody wanted them for long.
    fn lapse(&mut self, wanted: Groups) {
        let now = Instant::now();
        let is_wanted = [!wanted.is_empty(), wanted.intersects(Groups::MONITOR)];
        let mut over = [false; 2];
        for ((idle, is_wanted), over) in self.idle.iter_mut().zip(is_wanted).zip(&mut over) {
            *over = idle.is_some_and(|since| now >= since + LAPSE);
            *idle = (!is_wanted).then(|| idle.unwrap_or(now));
        }
        let mut lapsed = Groups::empty();
        for (over, groups) in over.into_iter().zip([Groups::HOST, Groups::MONITOR]) {
            lapsed.set(groups, over);
        }
        for entry in self.entries.values_mut() {
            if entry.is_missed(lapsed) {
                Arc::make_mut(entry).lapse(lapsed);
            }
        }
    }

    async fn tick(&mut self, due: Due) {
        self.sequence += 1;
        let tick = Tick {
            due,
            sequence: self.sequence,
            time: SystemTime::now(),
            at: Instant::now(),
        };
        self.last = Some(tick.at);
        let records = self.host.store.instances();
        let heard = self.hear(due.host, due.pace).await;
        self.book.learn(&records);
        self.tell(tick, &records, heard);
        self.publish(tick, due.host, false);
        self.shared.figures.lock().host.add(tick.at.elapsed());
        if !due.monitor.is_empty() {
            let begun = Instant::now();
            self.book.learn_disks(&self.host).await;
            self.ask_monitors(tick).await;
            self.publish(tick, due.host | due.monitor, true);
            self.shared.figures.lock().monitor.add(begun.elapsed());
        }
    }

    /// What the host tells of all guests. A question that it has not answered yet is not asked again.
    async fn hear(&mut self, groups: Groups, pace: Duration) -> Heard {
        if *self.host.hypervisor.link().borrow() != Link::Up {
            self.asking.abort_all();
            while self.asking.try_join_next().is_some() {}
            return Heard::Nothing { away: true };
        }
        // An answer that came too late is old, or to another question.
        while self.asking.try_join_next().is_some() {}
        let fresh = self.asking.is_empty();
        if fresh {
            let hypervisor = self.host.hypervisor.clone();
            self.asking
                .spawn(async move { (groups, hypervisor.host_counters(groups).await) });
        }
        // One that is left over has had its time: to wait for it again would slow every batch.
        let limit = if fresh { HOST } else { HOST.min(pace / 2) };
        match tokio::time::timeout(limit, self.asking.join_next()).await {
            Ok(Some(Ok((told, Ok(counters))))) if told.contains(groups) => Heard::All(counters),
            Ok(Some(Ok((_, Err(e))))) => {
                debug!(error = %e, "the host's counters cannot be read");
                let away = matches!(e, HypervisorError::Unavailable { .. });
                Heard::Nothing { away }
            }
            Ok(Some(Ok(_)) | None) => Heard::Nothing { away: false },
            Ok(Some(Err(e))) => {
                warn!(error = %e, "reading the host's counters panicked");
                Heard::Nothing { away: false }
            }
            Err(_) => Heard::Nothing { away: false },
        }
    }

    /// Takes over what the host told, and which instances there are.
    fn tell(&mut self, tick: Tick, records: &[Arc<InstanceRecord>], heard: Heard) {
        let sequence = tick.sequence;
        let mut known = std::mem::take(&mut self.entries);
        let (mut told, heard) = match heard {
            Heard::All(all) => {
                let by_id = all.into_iter().map(|counters| (counters.id, counters));
                (by_id.collect::<BTreeMap<_, _>>(), None)
            }
            Heard::Nothing { away } => (BTreeMap::new(), Some(away)),
        };
        for record in records {
            let id = record.spec.id;
            let mut entry = known.remove(&id).unwrap_or_else(|| {
                Arc::make_mut(&mut self.gone).remove(id);
                Arc::new(Entry::new(id, sequence))
            });
            let next = Arc::make_mut(&mut entry);
            match heard {
                Some(away) => next.untold(tick.time, away, sequence),
                None => match told.remove(&id) {
                    Some(unread) if unread.state == PowerState::Unknown => {
                        next.untold(tick.time, false, sequence);
                    }
                    told => next.told(told.map(|told| self.named(told)), sequence),
                },
            }
            self.entries.insert(id, entry);
        }
        for id in known.into_keys() {
            Arc::make_mut(&mut self.gone).add(id, sequence);
        }
    }

    fn named(&self, mut counters: HostCounters) -> Told {
        let interfaces = std::mem::take(&mut counters.interfaces).into_iter();
        let named = interfaces
            .filter_map(|(mac, seen)| Some((self.book.interface(counters.id, &mac)?, seen)));
        Told {
            interfaces: named.collect(),
            counters,
        }
    }

    async fn ask_monitors(&mut self, tick: Tick) {
        let on = self.entries.values().filter(|entry| entry.is_on());
        let on: Vec<_> = on.map(|entry| entry.id).collect();
        let until = Instant::now() + MONITOR.min(tick.due.pace / 2);
        let asked = self
            .questions
            .ask(on.iter().copied(), tick.due.monitor, until);
        let mut answers = asked.await;
        for id in on {
            let answer = match answers.remove(&id) {
                Some(answer) => Answer::of(answer, |target| self.book.disk(id, target)),
                None => Answer::Missing { hung: false },
            };
            if let Some(entry) = self.entries.get_mut(&id) {
                Arc::make_mut(entry).answered(answer, tick.time, tick.sequence);
            }
        }
    }

    /// Publishes what is known now, to those who want the monitors' part (`dear`) or to the others.
    fn publish(&mut self, tick: Tick, groups: Groups, dear: bool) {
        let sample = Sample::new(
            (tick.sequence, tick.time, tick.at),
            tick.due.pace,
            groups,
            self.entries.values().cloned().collect(),
            self.gone.clone(),
        );
        let mut demands = self.shared.demands.lock();
        demands.served(tick.at, tick.due.pace, groups, dear);
        drop(demands);
        self.shared
            .channel(dear)
            .send_replace(Some(Arc::new(sample)));
    }
}
