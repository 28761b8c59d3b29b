//! What was last read of each guest that runs, so that it is not read again while nothing happens to it.
//!
//! ```text
//!   begin ── a number ──▶ libvirt is asked ──▶ keep, if the guest still has that number
//!   event · a call of ours begins, ends · link lost ──▶ the guest gets another number, what was kept of it is gone
//! ```
//!
//! So nothing is kept of a reading beside which something happened. Only guests whose emulator can be seen are kept, with
//! the emulator that was seen *before* libvirt was asked: whoever takes a reading looks whether that one still lives, so
//! that the end of a run is seen whether or not it was told yet.
//!
//! What is true here is as late as libvirt's events, about a millisecond, when others change a guest. And some changes
//! libvirt tells nobody, as another's of the number of processors: a reading also ages.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{hypervisor::GuestInfo, model::InstanceId};

/// How old a change that libvirt tells nobody may get before it is seen.
const FRESH: Duration = Duration::from_secs(1);

/// The last readings of guests.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Guests>);

#[derive(Debug, Default)]
struct Guests {
    /// The last number that was given; never given twice.
    last: u64,
    all: HashMap<InstanceId, Guest>,
}

#[derive(Debug)]
struct Guest {
    number: u64,
    reading: Option<Reading>,
}

/// What was read of a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// As libvirt told it.
    pub(super) info: GuestInfo,
    /// The emulator that ran before it was asked.
    pub(super) life: u64,
    /// When it was asked.
    begun: Instant,
}

/// A reading that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    number: u64,
    at: Instant,
}

impl Guests {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Known {
    /// To be called before libvirt is asked.
    pub(super) fn begin(&self, id: InstanceId) -> Begun {
        let guests = &mut *self.0.lock();
        let number = match guests.all.get(&id) {
            Some(guest) => guest.number,
            None => {
                let (number, reading) = (guests.number(), None);
                guests.all.insert(id, Guest { number, reading });
                number
            }
        };
        let at = Instant::now();
        Begun { number, at }
    }

    /// Keeps what was read since, if nothing has happened to the guest meanwhile.
    pub(super) fn keep(&self, id: InstanceId, begun: Begun, info: GuestInfo, life: u64) {
        let mut guests = self.0.lock();
        let guest = guests.all.get_mut(&id);
        if let Some(guest) = guest.filter(|guest| guest.number == begun.number) {
            let begun = begun.at;
            guest.reading = Some(Reading { info, life, begun });
        }
    }

    /// What was read last, if nothing has happened to the guest since.
    pub(super) fn last(&self, id: InstanceId) -> Option<Reading> {
        let reading = self.0.lock().all.get(&id)?.reading;
        reading.filter(|reading| reading.begun.elapsed() < FRESH)
    }

    /// Something has happened to the guest.
    pub(super) fn touch(&self, id: InstanceId) {
        let guests = &mut *self.0.lock();
        if guests.all.contains_key(&id) {
            let (number, reading) = (guests.number(), None);
            guests.all.insert(id, Guest { number, reading });
        }
    }

    /// Something is being done to the guest, until the answer is dropped.
    pub(super) fn change(self: &Arc<Self>, id: InstanceId) -> Change {
        self.touch(id);
        let known = self.clone();
        Change { known, id }
    }

    /// The guest is gone.
    pub(super) fn forget(&self, id: InstanceId) {
        self.0.lock().all.remove(&id);
    }

    /// Events may have been missed.
    pub(super) fn clear(&self) {
        self.0.lock().all.clear();
    }
}

/// A call that may change a guest.
#[derive(Debug)]
pub(super) struct Change {
    known: Arc<Known>,
    id: InstanceId,
}

impl Drop for Change {
    fn drop(&mut self) {
        self.known.touch(self.id);
    }
}

#[cfg(test)]
mod tests;
