//! Who asks for what, and when the next sample is due. Pure but for the clock that it is handed.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::hypervisor::stats::Groups;

/// A newcomer who wants what the last sample does not have need not wait for the next turn, but callers who come and go
/// must not make the sampler run faster than this.
const FLOOR: Duration = Duration::from_millis(250);

/// When one listener wants a sample next.
///
/// The sampler and the listener each keep one. The sampler goes on for one that does not read; one that reads again tells
/// where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    next: Instant,
    interval: Duration,
    first: bool,
}

impl Turn {
    /// The first sample must not be older than `wanted`.
    pub(super) fn new(wanted: Instant, interval: Duration) -> Self {
        Self {
            next: wanted,
            interval,
            first: true,
        }
    }

    /// Whether a sample of time `at` is for this listener, where samples come as fast as `pace`.
    pub(super) fn takes(&self, at: Instant, pace: Duration) -> bool {
        at + self.slack(pace) >= self.next
    }

    /// Takes the sample of time `at`.
    pub(super) fn advance(&mut self, at: Instant, pace: Duration) {
        // One that comes a little late keeps the listener's own grid, or delays would add up.
        let late = !self.first && at >= self.next && at <= self.next + self.slack(pace);
        self.next = if late { self.next } else { at } + self.interval;
        self.first = false;
    }

    /// One that is nearly due goes with the others, or intervals of 9 s and 10 s would cost two samples.
    fn slack(&self, pace: Duration) -> Duration {
        if self.first {
            Duration::ZERO
        } else {
            (self.interval / 4).min(pace / 2)
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Demand {
    groups: Groups,
    turn: Turn,
}

impl Demand {
    fn is_dear(&self) -> bool {
        self.groups.intersects(Groups::MONITOR)
    }
}

/// All demands.
#[derive(Debug, Default)]
pub(super) struct Demands {
    open: HashMap<u64, Demand>,
    given: u64,
}

/// The next sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// When.
    pub(super) at: Instant,
    /// The shortest interval that anyone asked for.
    pub(super) pace: Duration,
    /// What to ask the host for.
    pub(super) host: Groups,
    /// What to ask the monitors for; nothing when nobody who wants it is due.
    pub(super) monitor: Groups,
}

impl Demands {
    pub(super) fn add(&mut self, groups: Groups, turn: Turn) -> u64 {
        self.given += 1;
        self.open.insert(self.given, Demand { groups, turn });
        self.given
    }

    /// A sample that is there already may do for this one.
    pub(super) fn offer(&mut self, demand: u64, at: Instant, pace: Duration, groups: Groups) {
        if let Some(demand) = self.open.get_mut(&demand)
            && groups.contains(demand.groups)
            && demand.turn.takes(at, pace)
        {
            demand.turn.advance(at, pace);
        }
    }

    /// The listener has taken a sample by itself. Whether that changes when it wants the next.
    pub(super) fn follow(&mut self, demand: u64, turn: Turn) -> bool {
        let known = self.open.get_mut(&demand);
        known.is_some_and(|known| {
            let differs = known.turn.next != turn.next;
            known.turn = turn;
            differs
        })
    }

    pub(super) fn remove(&mut self, demand: u64) {
        self.open.remove(&demand);
    }

    /// What anyone looks at, due or not.
    pub(super) fn wanted(&self) -> Groups {
        let all = self.open.values();
        all.fold(Groups::empty(), |all, demand| all | demand.groups)
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The next sample; none while nobody listens. The last one began at `last`.
    pub(super) fn due(&self, last: Option<Instant>) -> Option<Due> {
        let all = || self.open.values();
        let next = all().map(|demand| demand.turn.next).min()?;
        let pace = all().map(|demand| demand.turn.interval).min()?;
        let at = last.map_or(next, |last| next.max(last + FLOOR));
        let asked = self.wanted();
        let dear = all().any(|demand| demand.is_dear() && demand.turn.takes(at, pace));
        Some(Due {
            at,
            pace,
            host: asked & Groups::HOST,
            monitor: if dear {
                asked & Groups::MONITOR
            } else {
                Groups::empty()
            },
        })
    }

    /// A sample with `groups` of time `at` is there for those who want the monitors' part (`dear`), or for the others.
    pub(super) fn served(&mut self, at: Instant, pace: Duration, groups: Groups, dear: bool) {
        for demand in self.open.values_mut() {
            let its = demand.is_dear() == dear && groups.contains(demand.groups);
            if its && demand.turn.takes(at, pace) {
                demand.turn.advance(at, pace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A listener, and when it got samples.
    struct Player {
        turn: Turn,
        groups: Groups,
        got: Vec<u64>,
    }

    impl Player {
        fn offer(&mut self, due: &Due, monitor: bool, second: u64) {
            let its = self.groups.intersects(Groups::MONITOR) == monitor;
            if its && self.turn.takes(due.at, due.pace) {
                self.turn.advance(due.at, due.pace);
                self.got.push(second);
            }
        }
    }

    /// Times at which each of `listeners` gets a sample within `seconds`, and at which monitors were asked.
    fn play(listeners: &[(Groups, u32)], seconds: u32) -> (Vec<Vec<u64>>, Vec<u64>) {
        let start = Instant::now();
        let mut demands = Demands::default();
        let mut players = Vec::new();
        for (groups, interval) in listeners {
            let (turn, groups) = (Turn::new(start, SECOND * *interval), *groups);
            demands.add(groups, turn);
            let got = Vec::new();
            players.push(Player { turn, groups, got });
        }
        let (mut last, mut dear) = (None, Vec::new());
        while let Some(due) = demands.due(last)
            && due.at <= start + SECOND * seconds
        {
            let second = (due.at - start).as_secs();
            let parts = [false, true]
                .into_iter()
                .take(if due.monitor.is_empty() { 1 } else { 2 });
            for monitor in parts {
                demands.served(due.at, due.pace, due.host | due.monitor, monitor);
                for player in &mut players {
                    player.offer(&due, monitor, second);
                }
            }
            if !due.monitor.is_empty() {
                dear.push(second);
            }
            last = Some(due.at);
        }
        (players.into_iter().map(|player| player.got).collect(), dear)
    }

    #[test]
    fn the_fastest_sets_the_pace_and_slower_ones_go_with_it() {
        let (got, dear) = play(&[(Groups::CPU, 1), (Groups::CPU, 3)], 7);
        assert_eq!(got, [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![0, 3, 6]]);
        assert!(dear.is_empty());
    }

    #[test]
    fn monitors_are_asked_only_as_often_as_someone_wants_what_they_know() {
        let (got, dear) = play(&[(Groups::CPU, 1), (Groups::BLOCK, 5)], 11);
        assert_eq!(got[1], [0, 5, 10]);
        assert_eq!(dear, [0, 5, 10]);
    }

    #[test]
    fn intervals_that_nearly_meet_cost_one_sample() {
        let (got, _) = play(&[(Groups::CPU, 9), (Groups::CPU, 10)], 30);
        assert_eq!(got, [vec![0, 9, 18, 27], vec![0, 9, 18, 27]]);
    }

    #[test]
    fn nobody_listening_wants_nothing_and_a_newcomer_is_served_soon() {
        let mut demands = Demands::default();
        assert_eq!(demands.due(None), None);
        let now = Instant::now();
        let slow = demands.add(Groups::CPU, Turn::new(now, SECOND * 60));
        demands.served(now, SECOND * 60, Groups::CPU, false);
        assert_eq!(demands.due(Some(now)).unwrap().at, now + SECOND * 60);
        demands.add(Groups::INTERFACE, Turn::new(now, SECOND * 60));
        let due = demands.due(Some(now)).unwrap();
        assert_eq!(
            (due.at, due.host),
            (now + FLOOR, Groups::CPU | Groups::INTERFACE)
        );
        demands.remove(slow);
        assert_eq!(demands.due(None).unwrap().host, Groups::INTERFACE);
    }
}
