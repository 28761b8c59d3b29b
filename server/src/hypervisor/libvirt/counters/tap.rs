//! Which interface a tap belongs to: the bulk call names taps, callers know MAC addresses.
//!
//! A live definition costs as much as all other counters of a guest, so what it says is kept for as long as the guest
//! runs, and read again when a tap comes up that it did not name. Our taps are named after their interface.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::model::InstanceId;

/// MAC addresses by taps.
pub(super) type Macs = HashMap<String, String>;

/// What is known of guests' taps.
#[derive(Debug, Default)]
pub(super) struct Taps(Mutex<HashMap<InstanceId, (u64, Arc<Macs>)>>);

impl Taps {
    /// Those of a guest, in this life of it, if all of `taps` are known.
    pub(super) fn known<'a>(
        &self,
        id: InstanceId,
        life: u64,
        mut taps: impl Iterator<Item = &'a str>,
    ) -> Option<Arc<Macs>> {
        let macs = match self.0.lock().get(&id) {
            Some((then, macs)) if *then == life => macs.clone(),
            _ => return None,
        };
        taps.all(|tap| macs.contains_key(tap)).then_some(macs)
    }

    /// Remembers what the live definition says.
    pub(super) fn learn(&self, id: InstanceId, life: u64, macs: Macs) -> Arc<Macs> {
        let macs = Arc::new(macs);
        self.0.lock().insert(id, (life, macs.clone()));
        macs
    }

    /// Forgets all guests but these.
    pub(super) fn keep(&self, present: &HashSet<InstanceId>) {
        self.0.lock().retain(|id, _| present.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_known_for_one_life_and_until_another_comes_up() {
        let (taps, id) = (Taps::default(), InstanceId::random());
        let asked = |life, names: &[&str]| taps.known(id, life, names.iter().copied()).is_some();
        assert!(!asked(1, &[]));
        taps.learn(id, 1, Macs::from([("tap0".to_owned(), "mac".to_owned())]));
        assert!(asked(1, &["tap0"]));
        assert!(!asked(1, &["tap0", "tap1"]));
        assert!(!asked(2, &["tap0"]));
        taps.keep(&HashSet::new());
        assert!(!asked(1, &["tap0"]));
    }
}
