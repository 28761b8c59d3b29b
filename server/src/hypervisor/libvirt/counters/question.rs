//! One question at a time to a guest's monitor, and one answer for all who have waited for it.
//!
//! Whoever comes while a question is open waits, and is served by the next one: an answer that was begun before somebody
//! came may be older than what that one wants to know. Behind a question that is open for long nobody waits.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as Queue, OwnedMutexGuard},
    time::{Instant, timeout},
};

use crate::{
    hypervisor::stats::{Groups, MonitorCounters},
    model::InstanceId,
};

/// A healthy guest answers in milliseconds: one that takes longer may never answer.
const LONG: Duration = Duration::from_millis(500);

/// Questions to all guests.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<InstanceId, Arc<Guest>>>);

/// The questions to one guest, while there are any.
#[derive(Debug, Default)]
struct Guest {
    /// Who holds it asks; it holds the last answer.
    last: Arc<Queue<Option<Answer>>>,
    /// Since when the open question is open.
    since: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Answer {
    begun: Instant,
    groups: Groups,
    counters: MonitorCounters,
}

/// What became of a wish to ask.
#[derive(Debug)]
pub(in super::super) enum Turn {
    /// It is ours to ask.
    Ask(Asking),
    /// Somebody else has asked since.
    Answered(MonitorCounters),
}

/// The right to ask a guest, until it is dropped.
#[derive(Debug)]
pub(in super::super) struct Asking {
    // Before the place: who comes when that is gone makes another queue.
    last: OwnedMutexGuard<Option<Answer>>,
    place: Place,
    begun: Instant,
}

/// Somebody who asks or waits.
#[derive(Debug)]
struct Place {
    all: Arc<Questions>,
    guest: Arc<Guest>,
    id: InstanceId,
}

impl Questions {
    /// A guest's turn to be asked; none when it has not answered for long.
    pub(super) async fn turn(self: &Arc<Self>, id: InstanceId, groups: Groups) -> Option<Turn> {
        let came = Instant::now();
        let place = Place {
            all: self.clone(),
            guest: self.0.lock().entry(id).or_default().clone(),
            id,
        };
        let since = *place.guest.since.lock();
        if since.is_some_and(|since| since.elapsed() >= LONG) {
            return None;
        }
        let queue = place.guest.last.clone();
        let last = timeout(LONG, queue.lock_owned()).await.ok()?;
        let begun = Instant::now();
        match &*last {
            Some(answer) if answer.begun >= came && answer.groups.contains(groups) => {
                Some(Turn::Answered(only(answer.counters.clone(), groups)))
            }
            _ => {
                *place.guest.since.lock() = Some(begun);
                Some(Turn::Ask(Asking { last, place, begun }))
            }
        }
    }
}

fn only(mut counters: MonitorCounters, groups: Groups) -> MonitorCounters {
    if !groups.contains(Groups::BLOCK) {
        counters.disks.clear();
    }
    if !groups.contains(Groups::BALLOON) {
        counters.balloon = None;
    }
    counters
}

impl Asking {
    /// The guest's answer, for those who wait.
    pub(in super::super) fn answered(mut self, groups: Groups, counters: &MonitorCounters) {
        *self.last = Some(Answer {
            begun: self.begun,
            groups,
            counters: counters.clone(),
        });
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        *self.place.guest.since.lock() = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        // Ours and the map's: nobody else asks or waits.
        if Arc::strong_count(&self.guest) == 2 {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn counted(life: u64) -> MonitorCounters {
        MonitorCounters {
            life,
            ..MonitorCounters::default()
        }
    }

    async fn asking(questions: &Arc<Questions>, id: InstanceId) -> Asking {
        match questions.turn(id, Groups::BLOCK).await {
            Some(Turn::Ask(asking)) => asking,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_share_the_next_answer_and_nothing_is_kept() {
        let (questions, id) = (Arc::new(Questions::default()), InstanceId::random());
        let first = asking(&questions, id).await;
        tokio::time::advance(LONG / 10).await;
        let mut waiting = JoinSet::new();
        for _ in 0..100 {
            let questions = questions.clone();
            waiting.spawn(async move { questions.turn(id, Groups::BLOCK).await });
        }
        tokio::time::advance(LONG / 10).await;
        first.answered(Groups::BLOCK, &counted(1));
        let Some(Turn::Ask(second)) = waiting.join_next().await.unwrap().unwrap() else {
            panic!("the answer to an older question is not for those who came later");
        };
        second.answered(Groups::BLOCK, &counted(2));
        while let Some(turn) = waiting.join_next().await {
            let turn = turn.unwrap();
            assert!(
                matches!(&turn, Some(Turn::Answered(counters)) if counters.life == 2),
                "{turn:?}"
            );
        }
        assert!(questions.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_more_than_was_asked_for_asks_anew() {
        let (questions, id) = (Arc::new(Questions::default()), InstanceId::random());
        let first = asking(&questions, id).await;
        let wait = |groups| {
            let questions = questions.clone();
            tokio::spawn(async move { questions.turn(id, groups).await })
        };
        let (block, balloon) = (wait(Groups::BLOCK), wait(Groups::BALLOON));
        tokio::time::advance(LONG / 10).await;
        drop(first);
        let Some(Turn::Ask(second)) = block.await.unwrap() else {
            panic!("nobody has answered yet");
        };
        second.answered(Groups::BLOCK, &counted(1));
        assert!(matches!(balloon.await.unwrap(), Some(Turn::Ask(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_a_question_that_is_open_for_long() {
        let (questions, id) = (Arc::new(Questions::default()), InstanceId::random());
        let hung = asking(&questions, id).await;
        let begun = Instant::now();
        assert!(questions.turn(id, Groups::BLOCK).await.is_none());
        assert!(begun.elapsed() <= LONG * 2);
        let begun = Instant::now();
        assert!(questions.turn(id, Groups::BLOCK).await.is_none());
        assert_eq!(begun.elapsed(), Duration::ZERO, "it is refused at once");
        asking(&questions, InstanceId::random()).await;
        drop(hung);
        asking(&questions, id).await;
    }
}
