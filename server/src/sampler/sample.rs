//! One sample of all guests, and what of it a listener needs who has seen an earlier one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::entry::Entry;
use crate::{hypervisor::stats::Groups, model::InstanceId};

/// Guests that are gone are named to listeners as old as this many of them; who is older gets everything anew.
const GONE: usize = 1024;
/// Listeners that read in step share a shape; those that do not read have bases of their own, and must not fill memory.
const SHAPES: usize = 64;

/// Where a batch's messages are once they are made.
type Place = Arc<OnceLock<Arc<[Bytes]>>>;

/// All guests at one time. It never changes.
#[derive(Debug)]
pub struct Sample {
    /// Its number, one more than that of the sample before.
    pub sequence: u64,
    /// When it was begun.
    pub time: SystemTime,
    /// What was asked for.
    pub groups: Groups,
    /// The guests, by id.
    pub entries: Vec<Arc<Entry>>,
    pub(super) at: Instant,
    pub(super) pace: Duration,
    gone: Arc<Gone>,
    encoded: Mutex<HashMap<Shape, Place>>,
}

/// Guests that are gone, and the sample that found it, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    guests: Vec<(InstanceId, u64)>,
    /// Who has seen no sample after this one may have missed one that is no longer named.
    floor: u64,
}

impl Gone {
    pub(super) fn add(&mut self, id: InstanceId, sequence: u64) {
        self.guests.retain(|(gone, _)| *gone != id);
        self.guests.push((id, sequence));
        if self.guests.len() > GONE {
            let (_, forgotten) = self.guests.remove(0);
            self.floor = self.floor.max(forgotten);
        }
    }

    /// It is here, perhaps again.
    pub(super) fn remove(&mut self, id: InstanceId) {
        self.guests.retain(|(gone, _)| *gone != id);
    }
}

/// The sample that a listener saw last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    sequence: u64,
    at: Instant,
}

/// What a batch is made of. Listeners with equal shapes get the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How it is written.
    pub view: View,
    /// What of each guest is in it.
    pub groups: Groups,
    /// Which guests are in it; none is all.
    pub ids: Option<Arc<BTreeSet<InstanceId>>>,
    base: Option<u64>,
    full: bool,
}

/// In which words guests are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Disks alone.
    Disks,
    /// Interfaces alone.
    Interfaces,
    /// Whatever is asked for.
    Whole,
}

impl Sample {
    pub(super) fn new(
        (sequence, time, at): (u64, SystemTime, Instant),
        pace: Duration,
        groups: Groups,
        entries: Vec<Arc<Entry>>,
        gone: Arc<Gone>,
    ) -> Self {
        Self {
            sequence,
            time,
            groups,
            entries,
            at,
            pace,
            gone,
            encoded: Mutex::default(),
        }
    }

    /// The guest's entry.
    pub fn entry(&self, id: InstanceId) -> Option<&Arc<Entry>> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.id);
        at.ok().map(|at| &self.entries[at])
    }

    pub(super) fn base(&self) -> Base {
        Base {
            sequence: self.sequence,
            at: self.at,
        }
    }
}

/// A sample, and what of it one listener needs.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The sample.
    pub sample: Arc<Sample>,
    base: Option<Base>,
    full: bool,
}

impl Batch {
    /// For a listener who saw `base` last; everything when it asks for it, or when what changed is no longer known.
    pub(super) fn new(sample: Arc<Sample>, base: Option<Base>, full: bool) -> Self {
        let full = full || base.is_none_or(|base| base.sequence < sample.gone.floor);
        Self { sample, base, full }
    }

    /// Whether it holds every guest.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether it is the listener's first.
    pub fn is_first(&self) -> bool {
        self.base.is_none()
    }

    /// Since the sample that the listener saw last.
    pub fn interval(&self) -> Option<Duration> {
        self.base.map(|base| self.sample.at.duration_since(base.at))
    }

    /// Guests that the listener must be told of, where it looks at `groups`.
    pub fn entries(&self, groups: Groups) -> impl Iterator<Item = &Arc<Entry>> {
        let base = self.base.map_or(0, |base| base.sequence);
        let all = self.sample.entries.iter();
        all.filter(move |entry| self.full || entry.changed(groups, base))
    }

    /// Guests that went since the sample that the listener saw last.
    pub fn gone(&self) -> impl Iterator<Item = InstanceId> {
        let base = self.base.map(|base| base.sequence);
        let gone = self.sample.gone.guests.iter();
        gone.filter(move |(_, sequence)| base.is_some_and(|base| *sequence > base))
            .map(|(id, _)| *id)
    }

    /// Whether the guest's counters began at 0 since the sample that the listener saw last.
    pub fn reset(&self, entry: &Entry) -> bool {
        self.base.is_some_and(|base| entry.reset(base.sequence))
    }

    /// What `encode` makes of it: once for all listeners to whom the same is to be told.
    pub fn encoded(
        &self,
        (view, groups, ids): (View, Groups, Option<Arc<BTreeSet<InstanceId>>>),
        encode: impl FnOnce() -> Arc<[Bytes]>,
    ) -> Arc<[Bytes]> {
        let shape = Shape {
            view,
            groups,
            ids,
            base: self.base.map(|base| base.sequence),
            full: self.full,
        };
        let place = {
            let mut encoded = self.sample.encoded.lock();
            let room = encoded.len() < SHAPES;
            match encoded.get(&shape) {
                Some(place) => place.clone(),
                None if !room => return encode(),
                None => encoded.entry(shape).or_default().clone(),
            }
        };
        place.get_or_init(encode).clone()
    }
}
