//! A worker's connection to the hypervisor, opened when it is first needed and again after each loss: its own, or the one
//! that all share.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::warn;
use virt::connect::Connect;

use super::{fault::Fault, ffi, handles::Handles};

/// A connection whose end does not panic.
#[derive(Debug)]
pub(super) struct Conn(Option<Connect>);

impl Conn {
    /// Opens one. Blocks.
    pub(super) fn open(uri: &str) -> Result<Self, virt::error::Error> {
        Connect::open(Some(uri)).map(|conn| Self(Some(conn)))
    }

    /// The connection itself.
    pub(super) fn get(&self) -> &Connect {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let conn = self.0.take();
        // `virt` panics when libvirt refuses to close, as it may after the other end went away.
        if catch_unwind(AssertUnwindSafe(|| drop(conn))).is_err() {
            warn!("libvirt did not let a connection go");
        }
    }
}

/// Where the workers' connections lead, as long as the link is up.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Grows each time the link comes up: connections of an earlier time are dead.
    pub(super) epoch: u64,
    /// What to open.
    pub(super) uri: Arc<str>,
    /// The connection that all share, for drivers that must not be opened again and again.
    pub(super) shared: Option<Arc<Conn>>,
    /// What keeps secrets, where that is not the same connection.
    pub(super) secrets: Option<Keeper>,
}

/// A connection that keeps secrets, for guests that threads of this process start.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    conn: Arc<Conn>,
    /// Whether a thread was found that libvirt gives none of them: a guest that needs one may not start there.
    shut: Arc<AtomicBool>,
}

impl Keeper {
    pub(super) fn new(conn: Conn) -> Self {
        Self {
            conn: Arc::new(conn),
            shut: Arc::default(),
        }
    }

    /// The connection itself.
    pub(super) fn get(&self) -> &Connect {
        self.conn.get()
    }

    /// Whether every thread so far may start guests with secrets.
    pub(super) fn is_open(&self) -> bool {
        !self.shut.load(Ordering::Acquire)
    }

    /// Lets the calling thread start guests with secrets.
    fn admit(&self) {
        if !ffi::identity::assume(self.get()) {
            self.shut();
        }
    }

    fn shut(&self) {
        if !self.shut.swap(true, Ordering::AcqRel) {
            warn!(
                "no guest is started that needs a volume's secret: libvirt gives one of our threads no identity"
            );
        }
    }
}

/// A worker's connection, and what it keeps of it.
#[derive(Debug, Default)]
pub(super) struct Line(Option<Open>);

#[derive(Debug)]
struct Open {
    epoch: u64,
    // Dropped before the connection: libvirt holds one open for as long as there are handles of it.
    handles: Handles,
    conn: Arc<Conn>,
    // The thread knows it by its address.
    _keeper: Option<Keeper>,
}

impl Line {
    /// The connection, opened if need be. Blocks.
    pub(super) fn connect(&mut self, route: &Route) -> Result<(&Connect, &mut Handles), Fault> {
        let stale = self.0.as_ref().is_none_or(|open| open.epoch != route.epoch);
        if stale {
            self.0 = None;
            if let Some(keeper) = &route.secrets {
                // Without this, no guest whose disk has a secret starts on this thread.
                keeper.admit();
            }
            let conn = match &route.shared {
                Some(conn) => conn.clone(),
                None => Arc::new(Conn::open(&route.uri).map_err(|e| Fault::unreachable(&e))?),
            };
            self.0 = Some(Open {
                epoch: route.epoch,
                handles: Handles::default(),
                conn,
                _keeper: route.secrets.clone(),
            });
        }
        match &mut self.0 {
            Some(open) => Ok((open.conn.get(), &mut open.handles)),
            None => unreachable!("just put there"),
        }
    }

    /// Forgets a connection that failed as such.
    pub(super) fn hang_up(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_one_thread_cannot_ask_keeps_nothing_for_anybody() {
        let keeper = Keeper::new(Conn::open("test:///default").unwrap());
        let same = keeper.clone();
        assert!(same.is_open());
        keeper.shut();
        keeper.shut();
        assert!(!same.is_open());
    }
}
