//! One call to libvirt: which threads it is for, what it is about, and how long it may take.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::debug;
use virt::connect::Connect;

use super::{
    Libvirt,
    call_watch::CallWatch,
    fault::Fault,
    handles::Handles,
    line,
    worker::{self, Pool},
};
use crate::{
    hypervisor::{HypervisorError, Result},
    model::InstanceId,
};

/// Starting and stopping a guest may take so many times as long as any other call: QEMU has to start, or to die.
const SLOW_LIMIT: u32 = 4;
/// A TB of memory over a disk of 300 MB/s; whoever is impatient cancels.
const LONG_LIMIT: Duration = Duration::from_secs(3600);

/// Which threads a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Cheap,
    Slow,
    Long,
    Monitor,
    Agent,
}

/// A call by its kind, libvirt's name for it, and the guest it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) guest: Option<InstanceId>,
    /// Whether it may change the guest: what was read of that before is not believed afterwards.
    changes: bool,
}

impl Call {
    /// One that may change the guest.
    pub(super) const fn of(kind: Kind, name: &'static str, guest: InstanceId) -> Self {
        Self {
            kind,
            name,
            guest: Some(guest),
            changes: true,
        }
    }

    /// One that only reads.
    pub(super) const fn reading(kind: Kind, name: &'static str, guest: InstanceId) -> Self {
        Self {
            changes: false,
            ..Self::of(kind, name, guest)
        }
    }

    /// One that is about no guest, or reads all of them.
    pub(super) const fn plain(kind: Kind, name: &'static str) -> Self {
        Self {
            kind,
            name,
            guest: None,
            changes: false,
        }
    }
}

impl Libvirt {
    /// Runs `f` on a thread that may block: `Unavailable` at once while the link is not up, `Busy` at once when the
    /// queue is full, `Timeout` when its time is over. Look-up and action share one closure, so that handles of libvirt's
    /// are born and dropped on the same worker.
    ///
    /// # Cancel safety
    /// A call that is dropped before its turn never runs; one that runs goes on.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: Call,
        f: impl FnOnce(&Connect) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        self.call_again(call, |conn, _| f(conn)).await
    }

    /// The same, with the handles that the worker has kept of earlier calls.
    pub(super) async fn call_again<T: Send + 'static>(
        &self,
        call: Call,
        f: impl FnOnce(&Connect, &mut Handles) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let route = self.exchange.route()?;
        let (pool, limit) = self.threads(call.kind);
        let (answer_tx, answer_rx) = oneshot::channel();
        let watch = CallWatch::new(call.name);
        let watched = watch.clone();
        let changed = call.guest.filter(|_| call.changes);
        let change = changed.map(|guest| self.exchange.known.change(guest));
        let job = move |line: &mut line::Line| {
            // Ends before anybody learns that the call has, and also when it panics.
            let change = change;
            if answer_tx.is_closed() {
                return watched.refuse();
            }
            watched.begin();
            let done = line
                .connect(&route)
                .and_then(|(conn, handles)| f(conn, handles));
            if done.as_ref().is_err_and(Fault::is_loss) {
                line.hang_up();
            }
            watched.end(if done.is_ok() { "ok" } else { "failed" });
            drop(change);
            // When nobody waits any more, what was done is seen by whoever looks next.
            let _ = answer_tx.send(done);
        };
        let deadline = Instant::now() + limit;
        pool.submit(Box::new(job), deadline)
            .map_err(|worker::Full| {
                watch.refuse();
                HypervisorError::Busy
            })?;
        let answer = tokio::time::timeout(limit, answer_rx).await;
        match answer {
            Ok(Ok(done)) => done.map_err(|fault| self.judge(fault, call)),
            // The worker panicked, or the pool ended.
            Ok(Err(_)) if Instant::now() < deadline => {
                watch.end("failed");
                Err(HypervisorError::Failed {
                    call: call.name,
                    message: "the call was lost".to_owned(),
                    code: 0,
                    domain: 0,
                })
            }
            // The guest was never asked: others kept the threads.
            _ if call.kind == Kind::Monitor && !watch.has_begun() => {
                watch.refuse();
                Err(HypervisorError::Busy)
            }
            // Its time was over, before its turn or in it.
            Ok(Err(_)) | Err(_) => {
                watch.end("timeout");
                Err(HypervisorError::Timeout {
                    call: call.name,
                    limit,
                })
            }
        }
    }

    fn threads(&self, kind: Kind) -> (&std::sync::Arc<Pool>, Duration) {
        match kind {
            Kind::Cheap => (&self.cheap, self.call_timeout),
            Kind::Slow => (&self.slow, self.call_timeout * SLOW_LIMIT),
            Kind::Long => (&self.long, LONG_LIMIT),
            Kind::Monitor => (&self.monitor, self.monitor_timeout),
            Kind::Agent => (&self.agent, self.agent_limit()),
        }
    }

    fn judge(&self, fault: Fault, call: Call) -> HypervisorError {
        if fault.is_loss() {
            self.exchange.suspect();
        }
        let error = fault.into_error(call.name, call.guest);
        debug!(call = call.name, %error, "libvirt did not do it");
        error.public()
    }
}
