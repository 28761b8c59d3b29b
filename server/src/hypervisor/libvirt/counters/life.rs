//! Which start of a guest its counters belong to: told by its emulator, or by libvirt's own number of the start where no
//! emulator can be seen.
//!
//! An emulator may come into sight, or out of it, while the guest runs. What was told of a start first is told of it
//! until its end, or its counters would seem to have begun again at 0.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::model::InstanceId;

/// The starts that guests are known to be in.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<HashMap<InstanceId, Life>>);

#[derive(Clone, Copy, Debug)]
struct Life {
    /// libvirt's number, which a libvirt that began anew may give again.
    run: u32,
    /// The emulator's, once it has been seen.
    seen: Option<u64>,
    told: u64,
}

impl Life {
    fn is(&self, run: u32, seen: Option<u64>) -> bool {
        match (self.seen, seen) {
            (Some(then), Some(now)) => then == now,
            _ => self.run == run,
        }
    }
}

impl Lives {
    /// The number of a guest's present start, by libvirt's number of it and by its emulator.
    pub(super) fn tell(&self, id: InstanceId, run: u32, seen: Option<u64>) -> u64 {
        let mut lives = self.0.lock();
        let known = lives.get(&id).filter(|life| life.is(run, seen));
        let life = Life {
            run,
            seen: seen.or_else(|| known.and_then(|life| life.seen)),
            told: known.map_or_else(|| seen.unwrap_or_else(|| run.into()), |life| life.told),
        };
        lives.insert(id, life);
        life.told
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
    fn an_emulator_that_comes_into_sight_late_is_no_other_start() {
        let (lives, id) = (Lives::default(), InstanceId::random());
        for seen in [None, Some(70), None, Some(70)] {
            assert_eq!(lives.tell(id, 1, seen), 1, "{seen:?}");
        }
        // libvirt began anew and counts from 1 again.
        assert_eq!(lives.tell(id, 1, Some(80)), 80);
        assert_eq!(lives.tell(id, 1, None), 80);
    }

    #[test]
    fn each_start_has_its_own_number() {
        let (lives, id) = (Lives::default(), InstanceId::random());
        assert_eq!(lives.tell(id, 1, Some(70)), 70);
        // It was started anew between libvirt's answer and the look at its emulator.
        assert_eq!(lives.tell(id, 1, Some(80)), 80);
        assert_eq!(lives.tell(id, 2, Some(80)), 80);
        assert_eq!(lives.tell(id, 3, None), 3);
        assert_eq!(lives.tell(id, 3, Some(90)), 3);
        assert_eq!(lives.tell(id, 4, None), 4);
        assert_eq!(lives.tell(InstanceId::random(), 4, Some(95)), 95);
        lives.keep(&HashSet::new());
        assert_eq!(lives.tell(id, 4, Some(99)), 99);
    }
}
