//! What the hypervisor said of each guest by itself: the latest is kept for whoever wants to watch, all of it goes on to
//! the journal, in the order in which it is told here.
//!
//! Shared by the real implementation, whose event thread publishes here, and by the fake. Entries exist for guests that
//! are ours or that somebody asked for, and go with [`Signals::forget`].

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Signal,
    news::{Herald, News},
};
use crate::model::{Event, EventKind, InstanceId, PowerState};

/// A change in a guest's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// What happened.
    pub(crate) kind: EventKind,
    /// The guest's power after it.
    pub(crate) power: PowerState,
    /// Why, in lower case: `booted`.
    pub(crate) word: &'static str,
}

impl Change {
    pub(crate) const fn new(kind: EventKind, power: PowerState, word: &'static str) -> Self {
        Self { kind, power, word }
    }

    /// Whether a run of the guest begins or ends with it.
    fn is_turn(self) -> bool {
        use EventKind::{Crashed, Started, Stopped, Suspended};
        matches!(self.kind, Started | Stopped | Crashed | Suspended)
    }

    fn event(self, id: InstanceId) -> Event {
        Event::of(id, self.kind)
            .power(self.power)
            .because(self.word)
    }
}

/// One watched value per guest, and the journal's queue.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    guests: Mutex<HashMap<InstanceId, watch::Sender<Signal>>>,
    pub(crate) herald: Herald,
}

impl Signals {
    /// The watched value of a guest, made when there is none yet.
    pub(crate) fn watch(&self, id: InstanceId) -> watch::Receiver<Signal> {
        self.guests.lock().entry(id).or_default().subscribe()
    }

    /// Begins to keep what is said of a guest.
    pub(crate) fn keep(&self, id: InstanceId) {
        self.guests.lock().entry(id).or_default();
    }

    /// How often a run of the guest was told to begin or to end; none when nobody keeps it.
    pub(crate) fn turns(&self, id: InstanceId) -> Option<u64> {
        let guests = self.guests.lock();
        guests.get(&id).map(|guest| guest.borrow().turns)
    }

    /// Why the guest's power is what it is, in the words told last.
    pub(crate) fn last(&self, id: InstanceId) -> Option<&'static str> {
        let guests = self.guests.lock();
        guests.get(&id).and_then(|guest| guest.borrow().reason)
    }

    /// Tells a lifecycle event. Nobody's guest is nobody's news.
    pub(crate) fn change(&self, id: InstanceId, change: Change) {
        self.tell(id, change.event(id), |signal| {
            signal.turns += u64::from(change.is_turn());
            signal.state = Some(change.power);
            signal.reason = Some(change.word);
            // The channel's other end goes with the guest; libvirt tells only some of these ends.
            signal.agent &= matches!(change.power, PowerState::Running | PowerState::Paused);
        });
    }

    /// Tells that the agent's channel opened or closed.
    pub(crate) fn agent(&self, id: InstanceId, open: bool) {
        let kind = if open {
            EventKind::AgentConnected
        } else {
            EventKind::AgentDisconnected
        };
        self.tell(id, Event::of(id, kind), |signal| signal.agent = open);
    }

    /// Tells what changes neither power nor agent: only the journal hears of it, and who
    /// waits for a device to go.
    pub(crate) fn event(&self, id: InstanceId, event: Event) {
        let guests = self.guests.lock();
        if let Some(guest) = guests.get(&id) {
            guest.send_if_modified(|signal| match event.kind {
                EventKind::DeviceRemoved => {
                    signal.removals += 1;
                    true
                }
                EventKind::DeviceRemoveFailed => {
                    signal.refusals += 1;
                    true
                }
                _ => false,
            });
            self.herald.tell(News::Event(event));
        }
    }

    /// Tells what was read rather than heard: news only when it differs from what was last told.
    ///
    /// `agent`: whether it is there; none leaves what is known of it.
    /// False, and nothing told, when something was heard since `generation`: that is newer than what was read.
    pub(crate) fn observe(
        &self,
        id: InstanceId,
        generation: u64,
        state: PowerState,
        agent: Option<bool>,
    ) -> bool {
        let mut guests = self.guests.lock();
        let guest = guests.entry(id).or_default();
        let current = guest.borrow().generation == generation;
        guest.send_if_modified(|signal| {
            let on = matches!(state, PowerState::Running | PowerState::Paused);
            let agent = agent.unwrap_or(signal.agent && on);
            let news = current && (signal.state != Some(state) || signal.agent != agent);
            if news {
                signal.generation += 1;
                signal.reason = Some("observed");
                signal.state = Some(state);
                signal.agent = agent;
            }
            news
        });
        if current {
            self.herald.tell(News::Observed {
                guest: id,
                power: state,
                agent,
            });
        }
        current
    }

    /// Tells that a guest that was on is found to be gone.
    pub(crate) fn vanish(&self, id: InstanceId) {
        let guests = self.guests.lock();
        if let Some(guest) = guests.get(&id) {
            self.herald.tell(News::Observed {
                guest: id,
                power: PowerState::NoState,
                agent: Some(false),
            });
            guest.send_if_modified(|signal| {
                let news = signal
                    .state
                    .is_some_and(|state| state != PowerState::Shutdown);
                if news {
                    signal.generation += 1;
                    signal.reason = Some("gone");
                    signal.state = Some(PowerState::Shutdown);
                    signal.agent = false;
                }
                news
            });
        }
    }

    /// The guests that have an entry.
    pub(crate) fn known(&self) -> Vec<InstanceId> {
        self.guests.lock().keys().copied().collect()
    }

    /// Drops a guest's entry; its receivers keep the last value.
    pub(crate) fn forget(&self, id: InstanceId) {
        self.guests.lock().remove(&id);
    }

    fn tell(&self, id: InstanceId, event: Event, change: impl FnOnce(&mut Signal)) {
        let guests = self.guests.lock();
        if let Some(guest) = guests.get(&id) {
            // First, so that whoever sees the signal finds the event on its way.
            self.herald.tell(News::Event(event));
            guest.send_modify(|signal| {
                signal.generation += 1;
                change(signal);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTED: Change = Change::new(EventKind::Started, PowerState::Running, "booted");
    const DESTROYED: Change = Change::new(EventKind::Stopped, PowerState::Shutdown, "destroyed");

    #[test]
    fn every_event_is_news_and_an_observation_only_when_it_differs() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        let watch = signals.watch(id);
        signals.change(id, BOOTED);
        signals.change(id, BOOTED);
        assert_eq!(watch.borrow().generation, 2);
        signals.observe(id, 2, PowerState::Running, Some(false));
        assert_eq!(watch.borrow().generation, 2);
        signals.observe(id, 2, PowerState::Running, Some(true));
        assert_eq!(watch.borrow().generation, 3);
        assert!(watch.borrow().agent);
        signals.observe(id, 3, PowerState::Running, None);
        assert!(watch.borrow().agent, "it was not asked after");
        signals.observe(id, 3, PowerState::Shutdown, None);
        assert!(!watch.borrow().agent);
    }

    #[test]
    fn what_was_heard_since_is_newer_than_what_was_read() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        let watch = signals.watch(id);
        signals.change(id, DESTROYED);
        assert!(!signals.observe(id, 0, PowerState::Running, Some(false)));
        assert_eq!(watch.borrow().state, Some(PowerState::Shutdown));
    }

    #[test]
    fn the_agent_goes_with_the_guest() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        let watch = signals.watch(id);
        signals.change(id, BOOTED);
        signals.agent(id, true);
        signals.change(id, DESTROYED);
        assert!(!watch.borrow().agent);
    }

    #[test]
    fn guests_that_nobody_keeps_leave_no_trace() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        signals.change(id, BOOTED);
        assert_eq!(signals.guests.lock().len(), 0);
        let watch = signals.watch(id);
        signals.forget(id);
        assert_eq!(signals.guests.lock().len(), 0);
        assert_eq!(watch.borrow().state, None);
    }
}
