//! Answers that cost something, shared by all who ask within a while.

use std::time::Duration;

use computedriver::v1;
use tokio::{sync::Mutex, time::Instant};

use crate::error::Result;

/// How old the host's counters may be.
pub(super) const STATS: Duration = Duration::from_secs(10);

/// The last answers.
#[derive(Debug, Default)]
pub(in crate::api) struct Recent {
    /// What the host has and uses.
    pub(super) stats: Answer<v1::HostStats>,
    /// What the host has left.
    pub(super) resource: Answer<v1::AvailableResource>,
}

/// The last answer to a question.
#[derive(Debug)]
pub(super) struct Answer<T> {
    // Held while the question is asked, so that those who come meanwhile share its answer.
    last: Mutex<Option<(Instant, T)>>,
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self {
            last: Mutex::new(None),
        }
    }
}

impl<T: Clone> Answer<T> {
    /// The last answer when it is younger than `age`, else a new one.
    pub(super) async fn get(
        &self,
        age: Duration,
        ask: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, answer)) if at.elapsed() < age => Ok(answer.clone()),
            _ => {
                let answer = ask.await?;
                *last = Some((Instant::now(), answer.clone()));
                Ok(answer)
            }
        }
    }

    /// A new answer.
    pub(super) async fn renew(&self, ask: impl Future<Output = Result<T>>) -> Result<T> {
        // Asked without the lock: many who want it new do not wait in a row.
        let answer = ask.await?;
        *self.last.lock().await = Some((Instant::now(), answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::Error;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_shared_for_a_while() {
        let (answer, asked) = (Answer::default(), Cell::new(0));
        let ask = || async {
            asked.set(asked.get() + 1);
            Ok(asked.get())
        };
        let age = Duration::from_secs(10);
        assert_eq!(answer.get(age, ask()).await.unwrap(), 1);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(answer.get(age, ask()).await.unwrap(), 1);
        assert_eq!(answer.renew(ask()).await.unwrap(), 2);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(answer.get(age, ask()).await.unwrap(), 2);
        tokio::time::advance(Duration::from_secs(2)).await;
        let failed = async { Err(Error::internal("no")) };
        assert!(answer.get(age, failed).await.is_err());
        assert_eq!(answer.get(age, ask()).await.unwrap(), 3);
    }
}
