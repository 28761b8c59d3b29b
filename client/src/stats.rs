//! Batches of counters put together: what is known of every instance now, and how fast its counters grow.
//!
//! Nothing here waits or asks: batches go in, the view comes out. A rate is known only where two readings of one
//! counter allow it: both of one life of the guest, the later one not smaller, time between them. Anything else is
//! absent, never zero and never a guess.

mod meter;
mod usage;

use std::collections::BTreeMap;
use std::mem;

use computedriver::v1;
use computedriver::v1::SampleStatus;
use prost_types::Timestamp;

pub use usage::{InstanceUsage, Rates, Standing};

/// What is known of every instance, made of the batches of one [`Samples`](crate::Samples).
///
/// ```
/// use computedriver_client::{StatsView, v1};
///
/// let batch = |sequence, seconds, cpu_time_ns| v1::StreamInstanceStatsResponse {
///     sequence,
///     collect_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
///     full: sequence == 1,
///     instances: vec![v1::InstanceStats {
///         sample: Some(v1::SampleState {
///             instance_id: "web".into(),
///             status: v1::SampleStatus::Ok.into(),
///             ..Default::default()
///         }),
///         cpu_time_ns: Some(cpu_time_ns),
///         ..Default::default()
///     }],
///     ..Default::default()
/// };
/// let mut view = StatsView::default();
/// view.apply(batch(1, 10, 5_000_000_000));
/// assert_eq!(view.get("web").and_then(|usage| usage.rates().cpu), None);
/// view.apply(batch(2, 14, 6_000_000_000));
/// assert_eq!(view.get("web").and_then(|usage| usage.rates().cpu), Some(0.25));
/// ```
#[derive(Clone, Debug, Default)]
pub struct StatsView {
    instances: BTreeMap<String, InstanceUsage>,
    collect_time: Option<Timestamp>,
    interval: Option<prost_types::Duration>,
    /// A batch of which more is to come.
    begun: Option<v1::StreamInstanceStatsResponse>,
}

impl StatsView {
    /// Takes the next message. What is known changes with the last one of a batch.
    pub fn apply(&mut self, message: v1::StreamInstanceStatsResponse) {
        let Some(batch) = self.whole(message) else {
            return;
        };
        self.collect_time = batch.collect_time;
        self.interval = batch.interval;
        let at = batch.collect_time.and_then(nanoseconds);
        let mut before = mem::take(&mut self.instances);
        for stats in batch.instances {
            self.take(stats, &mut before, at);
        }
        if batch.full {
            // Who is not in a whole batch has gone.
            return;
        }
        // Whom a batch of changes does not name is as it was, also when samples lie between.
        for (id, mut usage) in before {
            usage.unlisted(at);
            self.instances.insert(id, usage);
        }
    }

    /// The batch that the message ends, if it does.
    fn whole(
        &mut self,
        message: v1::StreamInstanceStatsResponse,
    ) -> Option<v1::StreamInstanceStatsResponse> {
        let begun = self.begun.take();
        let batch = match begun.filter(|begun| begun.sequence == message.sequence) {
            Some(mut begun) => {
                begun.instances.extend(message.instances);
                begun.more = message.more;
                begun
            }
            None => message,
        };
        if batch.more {
            self.begun = Some(batch);
            return None;
        }
        Some(batch)
    }

    fn take(
        &mut self,
        stats: v1::InstanceStats,
        before: &mut BTreeMap<String, InstanceUsage>,
        at: Option<i128>,
    ) {
        let sample = stats.sample.clone().unwrap_or_default();
        let known = before.remove(&sample.instance_id);
        if sample.instance_id.is_empty() || sample.status() == SampleStatus::Gone {
            return;
        }
        let mut usage = known.unwrap_or_default();
        usage.listed(&sample, stats, at);
        self.instances.insert(sample.instance_id, usage);
    }

    /// The stream was lost: what is known stays until the next batch, and rates begin anew with it. A guest may have
    /// started again meanwhile, unseen.
    pub fn lost(&mut self) {
        self.begun = None;
        for usage in self.instances.values_mut() {
            usage.forget();
        }
    }

    /// Every instance, by id.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = &InstanceUsage> {
        self.instances.values()
    }

    /// One instance.
    #[must_use]
    pub fn get(&self, instance_id: &str) -> Option<&InstanceUsage> {
        self.instances.get(instance_id)
    }

    /// When the last batch was collected, by the server's clock.
    #[must_use]
    pub fn collect_time(&self) -> Option<Timestamp> {
        self.collect_time
    }

    /// The time between the last two batches, as the server tells it; longer than asked for when this subscriber read
    /// too slowly.
    #[must_use]
    pub fn interval(&self) -> Option<prost_types::Duration> {
        self.interval
    }
}

/// A time that makes no sense is none.
fn nanoseconds(time: Timestamp) -> Option<i128> {
    let valid = (0..1_000_000_000).contains(&time.nanos);
    valid.then(|| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
}

#[cfg(test)]
mod tests;
