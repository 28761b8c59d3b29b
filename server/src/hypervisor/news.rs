//! What the hypervisor tells by itself, in order, on its way to the one who writes it down.
//!
//! The teller is often libvirt's event thread, which must not wait: the queue is bounded, and when it is full the news is
//! dropped and that is remembered. The listener learns of it once it has come that far, and has all guests read anew.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::model::{Event, InstanceId, PowerState};

/// A host of a thousand guests that is read anew tells a thousand things at once; a database that is stuck for a minute
/// holds back some more. About 4 MB when full.
const QUEUE: usize = 16 << 10;

/// Something that the hypervisor told, or that was read of it.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It can be asked; all guests are being read.
    Up,
    /// All guests that can be read have been, and calls are answered.
    Read,
    /// It can no longer be asked.
    Down,
    /// Something happened to a guest.
    Event(Event),
    /// A guest was read. Nothing older about it follows.
    Observed {
        /// Which.
        guest: InstanceId,
        /// Its power.
        power: PowerState,
        /// Whether its agent is there; none when that could not be read.
        agent: Option<bool>,
    },
}

/// The telling end.
#[derive(Debug)]
pub(crate) struct Herald {
    news_tx: Mutex<mpsc::Sender<News>>,
    missed: Arc<AtomicBool>,
    hearing: Mutex<Option<Hearing>>,
    capacity: usize,
}

impl Herald {
    pub(crate) fn new(capacity: usize) -> Self {
        let (news_tx, news_rx) = mpsc::channel(capacity);
        let missed = Arc::<AtomicBool>::default();
        let hearing = Hearing {
            news_rx,
            missed: missed.clone(),
        };
        Self {
            news_tx: Mutex::new(news_tx),
            missed,
            hearing: Mutex::new(Some(hearing)),
            capacity,
        }
    }

    /// Tells it. Never waits.
    pub(crate) fn tell(&self, news: News) {
        use mpsc::error::TrySendError::{Closed, Full};
        match self.news_tx.lock().try_send(news) {
            // Nobody is there to miss it.
            Ok(()) | Err(Closed(_)) => {}
            Err(Full(_)) => self.missed.store(true, Ordering::Release),
        }
    }

    /// The hearing end, with all that was told so far. The second to ask takes over from the first, and hears only what
    /// is told from now on: false.
    pub(crate) fn hear(&self) -> (Hearing, bool) {
        if let Some(first) = self.hearing.lock().take() {
            return (first, true);
        }
        let (news_tx, news_rx) = mpsc::channel(self.capacity);
        *self.news_tx.lock() = news_tx;
        let missed = self.missed.clone();
        (Hearing { news_rx, missed }, false)
    }
}

impl Default for Herald {
    fn default() -> Self {
        Self::new(QUEUE)
    }
}

/// The hearing end.
#[derive(Debug)]
pub struct Hearing {
    news_rx: mpsc::Receiver<News>,
    missed: Arc<AtomicBool>,
}

impl Hearing {
    /// Waits until there is news, and takes at most `limit` of it. Nothing when no more can come.
    ///
    /// # Cancel safety
    /// What was not returned is still there.
    pub async fn next(&mut self, limit: usize) -> Vec<News> {
        let mut news = Vec::new();
        self.news_rx.recv_many(&mut news, limit).await;
        news
    }

    /// What is there now, at most `limit` of it.
    pub fn take(&mut self, limit: usize) -> Vec<News> {
        std::iter::from_fn(|| self.news_rx.try_recv().ok())
            .take(limit)
            .collect()
    }

    /// Whether there is nothing now.
    pub fn is_empty(&self) -> bool {
        self.news_rx.is_empty()
    }

    /// Whether news was dropped since this was last asked.
    pub fn missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_holds_nobody_up_and_tells_that_something_is_missing() {
        let herald = Herald::new(2);
        let (mut hearing, _) = herald.hear();
        for _ in 0..3 {
            herald.tell(News::Up);
        }
        assert_eq!(hearing.next(8).await.len(), 2);
        assert!(hearing.missed());
        assert!(!hearing.missed());
    }
}
