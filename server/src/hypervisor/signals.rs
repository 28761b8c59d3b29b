//! What the hypervisor said of each guest by itself, kept for whoever wants to watch.
//!
//! Shared by the real implementation, whose event thread publishes here, and by the fake. Entries exist for guests that
//! are ours or that somebody asked for, and go with [`Signals::forget`].

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Signal;
use crate::model::{InstanceId, PowerState};

/// One watched value per guest.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    guests: Mutex<HashMap<InstanceId, watch::Sender<Signal>>>,
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

    /// Tells a lifecycle event. Nobody's guest is nobody's news.
    pub(crate) fn state(&self, id: InstanceId, state: PowerState, reason: &'static str) {
        self.tell(id, |signal| {
            signal.state = Some(state);
            signal.reason = Some(reason);
            // The channel's other end goes with the guest; libvirt tells only some of these ends.
            signal.agent &= matches!(state, PowerState::Running | PowerState::Paused);
        });
    }

    /// Tells that the agent's channel opened or closed.
    pub(crate) fn agent(&self, id: InstanceId, open: bool) {
        self.tell(id, |signal| signal.agent = open);
    }

    /// Tells what was read rather than heard: news only when it differs from what was last told.
    ///
    /// False, and nothing told, when something was heard since `generation`: that is newer than what was read.
    pub(crate) fn observe(
        &self,
        id: InstanceId,
        generation: u64,
        state: PowerState,
        agent: bool,
    ) -> bool {
        let mut guests = self.guests.lock();
        let guest = guests.entry(id).or_default();
        let current = guest.borrow().generation == generation;
        guest.send_if_modified(|signal| {
            let news = current && (signal.state != Some(state) || signal.agent != agent);
            if news {
                signal.generation += 1;
                signal.reason = Some("observed");
                signal.state = Some(state);
                signal.agent = agent;
            }
            news
        });
        current
    }

    /// Tells that a guest that was on is found to be gone.
    pub(crate) fn vanish(&self, id: InstanceId) {
        if let Some(guest) = self.guests.lock().get(&id) {
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

    fn tell(&self, id: InstanceId, change: impl FnOnce(&mut Signal)) {
        if let Some(guest) = self.guests.lock().get(&id) {
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

    #[test]
    fn every_event_is_news_and_an_observation_only_when_it_differs() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        let watch = signals.watch(id);
        signals.state(id, PowerState::Running, "booted");
        signals.state(id, PowerState::Running, "booted");
        assert_eq!(watch.borrow().generation, 2);
        signals.observe(id, 2, PowerState::Running, false);
        assert_eq!(watch.borrow().generation, 2);
        signals.observe(id, 2, PowerState::Running, true);
        assert_eq!(watch.borrow().generation, 3);
        assert!(watch.borrow().agent);
    }

    #[test]
    fn what_was_heard_since_is_newer_than_what_was_read() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        let watch = signals.watch(id);
        signals.state(id, PowerState::Shutdown, "destroyed");
        assert!(!signals.observe(id, 0, PowerState::Running, false));
        assert_eq!(watch.borrow().state, Some(PowerState::Shutdown));
    }

    #[test]
    fn the_agent_goes_with_the_guest() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        let watch = signals.watch(id);
        signals.state(id, PowerState::Running, "booted");
        signals.agent(id, true);
        signals.state(id, PowerState::Shutdown, "destroyed");
        assert!(!watch.borrow().agent);
    }

    #[test]
    fn guests_that_nobody_keeps_leave_no_trace() {
        let (signals, id) = (Signals::default(), InstanceId::random());
        signals.state(id, PowerState::Running, "booted");
        assert_eq!(signals.guests.lock().len(), 0);
        let watch = signals.watch(id);
        signals.forget(id);
        assert_eq!(signals.guests.lock().len(), 0);
        assert_eq!(watch.borrow().state, None);
    }
}
