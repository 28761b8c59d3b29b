//! One run of a recipe: begins steps, and takes them back.
//!
//!   run(step) ── written down ──▶ applied ──▶ … ──▶ settled by the operation
//!                     │              │
//!                     └── a failure, a cancel or a crash ──▶ unwind: newest first, each struck when taken back
//!
//! A step is on disk before it is applied, so a crash between the two costs one needless revert and never a leak. A step
//! that failed half-way is reverted like the others. When the hypervisor cannot be asked, the unwinding waits for it: a
//! guest that may still run must keep its disks. When a revert fails for good, unwinding stops there, because what lies
//! below may still be in use; the steps stay written down for a destroy or the next start.

mod progress;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, error, field::Empty, info, warn};

pub use progress::{Progress, Reporter};

use crate::{
    error::{Error, Kind, Result},
    host::Host,
    model::{InstanceRecord, OperationId, Phase},
    store::BegunStep,
};

/// What a step may use while it is applied.
#[derive(Clone, Copy, Debug)]
pub struct Cx<'a> {
    /// The host to change.
    pub host: &'a Host,
    /// Where to tell how far it is.
    pub report: &'a Reporter,
    /// Told when the caller asked to stop; a long step heeds it.
    pub cancel: &'a CancellationToken,
}

/// One change to the host and the way to take it back.
///
/// The step itself is data: serialised it is written down, and after a crash read back to be reverted. What must not be
/// stored is skipped there; `revert` does without it.
#[async_trait]
pub trait Step: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What the change yields.
    type Output: Send;
    /// Its name, as written down; never changed once released.
    const NAME: &'static str;
    /// The phase that callers see meanwhile.
    const PHASE: Phase;

    /// Makes the change.
    async fn apply(&self, cx: Cx<'_>) -> Result<Self::Output>;

    /// Succeeds when nothing, part or all of `apply` happened, and when called twice.
    async fn revert(&self, host: &Host) -> Result<()>;
}

/// A step of which only the way back is of interest.
#[async_trait]
trait Undo: Send + Sync {
    fn name(&self) -> &'static str;
    async fn undo(&self, host: &Host) -> Result<()>;
}

#[async_trait]
impl<S: Step> Undo for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    async fn undo(&self, host: &Host) -> Result<()> {
        self.revert(host).await
    }
}

/// A step as read back from the store.
pub struct Begun {
    number: u32,
    step: Arc<dyn Undo>,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number, self.step.name())
    }
}

impl Begun {
    /// Reads back a step of type `S`.
    ///
    /// # Errors
    /// When the row does not read as one.
    pub fn read<S: Step>(row: &BegunStep) -> Result<Self> {
        let step: S = serde_json::from_str(&row.body)
            .map_err(|e| Error::internal(format!("step {} does not read: {e}", row.name)))?;
        Ok(Self {
            number: row.number,
            step: Arc::new(step),
        })
    }
}

/// One run of a recipe.
#[derive(Debug)]
pub struct Task {
    host: Arc<Host>,
    operation: OperationId,
    report: Reporter,
    cancel: CancellationToken,
    begun: Vec<Begun>,
    kept: Option<InstanceRecord>,
    fail_at: Option<usize>,
}

/// A first pause between two tries of a revert; it doubles.
const REVERT_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause: a hypervisor that is back is noticed within this.
const REVERT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Tries of a revert that fails for another reason than an absent or overloaded hypervisor.
const REVERT_TRIES: u32 = 4;
/// Tries while it is overloaded, or somebody is at work on the guest, some 40 s: a guest that hangs is not waited for.
const REVERT_WAITS: u32 = 12;

impl Task {
    /// A run that has begun nothing.
    pub fn new(
        host: Arc<Host>,
        operation: OperationId,
        report: Reporter,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            host,
            operation,
            report,
            cancel,
            begun: Vec::new(),
            kept: None,
            fail_at: None,
        }
    }

    /// A run of an earlier life, of which only the steps are known.
    pub fn resumed(
        host: Arc<Host>,
        operation: OperationId,
        report: Reporter,
        begun: Vec<Begun>,
    ) -> Self {
        Self {
            host,
            operation,
            report,
            cancel: CancellationToken::new(),
            begun,
            kept: None,
            fail_at: None,
        }
    }

    /// Makes the `nth` step fail after it was applied: for the tests that fail each step.
    #[must_use]
    pub fn failing_at(mut self, nth: usize) -> Self {
        self.fail_at = Some(nth);
        self
    }

    /// The host that this run changes.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Where this run tells how far it is.
    pub fn report(&self) -> &Reporter {
        &self.report
    }

    /// Told when the caller asked to stop.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The instance as it is from now on: written down with the operation's end, if that is a good one.
    pub fn keep(&mut self, record: InstanceRecord) {
        self.kept = Some(record);
    }

    /// What was given to [`Task::keep`] last.
    pub fn kept(&mut self) -> Option<InstanceRecord> {
        self.kept.take()
    }

    /// What the caller is told beside the instance, now and whenever the request is repeated. Never a secret.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn answer(&self, answer: &impl Serialize) -> Result<()> {
        let answer = serde_json::to_value(answer);
        let answer = answer.map_err(|e| Error::internal(format!("the answer is no JSON: {e}")))?;
        self.report.stand(|record| record.answer = Some(answer));
        Ok(())
    }

    /// How many steps were begun.
    pub fn steps(&self) -> usize {
        self.begun.len()
    }

    /// Writes the step down, then applies it.
    ///
    /// # Errors
    /// The step's own failure, with its phase; `Cancelled` when the caller asked to stop before it.
    pub async fn run<S: Step>(&mut self, step: S) -> Result<S::Output> {
        if self.cancel.is_cancelled() {
            return Err(cancelled().in_phase(S::PHASE));
        }
        let number =
            u32::try_from(self.begun.len()).map_err(|_| Error::internal("too many steps"))?;
        let body = serde_json::to_string(&step).map_err(|e| {
            Error::internal(format!("step {} cannot be written down: {e}", S::NAME))
        })?;
        let row = BegunStep {
            number,
            name: S::NAME.to_owned(),
            body,
        };
        self.host
            .store
            .begin_step(self.operation, row)
            .await
            .map_err(Error::from)?;
        debug!(operation = %self.operation, step = S::NAME, "step begun");
        let step = Arc::new(step);
        self.begun.push(Begun {
            number,
            step: step.clone(),
        });
        self.report.begin(S::PHASE, S::NAME);
        let cx = Cx {
            host: &self.host,
            report: &self.report,
            cancel: &self.cancel,
        };
        let span = debug_span!("step", step = S::NAME, outcome = Empty);
        let applied = step.apply(cx).instrument(span.clone()).await;
        if applied.is_err() {
            span.record("outcome", "failed");
        }
        let output = applied.map_err(|e| e.in_phase(S::PHASE))?;
        if self.fail_at == Some(self.begun.len() - 1) {
            return Err(Error::internal("told to fail here").in_phase(S::PHASE));
        }
        self.report.end(S::PHASE);
        Ok(output)
    }

    /// Reverts all that was begun, newest first.
    ///
    /// # Errors
    /// When a revert fails for good; that step and those before it stay written down.
    pub async fn unwind(&mut self) -> Result<()> {
        while let Some(begun) = self.begun.last() {
            info!(operation = %self.operation, step = begun.step.name(), "taking back");
            self.revert(begun).await?;
            let struck = self.host.store.end_step(self.operation, begun.number).await;
            if let Err(e) = struck {
                // It is reverted once more at the next start, which is allowed.
                warn!(operation = %self.operation, error = %e, "a reverted step could not be struck");
            }
            self.begun.pop();
        }
        Ok(())
    }

    async fn revert(&self, begun: &Begun) -> Result<()> {
        let (mut pause, mut tries, mut waits) = (REVERT_PAUSE, 0, 0);
        loop {
            let span = debug_span!("undo", step = begun.step.name());
            let Err(e) = begun.step.undo(&self.host).instrument(span).await else {
                return Ok(());
            };
            tries += u32::from(!e.passes());
            waits += u32::from(e.passes() && !e.is_away());
            if tries >= REVERT_TRIES || waits >= REVERT_WAITS {
                error!(operation = %self.operation, step = begun.step.name(), error = %e, "cannot be taken back");
                return Err(e.with("step", begun.step.name()));
            }
            warn!(operation = %self.operation, step = begun.step.name(), error = %e, "taking back failed, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REVERT_PAUSE_MAX);
        }
    }
}

/// The caller asked to stop.
pub fn cancelled() -> Error {
    Error::new(
        Kind::Cancelled,
        "OPERATION_CANCELLED",
        "the operation was cancelled; what it had done is undone",
    )
}
