//! Writes a snapshot as Prometheus reads it: the text format 0.0.4, and OpenMetrics 1.0 for who asks.

use std::{borrow::Cow, fmt::Write as _};

use super::{Family, Kind, Metric, Point, Value};

/// The two ways to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What every scraper reads.
    Text,
    /// With units, and an end mark that tells a cut answer from a whole one.
    OpenMetrics,
}

impl Format {
    /// What the reader's `Accept` asks for. Prometheus names OpenMetrics when it reads it, and prefers it then.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// What the answer says that it is.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the metrics; one without any series is left out.
pub fn write(metrics: &[Metric], format: Format) -> String {
    let mut out = String::with_capacity(16 << 10);
    for metric in metrics.iter().filter(|metric| !metric.points.is_empty()) {
        head(&mut out, metric.family, format);
        for point in &metric.points {
            series(&mut out, metric.family, point);
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, family: &Family, format: Format) {
    let (name, kind) = match format {
        Format::Text => (family.prometheus_name(), text_kind(family.kind)),
        Format::OpenMetrics => (family.base_name(), open_kind(family.kind)),
    };
    let help = family.help.replace('\\', "\\\\");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    let unit = family.unit_word();
    if format == Format::OpenMetrics && !unit.is_empty() && name.ends_with(unit) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
}

fn text_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn open_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Info => "info",
        other => text_kind(other),
    }
}

fn series(out: &mut String, family: &Family, point: &Point) {
    let name = family.prometheus_name();
    let labels = labels(family, point);
    match &point.value {
        Value::Int(value) => sample(out, &name, &labels, &value.to_string()),
        Value::Float(value) => sample(out, &name, &labels, &float(*value)),
        Value::Histogram {
            bounds,
            counts,
            sum,
        } => {
            let bucket = format!("{name}_bucket");
            let mut total = 0;
            let bounds = bounds.iter().map(|bound| Cow::Owned(float(*bound)));
            for (bound, count) in bounds.chain([Cow::Borrowed("+Inf")]).zip(counts) {
                total += count;
                let comma = if labels.is_empty() { "" } else { "," };
                let labels = format!("{labels}{comma}le=\"{bound}\"");
                sample(out, &bucket, &labels, &total.to_string());
            }
            sample(out, &format!("{name}_sum"), &labels, &float(*sum));
            sample(out, &format!("{name}_count"), &labels, &total.to_string());
        }
    }
}

fn sample(out: &mut String, name: &str, labels: &str, value: &str) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

fn labels(family: &Family, point: &Point) -> String {
    let mut out = String::new();
    let named = family.labels.iter().zip(&point.labels);
    for (name, value) in named.filter(|(_, value)| !value.is_empty()) {
        let comma = if out.is_empty() { "" } else { "," };
        let name = name.replace('.', "_");
        let _ = write!(out, "{comma}{name}=\"{}\"", escaped(value));
    }
    out
}

/// A label may hold any text: an instance's name is its owner's.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(value.replace('\n', "\\n"))
}

fn float(value: f64) -> String {
    // With a point, as OpenMetrics wants the bounds of ranges to be written alike by all.
    format!("{value:?}")
}
