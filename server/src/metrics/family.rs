//! What a metric is called, and what it says at one moment.

use std::borrow::Cow;

/// How a metric's values go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of what it counts.
    Counter,
    /// As it is now.
    Gauge,
    /// How often, in which ranges, and the sum.
    Histogram,
    /// Always 1; its labels say something.
    Info,
}

/// A metric, apart from its values.
#[derive(Debug)]
pub struct Family {
    /// The name, as OpenTelemetry writes names: `computelet.operation.duration`.
    pub name: &'static str,
    /// The unit, as UCUM writes units: `s`, `By`, `1`, `{call}`.
    pub unit: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, in one sentence.
    pub help: &'static str,
}

impl Family {
    /// The unit as a word, where Prometheus wants one in the name.
    pub fn unit_word(&self) -> &'static str {
        match self.unit {
            "s" => "seconds",
            "By" => "bytes",
            "1" if self.kind == Kind::Gauge => "ratio",
            _ => "",
        }
    }

    /// The name as OpenMetrics writes names, without what it appends to a counter's or an info's samples.
    pub fn base_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        let unit = self.unit_word();
        if !unit.is_empty() && !name.ends_with(unit) {
            name.push('_');
            name.push_str(unit);
        }
        name
    }

    /// The name as a collector gets it.
    pub fn otlp_name(&self) -> String {
        let suffix = if self.kind == Kind::Info { ".info" } else { "" };
        format!("{}{suffix}", self.name)
    }

    /// The name as Prometheus shows it: `computelet_operation_duration_seconds`.
    pub fn prometheus_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.base_name() + suffix
    }
}

/// A metric with its values.
#[derive(Clone, Debug)]
pub struct Metric {
    /// What it is.
    pub family: &'static Family,
    /// Its series.
    pub points: Vec<Point>,
}

impl Metric {
    /// A metric without any series yet.
    pub fn new(family: &'static Family) -> Self {
        let points = Vec::new();
        Self { family, points }
    }

    /// A metric of one series without labels.
    pub fn one(family: &'static Family, value: Value) -> Self {
        Self::new(family).with(Vec::new(), value)
    }

    /// The metric with one more series.
    #[must_use]
    pub fn with(mut self, labels: Vec<Cow<'static, str>>, value: Value) -> Self {
        self.push(labels, value);
        self
    }

    /// Adds a series; `labels` in the order of the family's.
    pub fn push(&mut self, labels: Vec<Cow<'static, str>>, value: Value) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{:?}", self.family);
        self.points.push(Point { labels, value });
    }
}

/// One series.
#[derive(Clone, Debug)]
pub struct Point {
    /// The values of the family's labels, in their order. An empty one is none.
    pub labels: Vec<Cow<'static, str>>,
    /// What it says.
    pub value: Value,
}

/// What a series says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(u64),
    /// Any other.
    Float(f64),
    /// A histogram.
    Histogram {
        /// The upper bounds of its ranges, ascending; a last one without bound follows.
        bounds: &'static [f64],
        /// How often in each range: one more than bounds.
        counts: Vec<u64>,
        /// Of all that was recorded.
        sum: f64,
    },
}
