//! Which calls of the fake fail, are held back, or were made.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::hypervisor::{HypervisorError, Result};

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So many times, then no more.
    Next(u32),
    /// Until [`super::Fake::heal`].
    Always,
}

/// Holds one call back until it is dropped.
#[derive(Debug)]
pub struct Gate {
    waiting: watch::Receiver<usize>,
    _open: watch::Sender<()>,
}

impl Gate {
    /// Returns once a call waits at the gate.
    pub async fn reached(&mut self) {
        // An error means that the gate was replaced by another: nobody will come here any more.
        if self.waiting.wait_for(|count| *count > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug)]
struct Held {
    waiting: watch::Sender<usize>,
    open: watch::Receiver<()>,
}

#[derive(Debug)]
struct Fault {
    left: Times,
    error: HypervisorError,
}

/// What the fake was told to do wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    before: Mutex<HashMap<&'static str, Fault>>,
    after: Mutex<HashMap<&'static str, Fault>>,
    held: Mutex<HashMap<&'static str, Held>>,
    calls: Mutex<Vec<&'static str>>,
}

impl Faults {
    pub(super) fn fail(&self, call: &'static str, left: Times, error: HypervisorError) {
        self.before.lock().insert(call, Fault { left, error });
    }

    pub(super) fn fail_after(&self, call: &'static str, left: Times, error: HypervisorError) {
        self.after.lock().insert(call, Fault { left, error });
    }

    pub(super) fn heal(&self) {
        self.before.lock().clear();
        self.after.lock().clear();
    }

    pub(super) fn hold(&self, call: &'static str) -> Gate {
        let (waiting_tx, waiting_rx) = watch::channel(0);
        let (open_tx, open_rx) = watch::channel(());
        let held = Held {
            waiting: waiting_tx,
            open: open_rx,
        };
        self.held.lock().insert(call, held);
        Gate {
            waiting: waiting_rx,
            _open: open_tx,
        }
    }

    pub(super) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().clone()
    }

    pub(super) fn forget_calls(&self) {
        self.calls.lock().clear();
    }

    /// Before the effect of a call.
    pub(super) async fn enter(&self, call: &'static str) -> Result<()> {
        self.calls.lock().push(call);
        let open = self.held.lock().get(call).map(|held| {
            held.waiting.send_modify(|count| *count += 1);
            held.open.clone()
        });
        if let Some(mut open) = open {
            // Nothing is ever sent: the only change is the gate's end.
            while open.changed().await.is_ok() {}
        }
        due(&mut self.before.lock(), call)
    }

    /// After the effect of a call.
    pub(super) fn leave(&self, call: &'static str) -> Result<()> {
        due(&mut self.after.lock(), call)
    }
}

fn due(faults: &mut HashMap<&'static str, Fault>, call: &'static str) -> Result<()> {
    let Some(fault) = faults.get_mut(call) else {
        return Ok(());
    };
    match &mut fault.left {
        Times::Always => {}
        Times::Next(0) => return Ok(()),
        Times::Next(left) => *left -= 1,
    }
    Err(fault.error.clone())
}
