//! Whatever happened, and whenever a listener read: what it merged is what there is.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    hypervisor::stats::{BlockCounters, Groups, HostCounters},
    model::{InstanceId, PowerState},
    sampler::{
        entry::{Answer, Entry, Health, Told},
        sample::{Base, Batch, Gone, Sample},
    },
};

/// What happens to one guest in one sample.
#[derive(Clone, Debug)]
enum Event {
    Counts(u64),
    Restarts,
    Off,
    Hangs,
    Untold,
    Goes,
    Nothing,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..4u64).prop_map(Event::Counts),
        1 => Just(Event::Restarts),
        1 => Just(Event::Off),
        1 => Just(Event::Hangs),
        1 => Just(Event::Untold),
        1 => Just(Event::Goes),
        2 => Just(Event::Nothing),
    ]
}

const GUESTS: usize = 4;
const LISTENERS: usize = 3;

#[derive(Default)]
struct World {
    sequence: u64,
    life: u64,
    entries: BTreeMap<InstanceId, Arc<Entry>>,
    lives: BTreeMap<InstanceId, u64>,
    gone: Gone,
}

/// What a listener can know of a guest.
type Known = (Health, PowerState, Option<u64>, Vec<BlockCounters>);

fn known(entry: &Entry, groups: Groups) -> Known {
    let disks = entry.disks.iter().map(|(_, disk)| *disk);
    (
        entry.health(groups),
        entry.state,
        entry.cpu_time_ns.filter(|_| groups.contains(Groups::CPU)),
        disks.filter(|_| groups.contains(Groups::BLOCK)).collect(),
    )
}

impl World {
    fn happen(&mut self, id: InstanceId, event: &Event) {
        let (sequence, now) = (self.sequence, SystemTime::UNIX_EPOCH);
        if matches!(event, Event::Goes) {
            if self.entries.remove(&id).is_some() {
                self.gone.add(id, sequence);
                self.lives.remove(&id);
            }
            return;
        }
        self.gone.remove(id);
        let entry = self
            .entries
            .entry(id)
            .or_insert_with(|| Arc::new(Entry::new(id, sequence)));
        let entry = Arc::make_mut(entry);
        if matches!(event, Event::Restarts) || !self.lives.contains_key(&id) {
            self.life += 1;
            self.lives.insert(id, self.life);
        }
        let life = self.lives[&id];
        let on = |value: u64| Told {
            counters: HostCounters {
                id,
                state: PowerState::Running,
                life,
                cpu_time_ns: Some(value),
                cpus: Vec::new(),
                memory: None,
                interfaces: Vec::new(),
            },
            interfaces: Vec::new(),
        };
        let answer = |value: u64| Answer::Counters {
            life,
            balloon: None,
            disks: vec![(
                "root".into(),
                BlockCounters {
                    rd_req: Some(value / 2),
                    ..BlockCounters::default()
                },
            )],
        };
        match event {
            Event::Counts(value) => {
                entry.told(Some(on(*value)), sequence);
                entry.answered(answer(*value), now, sequence);
            }
            Event::Restarts => entry.told(Some(on(0)), sequence),
            Event::Off => entry.told(None, sequence),
            Event::Hangs => {
                entry.told(Some(on(1)), sequence);
                entry.answered(Answer::Missing { hung: false }, now, sequence);
            }
            Event::Untold => entry.untold(now, false, sequence),
            Event::Goes | Event::Nothing => {}
        }
    }

    fn sample(&self, start: Instant) -> Arc<Sample> {
        let at = start + Duration::from_secs(self.sequence);
        Arc::new(Sample::new(
            (self.sequence, SystemTime::UNIX_EPOCH, at),
            Duration::from_secs(1),
            Groups::all(),
            self.entries.values().cloned().collect(),
            Arc::new(self.gone.clone()),
        ))
    }
}

#[derive(Default)]
struct Reader {
    base: Option<Base>,
    merged: BTreeMap<InstanceId, Known>,
    /// As it counts, and whether a new start has been told since.
    lives: BTreeMap<InstanceId, (u64, bool)>,
}

impl Reader {
    fn read(&mut self, sample: &Arc<Sample>, groups: Groups, lives: &BTreeMap<InstanceId, u64>) {
        let batch = Batch::new(sample.clone(), self.base, false);
        let before = std::mem::take(&mut self.merged);
        if !batch.is_full() {
            self.merged = before;
        }
        for id in batch.gone() {
            self.merged.remove(&id);
            self.lives.remove(&id);
        }
        for entry in batch.entries(groups) {
            self.merged.insert(entry.id, known(entry, groups));
            let Some((was, told)) = self.lives.get_mut(&entry.id) else {
                if entry.state == PowerState::Running {
                    self.lives.insert(entry.id, (lives[&entry.id], false));
                }
                continue;
            };
            *told |= batch.reset(entry);
            if entry.state == PowerState::Running {
                // It may be told before there are counters again.
                assert_eq!(*told, *was != lives[&entry.id], "{entry:?}");
                (*was, *told) = (lives[&entry.id], false);
            }
        }
        self.base = Some(sample.base());
    }
}

proptest! {
    #[test]
    fn what_a_listener_has_merged_is_what_there_is(
        history in prop::collection::vec(
            (prop::collection::vec(event(), GUESTS), prop::collection::vec(any::<bool>(), LISTENERS)),
            1..40,
        )
    ) {
        let ids: Vec<_> = (0..GUESTS).map(|_| InstanceId::random()).collect();
        let views = [Groups::CPU, Groups::BLOCK, Groups::CPU | Groups::BLOCK];
        let mut world = World::default();
        let mut readers: [Reader; LISTENERS] = Default::default();
        let start = Instant::now();
        for (events, reads) in history {
            world.sequence += 1;
            for (id, event) in ids.iter().zip(&events) {
                world.happen(*id, event);
            }
            let sample = world.sample(start);
            for ((reader, groups), read) in readers.iter_mut().zip(views).zip(reads) {
                if !read {
                    continue;
                }
                reader.read(&sample, groups, &world.lives);
                let there = world.entries.iter();
                let there: BTreeMap<_, _> =
                    there.map(|(id, entry)| (*id, known(entry, groups))).collect();
                prop_assert_eq!(&reader.merged, &there);
            }
        }
    }
}

#[test]
fn who_missed_more_departures_than_are_kept_gets_everything() {
    let mut world = World {
        sequence: 1,
        ..World::default()
    };
    let stays = InstanceId::random();
    world.happen(stays, &Event::Counts(1));
    let start = Instant::now();
    let old = Batch::new(world.sample(start), None, true).sample.base();
    for _ in 0..3000 {
        world.sequence += 1;
        let id = InstanceId::random();
        world.happen(id, &Event::Off);
        world.happen(id, &Event::Goes);
    }
    let sample = world.sample(start);
    let batch = Batch::new(sample.clone(), Some(old), false);
    assert!(batch.is_full());
    assert_eq!(batch.entries(Groups::CPU).count(), 1);
    let newer = sample.base();
    assert!(!Batch::new(sample, Some(newer), false).is_full());
}
