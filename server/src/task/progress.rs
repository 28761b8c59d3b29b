//! How far an operation has come, as everyone who watches it sees it.
//!
//! A watched value, not a queue: a watcher that falls behind costs nothing and still sees the begin and end of every
//! phase; of the messages inside a long phase it sees the latest.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    metrics::PHASES,
    model::{
        Amount, Edge, OperationId, OperationRecord, OperationState, Phase, ProgressEvent, Verb,
    },
};

/// What a watcher sees.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The operation as it stands.
    pub record: OperationRecord,
    /// Every begin and end so far, in order.
    pub milestones: Vec<ProgressEvent>,
    /// The latest message inside the present phase.
    pub advance: Option<ProgressEvent>,
}

impl Progress {
    /// An operation that has done nothing yet.
    pub fn new(record: OperationRecord) -> Self {
        Self {
            record,
            milestones: Vec::new(),
            advance: None,
        }
    }

    /// The messages after the one numbered `sequence`, in order.
    pub fn after(&self, sequence: u64) -> Vec<ProgressEvent> {
        let at = self
            .milestones
            .partition_point(|event| event.sequence <= sequence);
        let mut events: Vec<_> = self.milestones[at..].to_vec();
        events.extend(
            self.advance
                .iter()
                .filter(|event| event.sequence > sequence)
                .cloned(),
        );
        events.sort_by_key(|event| event.sequence);
        events
    }
}

#[derive(Debug, Default)]
struct Clock {
    sequence: u64,
    began: Vec<(Phase, Instant)>,
}

/// Tells how far an operation is; clones tell of the same one.
#[derive(Clone, Debug)]
pub struct Reporter {
    operation: OperationId,
    verb: Verb,
    progress: Arc<watch::Sender<Progress>>,
    clock: Arc<Mutex<Clock>>,
}

impl Reporter {
    /// A reporter of the operation, and what its watchers watch.
    pub fn new(record: OperationRecord) -> (Self, watch::Receiver<Progress>) {
        let (operation, verb) = (record.id, record.verb);
        let (tx, rx) = watch::channel(Progress::new(record));
        (
            Self {
                operation,
                verb,
                progress: Arc::new(tx),
                clock: Arc::default(),
            },
            rx,
        )
    }

    /// What watchers watch.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The operation as it stands.
    pub fn record(&self) -> OperationRecord {
        self.progress.borrow().record.clone()
    }

    /// A phase begins; `step` says for people what is done.
    pub fn begin(&self, phase: Phase, step: &str) {
        self.begin_since(phase, step, Instant::now());
    }

    /// A phase is seen to have begun at `since`.
    pub fn begin_since(&self, phase: Phase, step: &str, since: Instant) {
        self.clock.lock().began.push((phase, since));
        self.tell(phase, Edge::Begin, step, None);
    }

    /// The phase has come so far.
    pub fn advance(&self, phase: Phase, step: &str, amount: Option<Amount>) {
        self.tell(phase, Edge::Advance, step, amount);
    }

    /// The phase has ended well. One that has ended before, or never begun, is told no second time.
    pub fn end(&self, phase: Phase) {
        if self.is_on(phase) {
            self.tell(phase, Edge::End, "", None);
        }
    }

    fn is_on(&self, phase: Phase) -> bool {
        self.clock
            .lock()
            .began
            .iter()
            .any(|(began, _)| *began == phase)
    }

    /// A phase of the guest's own has ended: `evidence` is the line of the console that showed it.
    pub fn shown(&self, phase: Phase, evidence: &str) {
        let evidence: String = evidence.chars().take(256).collect();
        self.event(phase, Edge::End, |event| event.evidence = evidence);
    }

    /// A phase that has no length: its begin and its end at once.
    pub fn mark(&self, phase: Phase, step: &str) {
        self.begin(phase, step);
        self.end(phase);
    }

    /// The operation stands otherwise now. Told last, so that a watcher that sees the end has seen everything.
    pub fn stand(&self, change: impl FnOnce(&mut OperationRecord)) -> OperationRecord {
        self.progress
            .send_modify(|progress| change(&mut progress.record));
        self.record()
    }

    /// How the operation stands.
    pub fn state(&self) -> OperationState {
        self.progress.borrow().record.state
    }

    fn tell(&self, phase: Phase, edge: Edge, step: &str, amount: Option<Amount>) {
        self.event(phase, edge, |event| {
            step.clone_into(&mut event.step);
            event.amount = amount;
        });
    }

    fn event(&self, phase: Phase, edge: Edge, fill: impl FnOnce(&mut ProgressEvent)) {
        let mut clock = self.clock.lock();
        clock.sequence += 1;
        let since = clock.began.iter().rev().find(|(began, _)| *began == phase);
        let mut event = ProgressEvent {
            operation: self.operation,
            sequence: clock.sequence,
            time: SystemTime::now(),
            phase,
            edge,
            step: String::new(),
            elapsed: since.map(|(_, at)| at.elapsed()).unwrap_or_default(),
            amount: None,
            evidence: String::new(),
        };
        fill(&mut event);
        if edge == Edge::End {
            let labels = [self.verb.as_str(), event.phase.as_str()];
            PHASES.of(labels).record(event.elapsed);
            clock.began.retain(|(began, _)| *began != phase);
        }
        self.progress.send_modify(|progress| {
            if edge == Edge::Advance {
                progress.advance = Some(event);
            } else {
                progress.advance = None;
                progress.milestones.push(event);
            }
        });
    }
}
