//! Counters, gauges and histograms: atomics behind a family's labels.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::RwLock;

use super::{Family, Metric, Value};

/// What one series counts with.
pub trait Cell: Default + Send + Sync + 'static {
    /// What it says now.
    fn value(&self) -> Value;
}

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Cell for Counter {
    fn value(&self) -> Value {
        Value::Int(self.get())
    }
}

/// As it is now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// It is so much.
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Relaxed);
    }

    /// One more, until the answer is dropped.
    pub fn enter(&'static self) -> Active {
        self.0.fetch_add(1, Relaxed);
        Active(self)
    }
}

impl Cell for Gauge {
    fn value(&self) -> Value {
        Value::Int(self.0.load(Relaxed))
    }
}

/// Something that is going on, counted by a gauge until dropped.
#[derive(Debug)]
pub struct Active(&'static Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The ranges of a histogram.
pub trait Bounds: Send + Sync + 'static {
    /// Their upper bounds in seconds, ascending.
    const SECONDS: &'static [f64];
}

/// How long things took.
pub struct Histogram<B> {
    counts: Box<[AtomicU64]>,
    nanos: AtomicU64,
    bounds: PhantomData<fn() -> B>,
}

impl<B: Bounds> Histogram<B> {
    /// It took so long.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let range = B::SECONDS.partition_point(|bound| *bound < seconds);
        self.counts[range].fetch_add(1, Relaxed);
        // Some 584 years fit.
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }
}

impl<B: Bounds> Default for Histogram<B> {
    fn default() -> Self {
        Self {
            counts: (0..=B::SECONDS.len()).map(|_| AtomicU64::new(0)).collect(),
            nanos: AtomicU64::new(0),
            bounds: PhantomData,
        }
    }
}

impl<B: Bounds> Cell for Histogram<B> {
    fn value(&self) -> Value {
        Value::Histogram {
            bounds: B::SECONDS,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Relaxed))
                .collect(),
            sum: Duration::from_nanos(self.nanos.load(Relaxed)).as_secs_f64(),
        }
    }
}

impl<B> fmt::Debug for Histogram<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.counts).finish()
    }
}

/// A family and its series, each made when it is first named.
#[derive(Debug)]
pub struct Series<const N: usize, C: 'static> {
    family: Family,
    // Series are never taken away, and there are only so many: the words of a label are the program's.
    cells: RwLock<BTreeMap<[&'static str; N], &'static C>>,
}

impl<const N: usize, C: Cell> Series<N, C> {
    pub(super) const fn new(family: Family) -> Self {
        Self {
            family,
            cells: RwLock::new(BTreeMap::new()),
        }
    }

    /// The series with these labels.
    pub fn of(&self, labels: [&'static str; N]) -> &'static C {
        if let Some(cell) = self.cells.read().get(&labels) {
            return cell;
        }
        let mut cells = self.cells.write();
        cells
            .entry(labels)
            .or_insert_with(|| Box::leak(Box::default()))
    }
}

/// Something that a snapshot is taken of.
pub trait Instrument: Sync {
    /// What it is.
    fn family(&'static self) -> &'static Family;
    /// What it says now.
    fn read(&'static self) -> Metric;
}

impl<const N: usize, C: Cell> Instrument for Series<N, C> {
    fn family(&'static self) -> &'static Family {
        &self.family
    }

    fn read(&'static self) -> Metric {
        if N == 0 {
            // What has never happened is 0, and not unknown.
            self.of([""; N]);
        }
        let mut metric = Metric::new(&self.family);
        for (labels, cell) in &*self.cells.read() {
            let labels = labels.iter().map(|label| (*label).into()).collect();
            metric.push(labels, cell.value());
        }
        metric
    }
}
