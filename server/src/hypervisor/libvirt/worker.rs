//! Threads that may block in libvirt, and the bounded queue before them.
//!
//! Every worker has its own line to the hypervisor: a call that hangs takes neither a connection's few request slots nor
//! another guest's turn with it. A worker whose call outlives its limit is given up and replaced, so that the pool never
//! starves; it leaves by itself when the call comes back. Only so many may be given up at a time: a hypervisor that
//! hangs as a whole must not be fed with threads.
//!
//! ```text
//!   submit ──▶ queue ──▶ worker ──▶ libvirt
//!     │ full: Busy         │ over its limit: given up, a fresh one takes its place
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use parking_lot::{Condvar, Mutex};
use tracing::{error, warn};

use super::line::Line;
use crate::metrics::{self, Counter, Gauge, Histogram, Soon};

/// What a worker does; it says through its own channel how it went.
pub(super) type Job = Box<dyn FnOnce(&mut Line) + Send>;

/// The size of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Threads at work.
    pub(super) workers: usize,
    /// Jobs that may wait.
    pub(super) queue: usize,
    /// Threads that may be given up at a time.
    pub(super) given_up: usize,
}

/// The queue is full, or the pool ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

struct Waiting {
    job: Job,
    since: Instant,
    limit: Instant,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// Limits of the jobs at work, by worker.
    running: HashMap<u64, Instant>,
    given_up: HashSet<u64>,
    hired: u64,
    closed: bool,
}

/// Some threads behind one queue.
pub(super) struct Pool {
    name: &'static str,
    size: Size,
    state: Mutex<State>,
    work: Condvar,
    meters: Meters,
}

/// What the pool tells of itself.
struct Meters {
    wait: &'static Histogram<Soon>,
    queued: &'static Gauge,
    running: &'static Gauge,
    abandoned: &'static Gauge,
    rejections: &'static Counter,
}

impl Meters {
    fn of(pool: &'static str) -> Self {
        Self {
            wait: metrics::POOL_WAIT.of([pool]),
            queued: metrics::POOL_QUEUED.of([pool]),
            running: metrics::POOL_RUNNING.of([pool]),
            abandoned: metrics::POOL_ABANDONED.of([pool]),
            rejections: metrics::POOL_REJECTIONS.of([pool]),
        }
    }

    fn see(&self, state: &State) {
        self.queued.set(state.queue.len());
        self.running.set(state.running.len() - state.given_up.len());
        self.abandoned.set(state.given_up.len());
    }
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start(name: &'static str, size: Size) -> io::Result<Arc<Self>> {
        let pool = Arc::new(Self {
            name,
            size,
            state: Mutex::default(),
            work: Condvar::new(),
            meters: Meters::of(name),
        });
        for _ in 0..size.workers {
            pool.hire(&mut pool.state.lock())?;
        }
        Ok(pool)
    }

    /// Puts a job in the queue. It is dropped unrun when `limit` passes first.
    pub(super) fn submit(self: &Arc<Self>, job: Job, limit: Instant) -> Result<(), Full> {
        let mut state = self.state.lock();
        self.give_up_late(&mut state, Instant::now());
        if state.closed || state.queue.len() >= self.size.queue {
            self.meters.rejections.increment();
            return Err(Full);
        }
        let since = Instant::now();
        state.queue.push_back(Waiting { job, since, limit });
        self.meters.see(&state);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Replaces workers whose call is over its limit. To be called now and then.
    pub(super) fn tend(self: &Arc<Self>) {
        self.give_up_late(&mut self.state.lock(), Instant::now());
    }

    /// Lets the workers go, each after its present job; what waits is dropped.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        drop(dropped);
        self.work.notify_all();
    }

    fn hire(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let (pool, me) = (self.clone(), state.hired);
        thread::Builder::new()
            .name(format!("{}-{me}", self.name))
            .spawn(move || pool.work(me))?;
        state.hired += 1;
        Ok(())
    }

    fn give_up_late(self: &Arc<Self>, state: &mut State, now: Instant) {
        let late = |(me, limit): (&u64, &Instant)| (*limit < now).then_some(*me);
        let late: Vec<u64> = state.running.iter().filter_map(late).collect();
        for me in late {
            if state.given_up.contains(&me) || state.given_up.len() >= self.size.given_up {
                continue;
            }
            match self.hire(state) {
                Ok(()) => state.given_up.insert(me),
                Err(e) => return error!(error = %e, pool = self.name, "cannot replace a worker"),
            };
            warn!(
                pool = self.name,
                given_up = state.given_up.len(),
                "a call hangs; its worker is replaced"
            );
        }
        self.meters.see(state);
    }

    fn work(&self, me: u64) {
        let mut line = Line::default();
        while let Some(job) = self.next(me) {
            // `virt` panics when libvirt refuses to count a reference; that must cost one call, not the worker.
            let ran = catch_unwind(AssertUnwindSafe(|| job(&mut line)));
            if ran.is_err() {
                error!(pool = self.name, "a hypervisor call panicked");
            }
            if !self.finish(me) {
                break;
            }
        }
    }

    fn next(&self, me: u64) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            match state.queue.pop_front() {
                // Its caller has had the answer that it came too late; running it would only add to the load.
                Some(late) if late.limit < Instant::now() => drop(late),
                Some(Waiting { job, since, limit }) => {
                    state.running.insert(me, limit);
                    self.meters.wait.record(since.elapsed());
                    self.meters.see(&state);
                    return Some(job);
                }
                None => self.work.wait(&mut state),
            }
        }
    }

    /// Whether the worker still has its place.
    fn finish(&self, me: u64) -> bool {
        let mut state = self.state.lock();
        state.running.remove(&me);
        let given_up = state.given_up.remove(&me);
        self.meters.see(&state);
        !given_up
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("waiting", &state.queue.len())
            .field("running", &state.running.len())
            .field("given_up", &state.given_up.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
