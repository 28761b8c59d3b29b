//! Who writes down what the hypervisor tells: one task, in batches, so that a burst costs few flushes of the disk.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use super::{
    Ask, Inkwell,
    news::{Heard, left, weigh},
};
use crate::{
    hypervisor::{Hearing, Hypervisor, HypervisorError, News},
    model::{Event, EventKind, InstanceId, InstanceState, PowerState},
    store::Store,
};

/// Written in one transaction: some ms of work.
const BATCH: usize = 512;
/// Between two tries to write, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// After a listing that failed.
const REREAD: Duration = Duration::from_secs(1);

/// Writes down what the hypervisor tells.
#[derive(Debug)]
pub struct Scribe {
    store: Store,
    hypervisor: Arc<dyn Hypervisor>,
    asks_rx: mpsc::Receiver<Ask>,
    hearing: Hearing,
    /// Whether the hypervisor can be asked, as last told; none before the first word.
    up: Option<bool>,
    /// The guests read since the hypervisor was up last.
    read: HashSet<InstanceId>,
}

impl Scribe {
    /// The one scribe of a journal. From here on nothing that the hypervisor tells is missed.
    pub fn new(inkwell: Inkwell, store: Store, hypervisor: Arc<dyn Hypervisor>) -> Self {
        Self {
            store,
            hearing: hypervisor.hear(),
            hypervisor,
            asks_rx: inkwell.0,
            up: None,
            read: HashSet::new(),
        }
    }

    /// Writes until it is dropped, or another scribe takes over.
    pub async fn run(mut self) {
        loop {
            // In no order: an ask is answered after all that was heard before it, whichever is seen first.
            let (news, ask) = tokio::select! {
                news = self.hearing.next(BATCH) => (news, None),
                Some(ask) = self.asks_rx.recv() => (self.hearing.take(usize::MAX), Some(ask)),
            };
            if news.is_empty() && ask.is_none() {
                // Another scribe has taken over.
                return;
            }
            let mut flushed = Vec::new();
            let mut heard = self.understand(news).await;
            let mut ask = ask;
            // More asks at the same time share one transaction.
            while let Some(next) = ask.or_else(|| self.asks_rx.try_recv().ok()) {
                let news = self.hearing.take(usize::MAX);
                heard.extend(self.understand(news).await);
                note(next, &mut heard, &mut flushed);
                ask = None;
            }
            // What is missing comes after all that had room.
            if self.hearing.is_empty() && self.hearing.missed() {
                warn!("the hypervisor told more than could be written down");
                heard.push(Heard::Event(
                    Event::of_host(EventKind::EventsMissed).because("overflow"),
                ));
                self.hypervisor.reread();
            }
            self.write(heard).await;
            for done in flushed {
                let _ = done.send(());
            }
        }
    }

    /// What the news are to the journal. Only instances that the store knows are told of.
    async fn understand(&mut self, news: Vec<News>) -> Vec<Heard> {
        let mut heard = Vec::with_capacity(news.len());
        for news in news {
            match news {
                News::Up => heard.extend(self.link(true)),
                News::Down => heard.extend(self.link(false)),
                News::Read => heard.extend(self.missing().await),
                News::Event(event) => heard.push(Heard::Event(event)),
                News::Observed {
                    guest,
                    power,
                    agent,
                } => {
                    self.read.insert(guest);
                    heard.push(Heard::Observed(guest, power, agent));
                }
            }
        }
        let known = |guest: &InstanceId| self.store.instance(*guest).is_some();
        heard.retain(|heard| match heard {
            Heard::Event(event) => event.instance.as_ref().is_none_or(known),
            Heard::Observed(guest, ..) => known(guest),
        });
        heard
    }

    fn link(&mut self, up: bool) -> Option<Heard> {
        let before = self.up.replace(up);
        self.read.clear();
        let (kind, reason) = match (before, up) {
            (None, true) => (EventKind::Reachable, "server started"),
            (Some(false), true) => (EventKind::Reachable, "reconnected"),
            (None, false) => (EventKind::Unreachable, "not connected"),
            (Some(true), false) => (EventKind::Unreachable, "connection lost"),
            (Some(true), true) | (Some(false), false) => return None,
        };
        Some(Heard::Event(Event::of_host(kind).because(reason)))
    }

    /// Instances that should be there, and whose guests were neither read nor are listed.
    async fn missing(&mut self) -> Vec<Heard> {
        let read = std::mem::take(&mut self.read);
        let records = self.store.instances().into_iter();
        let active = records.filter(|record| record.state == InstanceState::Active);
        let unread = active.map(|record| record.spec.id);
        let unread: Vec<_> = unread.filter(|id| !read.contains(id)).collect();
        if unread.is_empty() {
            return Vec::new();
        }
        let listed: HashSet<_> = match self.hypervisor.list().await {
            Ok(listed) => listed.into_iter().map(|(id, _)| id).collect(),
            // The next time it is up, all are read anew.
            Err(HypervisorError::Unavailable { .. }) => return Vec::new(),
            Err(e) => {
                warn!(error = %e, "guests cannot be listed, trying again");
                self.reread_later();
                return Vec::new();
            }
        };
        // One that is being destroyed is told of by that.
        let active = |id: &InstanceId| {
            let record = self.store.instance(*id);
            record.is_some_and(|record| record.state == InstanceState::Active)
        };
        let gone = unread.into_iter().filter(|id| !listed.contains(id));
        gone.filter(active)
            .map(|id| Heard::Observed(id, PowerState::NoState, Some(false)))
            .collect()
    }

    /// Whoever writes does not wait for it.
    fn reread_later(&self) {
        let hypervisor = Arc::downgrade(&self.hypervisor);
        tokio::spawn(async move {
            tokio::time::sleep(REREAD).await;
            if let Some(hypervisor) = hypervisor.upgrade() {
                hypervisor.reread();
            }
        });
    }

    /// Writes until it is written: what is heard once is never told again.
    async fn write(&mut self, mut heard: Vec<Heard>) {
        while !heard.is_empty() {
            let rest = heard.split_off(heard.len().min(BATCH));
            let mut pause = RETRY.0;
            while let Err(e) = self.store.journal(heard.clone(), weigh).await {
                error!(error = %e, "events cannot be written down, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
            debug!(count = heard.len(), "news written down");
            for guest in heard.iter().filter_map(left) {
                if let Err(e) = self.store.leave_off(guest).await {
                    warn!(instance = %guest, error = %e, "that the guest switched itself off is not kept");
                }
            }
            heard = rest;
        }
    }
}

fn note(ask: Ask, heard: &mut Vec<Heard>, flushed: &mut Vec<oneshot::Sender<()>>) {
    match ask {
        Ask::Tell(event) => heard.push(Heard::Event(event)),
        Ask::Flush(done) => flushed.push(done),
    }
}
