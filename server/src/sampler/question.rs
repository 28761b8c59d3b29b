//! Asks guests' monitors, few at a time. A guest with a question that has no answer yet is neither asked again nor waited
//! for, so that one that hangs costs its first question's wait once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::{self, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    hypervisor::{
        Hypervisor, Result,
        stats::{Groups, MonitorCounters},
    },
    model::InstanceId,
};

/// Questions that are worked on at once: as many as a hypervisor works on side by side, and a few that wait at its door.
const SLOTS: usize = 8;
/// A guest that takes longer gives its slot to the next, or eight that hang would stop all others.
const SLOT: Duration = Duration::from_millis(100);

/// Questions, and answers that nobody took yet.
#[derive(Debug)]
pub(super) struct Questions {
    hypervisor: Arc<dyn Hypervisor>,
    slots: Arc<Semaphore>,
    open: JoinSet<Result<MonitorCounters>>,
    whose: HashMap<task::Id, (InstanceId, Groups)>,
    asked: HashSet<InstanceId>,
    answers: HashMap<InstanceId, (Groups, Result<MonitorCounters>)>,
}

impl Questions {
    pub(super) fn new(hypervisor: Arc<dyn Hypervisor>) -> Self {
        Self {
            hypervisor,
            slots: Arc::new(Semaphore::new(SLOTS)),
            open: JoinSet::new(),
            whose: HashMap::new(),
            asked: HashSet::new(),
            answers: HashMap::new(),
        }
    }

    /// Asks `guests`, and answers with what they have said by `until`. What came after the last round's end counts for
    /// those that say nothing now.
    ///
    /// # Cancel safety
    /// Questions and answers are kept.
    pub(super) async fn ask(
        &mut self,
        guests: impl IntoIterator<Item = InstanceId>,
        groups: Groups,
        until: Instant,
    ) -> HashMap<InstanceId, Result<MonitorCounters>> {
        while let Some(late) = self.open.try_join_next_with_id() {
            self.took(late);
        }
        let mut fresh = HashSet::new();
        for id in guests {
            if self.asked.insert(id) {
                self.begin(id, groups);
                fresh.insert(id);
            }
        }
        while !fresh.is_empty() {
            // Biased: an answer that is there counts, however late it is looked at.
            tokio::select! {
                biased;
                Some(answer) = self.open.join_next_with_id() => {
                    if let Some(id) = self.took(answer) {
                        fresh.remove(&id);
                    }
                }
                () = tokio::time::sleep_until(until) => break,
            }
        }
        let answers = std::mem::take(&mut self.answers).into_iter();
        // One to a question for less says nothing of the rest.
        let fit = answers.filter(|(_, (told, answer))| answer.is_err() || told.contains(groups));
        fit.map(|(id, (_, answer))| (id, answer)).collect()
    }

    fn begin(&mut self, id: InstanceId, groups: Groups) {
        let (hypervisor, slots) = (self.hypervisor.clone(), self.slots.clone());
        let question = self.open.spawn(async move {
            let slot = slots.acquire_owned().await;
            let mut answer = hypervisor.monitor_counters(id, groups);
            match tokio::time::timeout(SLOT, &mut answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    drop(slot);
                    answer.await
                }
            }
        });
        self.whose.insert(question.id(), (id, groups));
    }

    fn took(
        &mut self,
        answer: Result<(task::Id, Result<MonitorCounters>), JoinError>,
    ) -> Option<InstanceId> {
        let question = match &answer {
            Ok((question, _)) => *question,
            Err(e) => e.id(),
        };
        let (id, groups) = self.whose.remove(&question)?;
        self.asked.remove(&id);
        // One that panicked has not answered.
        if let Ok((_, answer)) = answer {
            self.answers.insert(id, (groups, answer));
        }
        Some(id)
    }
}
