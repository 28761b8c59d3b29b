//! An operation from request to result.
//!
//!   begin ──▶ Running ──┬──▶ Succeeded
//!                       └──▶ Unwinding ──▶ Failed | Cancelled
//!
//! The registry owns the work: a caller that leaves changes nothing, a caller that comes again joins. One operation holds
//! an instance at a time. A request is known again by its `request_id` (also after a restart), or, while it runs, by
//! being equal. Ended operations are told from memory for a while and then from the store, until they are pruned.

mod error;
mod owed;
#[cfg(test)]
mod tests;
mod way;

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

pub use error::OperationError;
use futures::FutureExt;
pub use owed::take_back;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info, warn};

use crate::{
    action::Action,
    error::{Error, Kind, Result},
    host::Host,
    metrics,
    model::{InstanceId, OperationId, OperationRecord, OperationState, Phase, RequestId, Verb},
    store::OperationFilter,
    task::{Progress, Reporter, Task},
};

/// By what a request is known again.
#[derive(Clone, Debug)]
pub struct RequestKey {
    /// The caller's own id of the request.
    pub request: Option<RequestId>,
    /// Keyed hash of the request's body.
    pub fingerprint: String,
    /// Who asks, as far as it is known.
    pub caller: Option<String>,
}

/// Ended operations that are told from memory, with their progress: enough for every caller that is just reading one.
const REMEMBERED: usize = 512;

#[derive(Debug)]
struct Live {
    reporter: Reporter,
    cancel: CancellationToken,
    alone: bool,
    gives_way: bool,
}

#[derive(Debug, Default)]
struct Registry {
    live: HashMap<OperationId, Live>,
    holds: HashMap<InstanceId, OperationId>,
    ended: VecDeque<(OperationId, watch::Receiver<Progress>)>,
    gate: Gate,
    opened: Option<SystemTime>,
}

/// Whether operations may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Not yet: what an earlier life left is being looked after.
    #[default]
    Starting,
    /// Yes.
    Open,
    /// No more: the server is about to stop.
    Draining,
}

/// The registry of running and ended operations.
#[derive(Clone, Debug)]
pub struct Operations {
    host: Arc<Host>,
    registry: Arc<Mutex<Registry>>,
    // Begins are decided one at a time: two equal requests must not both find nothing.
    door: Arc<tokio::sync::Mutex<()>>,
    work: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

impl Operations {
    /// A registry that begins nothing until it is opened.
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            registry: Arc::default(),
            door: Arc::default(),
            work: Arc::default(),
        }
    }

    /// Lets callers in: what an earlier life left has been looked after.
    pub fn open(&self) {
        let mut registry = self.registry.lock();
        if registry.gate == Gate::Starting {
            registry.gate = Gate::Open;
            registry.opened = Some(SystemTime::now());
        }
    }

    /// Starts `action`, or joins the operation already known for this request.
    ///
    /// # Errors
    /// `Pending` while another holds the instance; `RequestIdReused`; `Starting` and `Draining`.
    ///
    /// # Cancel safety
    /// A caller that leaves meanwhile leaves nothing half begun: the beginning goes on without it.
    pub async fn begin<A: Action>(
        &self,
        key: RequestKey,
        action: A,
    ) -> Result<watch::Receiver<Progress>> {
        let operations = self.clone();
        let beginning = async move { operations.begin_or_join(key, action).await };
        let begun = tokio::spawn(beginning.in_current_span()).await;
        begun.map_err(|_| Error::internal("the beginning of the operation panicked"))?
    }

    async fn begin_or_join<A: Action>(
        &self,
        key: RequestKey,
        action: A,
    ) -> Result<watch::Receiver<Progress>> {
        let (_one_at_a_time, known) = self.enter(&key, &action).await?;
        if let Some(known) = known {
            return Ok(known);
        }
        match self.registry.lock().gate {
            Gate::Open => {}
            Gate::Starting => return Err(OperationError::Starting.into()),
            Gate::Draining => return Err(OperationError::Draining.into()),
        }
        self.make_way(action.is_alone())?;
        action.admit(&self.host)?;
        let record = OperationRecord {
            id: OperationId::random(),
            instance: action.instance(),
            image: action.image(),
            verb: A::VERB,
            request: key.request,
            fingerprint: key.fingerprint,
            state: OperationState::Running,
            begun: SystemTime::now(),
            ended: None,
            caller: key.caller,
            error: None,
            answer: None,
        };
        self.host.store.put_operation(record.clone()).await?;
        let (reporter, watcher) = Reporter::new(record);
        self.start(reporter, action).await;
        Ok(watcher)
    }

    /// Nothing begins beside an action that has the host for itself, nor such a one beside anything.
    fn make_way(&self, alone: bool) -> Result<(), OperationError> {
        let registry = self.registry.lock();
        let mut others = registry.live.values().filter(|live| alone || live.alone);
        others.next().map_or(Ok(()), |live| {
            let record = live.reporter.record();
            let (operation, verb) = (record.id, record.verb);
            Err(OperationError::HostHeld { operation, verb })
        })
    }

    async fn start<A: Action>(&self, reporter: Reporter, action: A) {
        let record = reporter.record();
        let cancel = CancellationToken::new();
        {
            let mut registry = self.registry.lock();
            let live = Live {
                reporter: reporter.clone(),
                cancel: cancel.clone(),
                alone: action.is_alone(),
                gives_way: action.gives_way(),
            };
            registry.live.insert(record.id, live);
            if let Some(instance) = record.instance {
                registry.holds.insert(instance, record.id);
            }
        }
        let span = tracing::info_span!("operation", id = %record.id, verb = record.verb.as_str(), instance = record.instance.map(tracing::field::display), outcome = tracing::field::Empty);
        let operations = self.clone();
        let run = async move {
            let begun = Instant::now();
            let active = metrics::OPERATIONS_ACTIVE.of([A::VERB.as_str()]).enter();
            let task = Task::new(operations.host.clone(), record.id, reporter.clone(), cancel);
            let ended = operations.drive(task, action).await;
            let outcome = [A::VERB.as_str(), ended.state.as_str()];
            metrics::OPERATIONS.of(outcome).record(begun.elapsed());
            drop(active);
            Span::current().record("outcome", ended.state.as_str());
            // Let go before the end is told: who hears of it may begin the next at once.
            operations.retire(&ended, reporter.watch());
            reporter.stand(|known| *known = ended);
        };
        let mut work = self.work.lock().await;
        while work.try_join_next().is_some() {}
        work.spawn(run.instrument(span));
    }

    /// Runs the recipe, and takes it back when it fails. Answers how it ended.
    async fn drive<A: Action>(&self, mut task: Task, action: A) -> OperationRecord {
        info!("operation begun");
        // A panic is a bug of ours, but the host must not keep what was half done, nor the instance its holder.
        let outcome = AssertUnwindSafe(async {
            self.settle_up(&task).await;
            action.run(&mut task).await
        });
        let outcome = outcome.catch_unwind();
        let outcome = outcome.await;
        let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("the operation panicked")));
        let Err(cause) = outcome else {
            let instance = task.kept();
            let ended = self.conclude(&task, OperationState::Succeeded, None, instance);
            let ended = ended.await;
            action.tidy(task.host()).await;
            return ended;
        };
        warn!(error = %cause, reason = cause.reason(), "operation failed, undoing it");
        let unwinding = task.report().stand(|record| {
            record.state = OperationState::Unwinding;
            record.error = Some(cause.clone());
        });
        // Written down, so that a guest whose spawn has failed is not adopted after a crash. Without the row it may be,
        // and nobody has been told that it failed.
        if let Err(e) = self.host.store.put_operation(unwinding).await {
            error!(error = %e, "the failure of the operation cannot be written down yet");
        }
        task.report()
            .begin(Phase::Undo, "taking back what was done");
        match task.unwind().await {
            Ok(()) => {
                task.report().end(Phase::Undo);
                let state = match cause.kind() {
                    Kind::Cancelled => OperationState::Cancelled,
                    _ => OperationState::Failed,
                };
                self.conclude(&task, state, Some(cause), None).await
            }
            Err(undo) => {
                let cause = cause.with("undo_failed", &undo);
                self.leave(&task, cause).await
            }
        }
    }

    /// Ends the operation, and settles its steps with it.
    async fn conclude(
        &self,
        task: &Task,
        state: OperationState,
        error: Option<Error>,
        instance: Option<crate::model::InstanceRecord>,
    ) -> OperationRecord {
        // What the operation made happen is told before its end.
        self.host.journal.flush().await;
        let mut record = task.report().record();
        record.state = state;
        record.ended = Some(SystemTime::now());
        record.error = error;
        // The database is asked until it answers: without the row, a restart would undo what the caller was told is done.
        let mut pause = Duration::from_millis(50);
        while let Err(e) = self
            .host
            .store
            .settle(record.clone(), instance.clone())
            .await
        {
            error!(error = %e, "the end of the operation cannot be written down, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        self.speak(&record);
        info!(?state, "operation ended");
        record
    }

    /// What a restart is made of was kept quiet: when it has failed, how the guest stands is news.
    fn speak(&self, ended: &OperationRecord) {
        if ended.state != OperationState::Succeeded && ended.verb.starts_anew() {
            self.host.hypervisor.reread();
        }
    }

    /// Ends an operation that could not be undone: its steps stay written down.
    async fn leave(&self, task: &Task, cause: Error) -> OperationRecord {
        self.host.journal.flush().await;
        let mut record = task.report().record();
        metrics::UNDO_FAILURES
            .of([record.verb.as_str()])
            .increment();
        record.state = OperationState::Failed;
        record.ended = Some(SystemTime::now());
        record.error = Some(cause);
        if let Err(e) = self.host.store.put_operation(record.clone()).await {
            error!(error = %e, "the end of the operation cannot be written down");
        }
        self.speak(&record);
        record
    }

    fn retire(&self, record: &OperationRecord, progress: watch::Receiver<Progress>) {
        let mut registry = self.registry.lock();
        registry.live.remove(&record.id);
        if let Some(instance) = record.instance {
            registry.holds.remove(&instance);
        }
        registry.ended.push_back((record.id, progress));
        while registry.ended.len() > REMEMBERED {
            registry.ended.pop_front();
        }
    }

    /// The operation that this request began before, if any.
    ///
    /// # Errors
    /// `Pending` while another holds the instance; `RequestIdReused`.
    pub async fn find(
        &self,
        key: &RequestKey,
        verb: Verb,
        instance: Option<InstanceId>,
    ) -> Result<Option<watch::Receiver<Progress>>> {
        if let Some(request) = key.request
            && let Some(record) = self.host.store.operation_of_request(request).await?
        {
            if record.fingerprint != key.fingerprint || record.verb != verb {
                return Err(OperationError::RequestIdReused(request).into());
            }
            return self.watch(record.id).await.map(Some);
        }
        let Some(instance) = instance else {
            return Ok(None);
        };
        let Some(holder) = self.holder(instance) else {
            return Ok(None);
        };
        let progress = self.watch(holder).await?;
        let record = progress.borrow().record.clone();
        if record.verb == verb && record.fingerprint == key.fingerprint {
            Ok(Some(progress))
        } else {
            Err(OperationError::Pending {
                operation: record.id,
                verb: record.verb,
                instance,
            }
            .into())
        }
    }

    /// The operation that holds the instance now.
    pub fn holder(&self, instance: InstanceId) -> Option<OperationId> {
        self.registry.lock().holds.get(&instance).copied()
    }

    /// The progress of an operation, running or ended.
    ///
    /// # Errors
    /// When there is none, or it was pruned.
    pub async fn watch(&self, id: OperationId) -> Result<watch::Receiver<Progress>> {
        if let Some(known) = self.remembered(id) {
            return Ok(known);
        }
        let record = self.host.store.operation(id).await?;
        let record = record.ok_or(OperationError::NotFound(id))?;
        // It may have begun between the two looks.
        Ok(self
            .remembered(id)
            .unwrap_or_else(|| Reporter::new(record).1))
    }

    fn remembered(&self, id: OperationId) -> Option<watch::Receiver<Progress>> {
        let registry = self.registry.lock();
        let live = registry.live.get(&id).map(|live| live.reporter.watch());
        let ended = || registry.ended.iter().rev().find(|(ended, _)| *ended == id);
        live.or_else(|| ended().map(|(_, progress)| progress.clone()))
    }

    /// Operations, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: OperationFilter) -> Result<Vec<OperationRecord>> {
        Ok(self.host.store.operations(filter).await?)
    }

    /// Asks an operation to stop: its present step ends, then what it did is undone. Success when it is stopping already.
    ///
    /// # Errors
    /// When there is none, or it has ended.
    pub async fn cancel(&self, id: OperationId) -> Result<watch::Receiver<Progress>> {
        let progress = self.watch(id).await?;
        let live = self
            .registry
            .lock()
            .live
            .get(&id)
            .map(|live| live.cancel.clone());
        let forward = progress.borrow().record.verb.only_goes_forward();
        let Some(cancel) = live.filter(|_| !forward) else {
            let cancelled = progress.borrow().record.state == OperationState::Cancelled;
            return if cancelled {
                Ok(progress)
            } else {
                Err(OperationError::NotCancellable(id).into())
            };
        };
        cancel.cancel();
        Ok(progress)
    }

    /// Whether the operation was asked to stop and has not ended yet.
    pub fn cancelling(&self, id: OperationId) -> bool {
        let registry = self.registry.lock();
        registry
            .live
            .get(&id)
            .is_some_and(|live| live.cancel.is_cancelled())
    }

    /// Whether operations may begin.
    pub fn gate(&self) -> Gate {
        self.registry.lock().gate
    }

    /// When callers were let in.
    pub fn opened(&self) -> Option<SystemTime> {
        self.registry.lock().opened
    }

    /// Whether something has the instance that starts its guest anew: then that is off only for a moment.
    pub fn restarts(&self, instance: InstanceId) -> bool {
        let registry = self.registry.lock();
        let holder = registry.holds.get(&instance);
        let live = holder.and_then(|holder| registry.live.get(holder));
        live.is_some_and(|live| live.reporter.record().verb.starts_anew())
    }

    /// How many operations run.
    pub fn running(&self) -> usize {
        self.registry.lock().live.len()
    }

    /// Begins nothing more, and waits at most `limit` for what runs. What is not done then is left to the next start.
    pub async fn drain(&self, limit: Duration) {
        self.registry.lock().gate = Gate::Draining;
        let mut work = self.work.lock().await;
        let all = async { while work.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            warn!(
                running = self.running(),
                "leaving running operations to the next start"
            );
        }
    }
}
