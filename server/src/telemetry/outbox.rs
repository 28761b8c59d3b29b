//! A bounded queue of what is to be sent. Whoever is full loses the newest, and counts it.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Counter, Gauge, TELEMETRY_DROPPED, TELEMETRY_QUEUED};

/// OpenTelemetry's own default: some four spawns a second for as long as a message may take.
pub(super) const QUEUE: usize = 2048;
/// The same: a message of some 100 kB.
pub(super) const BATCH: usize = 512;

/// The end that spans and records are put into, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Outbox<T> {
    tx: mpsc::Sender<T>,
    queued: &'static Gauge,
    dropped: &'static Counter,
}

/// The other end.
#[derive(Debug)]
pub(super) struct Outgoing<T> {
    rx: mpsc::Receiver<T>,
    queued: &'static Gauge,
}

/// A queue for this signal.
pub(super) fn outbox<T>(signal: &'static str) -> (Outbox<T>, Outgoing<T>) {
    let (tx, rx) = mpsc::channel(QUEUE);
    let queued = TELEMETRY_QUEUED.of([signal]);
    let dropped = TELEMETRY_DROPPED.of([signal]);
    (
        Outbox {
            tx,
            queued,
            dropped,
        },
        Outgoing { rx, queued },
    )
}

impl<T> Outbox<T> {
    /// Puts one in, or drops it. Never waits.
    pub(super) fn put(&self, item: T) {
        if self.tx.try_send(item).is_err() {
            self.dropped.increment();
        }
        self.queued.set(self.tx.max_capacity() - self.tx.capacity());
    }
}

impl<T> Outgoing<T> {
    /// The next batch: full, or what has come `interval` after its first. None when `stop` is cancelled and all is out.
    pub(super) async fn batch(
        &mut self,
        interval: Duration,
        stop: &CancellationToken,
    ) -> Option<Vec<T>> {
        let mut batch = Vec::new();
        // Biased: what is there is sent also after the stop.
        tokio::select! {
            biased;
            more = self.rx.recv_many(&mut batch, BATCH) => if more == 0 { return None },
            () = stop.cancelled() => self.rx.close(),
        }
        let full = async {
            let until = Instant::now() + interval;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                match timeout_at(until, self.rx.recv_many(&mut batch, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        };
        let stopped = tokio::select! {
            biased;
            () = full => false,
            () = stop.cancelled() => true,
        };
        if stopped {
            self.rx.close();
            let room = BATCH.saturating_sub(batch.len()).max(1);
            self.rx.recv_many(&mut batch, room).await;
        }
        self.queued.set(self.rx.len());
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pretty_assertions::assert_eq;
    use tokio_util::sync::CancellationToken;

    use super::{BATCH, QUEUE, outbox};
    use crate::metrics::{TELEMETRY_DROPPED, TELEMETRY_QUEUED};

    const INTERVAL: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_full_queue_loses_the_newest_and_counts_them() {
        let (outbox, mut outgoing) = outbox("test full");
        for number in 0..QUEUE + 7 {
            outbox.put(number);
        }
        assert_eq!(TELEMETRY_DROPPED.of(["test full"]).get(), 7);
        let stop = CancellationToken::new();
        let batch = outgoing.batch(INTERVAL, &stop).await.unwrap();
        assert_eq!(batch, (0..BATCH).collect::<Vec<_>>());
        let left = TELEMETRY_QUEUED.of(["test full"]);
        assert_eq!(format!("{left:?}"), format!("Gauge({})", QUEUE - BATCH));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_for_company_and_no_longer() {
        let (outbox, mut outgoing) = outbox("test few");
        let stop = CancellationToken::new();
        outbox.put(1);
        let since = tokio::time::Instant::now();
        assert_eq!(outgoing.batch(INTERVAL, &stop).await, Some(vec![1]));
        assert_eq!(since.elapsed(), INTERVAL);
    }

    #[tokio::test]
    async fn what_is_there_is_sent_after_the_stop_and_then_it_ends() {
        let (outbox, mut outgoing) = outbox("test stop");
        let stop = CancellationToken::new();
        for number in 0..BATCH + 1 {
            outbox.put(number);
        }
        stop.cancel();
        let mut sent = Vec::new();
        while let Some(batch) = outgoing.batch(INTERVAL, &stop).await {
            sent.extend(batch);
        }
        assert_eq!(sent, (0..=BATCH).collect::<Vec<_>>());
    }
}
