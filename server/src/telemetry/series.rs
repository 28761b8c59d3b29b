//! A snapshot of the metrics as OTLP writes it.

use std::time::SystemTime;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as Written,
        NumberDataPoint, Sum, metric::Data, number_data_point,
    },
};

use crate::metrics::{Family, Kind, Metric, Point, Value};

/// From when to when the counters counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    begin: u64,
    end: u64,
}

impl Span {
    /// From `begin` to now.
    pub(super) fn since(begin: SystemTime) -> Self {
        let nanos = |time: SystemTime| {
            let since = time
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        };
        let (begin, end) = (nanos(begin), nanos(SystemTime::now()));
        Self { begin, end }
    }
}

/// The metric in OTLP's words.
pub(super) fn written(metric: &Metric, span: Span) -> Written {
    let family = metric.family;
    let points = &metric.points;
    let numbers = || {
        points
            .iter()
            .map(|point| number(family, point, span))
            .collect()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.kind {
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge {
            data_points: numbers(),
        }),
        Kind::Counter => Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Histogram => Data::Histogram(Histogram {
            data_points: points
                .iter()
                .filter_map(|point| ranges(family, point, span))
                .collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Written {
        name: family.otlp_name(),
        description: family.help.to_owned(),
        unit: family.unit.to_owned(),
        data: Some(data),
        ..Written::default()
    }
}

fn attributes(family: &Family, point: &Point) -> Vec<KeyValue> {
    let named = family.labels.iter().zip(&point.labels);
    let said = named.filter(|(_, value)| !value.is_empty());
    let attribute = |(name, value): (&&str, &std::borrow::Cow<'static, str>)| KeyValue {
        key: (*name).to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.clone().into_owned())),
        }),
        ..KeyValue::default()
    };
    said.map(attribute).collect()
}

fn number(family: &Family, point: &Point, span: Span) -> NumberDataPoint {
    let value = match &point.value {
        Value::Int(value) => {
            number_data_point::Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX))
        }
        Value::Float(value) => number_data_point::Value::AsDouble(*value),
        Value::Histogram { sum, .. } => number_data_point::Value::AsDouble(*sum),
    };
    NumberDataPoint {
        attributes: attributes(family, point),
        start_time_unix_nano: span.begin,
        time_unix_nano: span.end,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn ranges(family: &Family, point: &Point, span: Span) -> Option<HistogramDataPoint> {
    let Value::Histogram {
        bounds,
        counts,
        sum,
    } = &point.value
    else {
        return None;
    };
    Some(HistogramDataPoint {
        attributes: attributes(family, point),
        start_time_unix_nano: span.begin,
        time_unix_nano: span.end,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}
