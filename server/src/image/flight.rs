//! One piece of work for all who ask for the same at once.
//!
//! ```text
//! join(key) ──▶ a flight goes on? ── yes ──▶ wait with the others
//!                    │ no
//!                    └──▶ start it as a task of its own ──▶ wait
//! ```
//!
//! The work belongs to nobody who waits: one that leaves changes nothing for the others, and when the last has left,
//! the work is dropped.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// How far a flight is.
#[derive(Clone, Debug)]
pub(super) enum Stage<P, R> {
    Going(Option<P>),
    Ended(R),
}

/// Those who wait keep a flight alive; this only knows it.
type Going<K, P, R> = HashMap<K, Weak<Flight<P, R>>>;

/// The flights that go on.
#[derive(Debug)]
pub(super) struct Flights<K, P, R> {
    going: Arc<Mutex<Going<K, P, R>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Flight<P, R> {
    stage_rx: watch::Receiver<Stage<P, R>>,
    /// Ends the work when the last who waits has gone.
    _drop_when_alone: DropGuard,
}

impl<K, P, R> Flights<K, P, R>
where
    K: Clone + Eq + Hash + Send + 'static,
    P: Copy + Send + Sync + 'static,
    R: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self {
            going: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Waits for the flight of `key`, started by `work` unless it goes on already. None when it was given up.
    pub(super) async fn join<W>(
        &self,
        key: K,
        work: impl FnOnce(watch::Sender<Stage<P, R>>) -> W,
        mut show: impl FnMut(P),
    ) -> Option<R>
    where
        W: Future<Output = R> + Send + 'static,
    {
        let flight = self.board(key, work);
        let mut stage_rx = flight.stage_rx.clone();
        loop {
            let stage = stage_rx.borrow_and_update().clone();
            match stage {
                Stage::Going(progress) => progress.into_iter().for_each(&mut show),
                Stage::Ended(result) => return Some(result),
            }
            stage_rx.changed().await.ok()?;
        }
    }

    fn board<W>(
        &self,
        key: K,
        work: impl FnOnce(watch::Sender<Stage<P, R>>) -> W,
    ) -> Arc<Flight<P, R>>
    where
        W: Future<Output = R> + Send + 'static,
    {
        let mut going = self.going.lock();
        if let Some(flight) = going.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        let (stage_tx, stage_rx) = watch::channel(Stage::Going(None));
        let cancel = self.stop.child_token();
        let flight = Arc::new(Flight {
            stage_rx,
            _drop_when_alone: cancel.clone().drop_guard(),
        });
        going.insert(key.clone(), Arc::downgrade(&flight));
        let (all, own) = (self.going.clone(), Arc::downgrade(&flight));
        let work = work(stage_tx.clone());
        self.tasks.spawn(async move {
            let result = cancel.run_until_cancelled(work).await;
            // Off the board before the result is told: who asks from now on starts anew.
            let mut going = all.lock();
            if going.get(&key).is_some_and(|there| there.ptr_eq(&own)) {
                going.remove(&key);
            }
            drop(going);
            if let Some(result) = result {
                stage_tx.send_replace(Stage::Ended(result));
            }
        });
        flight
    }

    /// Gives up all flights and waits until they have let go of everything.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn one_that_leaves_changes_nothing_and_the_last_ends_it() {
        let flights = Flights::<_, u8, u8>::new();
        let (go_tx, go_rx) = oneshot::channel::<()>();
        let mut first =
            Box::pin(flights.join(1, |_| async { go_rx.await.map_or(0, |()| 7) }, |_| {}));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.join(1, |_| async { unreachable!() }, |_| {}));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        go_tx.send(()).unwrap();
        assert_eq!(second.await, Some(7));

        let (mut gone_tx, gone_rx) = oneshot::channel::<()>();
        let work = |_| async move {
            let _held = gone_rx;
            std::future::pending().await
        };
        let mut only = Box::pin(flights.join(1, work, |_| {}));
        assert!(futures::poll!(&mut only).is_pending());
        drop(only);
        gone_tx.closed().await;
    }

    #[tokio::test]
    async fn a_result_is_told_once_and_the_next_starts_anew() {
        let (flights, runs) = (Flights::<_, u8, _>::new(), AtomicUsize::new(0));
        let run = || {
            flights.join(
                "k",
                |_| std::future::ready(runs.fetch_add(1, Ordering::Relaxed)),
                |_| {},
            )
        };
        assert_eq!((run().await, run().await), (Some(0), Some(1)));
        flights.close().await;
        assert_eq!(
            flights.join("k", |_| std::future::pending(), |_| {}).await,
            None
        );
    }
}
