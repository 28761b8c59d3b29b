use std::{collections::BTreeSet, time::Duration};

use pretty_assertions::assert_eq;

use super::{Counter, Gauge, Histogram};
use super::{
    Family, Format, INSTRUMENTS, Instrument, Kind, Metric, OBSERVED, Series, Soon, Value, write,
};

const fn family(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Family {
    Family {
        name,
        unit: "s",
        kind,
        labels,
        help: "Help with a \\ in it.",
    }
}

#[test]
fn a_histogram_counts_each_value_once_in_its_range() {
    static TIMES: Series<1, Histogram<Soon>> =
        Series::new(family("t.duration", Kind::Histogram, &["a.b"]));
    for millis in [1, 2, 20, 60_000] {
        TIMES.of(["x"]).record(Duration::from_millis(millis));
    }
    let text = write(&[TIMES.read()], Format::Text);
    let expected = [
        "# HELP t_duration_seconds Help with a \\\\ in it.",
        "# TYPE t_duration_seconds histogram",
        "t_duration_seconds_bucket{a_b=\"x\",le=\"0.0005\"} 0",
        "t_duration_seconds_bucket{a_b=\"x\",le=\"0.001\"} 1",
        "t_duration_seconds_bucket{a_b=\"x\",le=\"0.0025\"} 2",
        "t_duration_seconds_bucket{a_b=\"x\",le=\"10.0\"} 3",
        "t_duration_seconds_bucket{a_b=\"x\",le=\"+Inf\"} 4",
        "t_duration_seconds_sum{a_b=\"x\"} 60.023",
        "t_duration_seconds_count{a_b=\"x\"} 4",
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn openmetrics_names_units_and_ends() {
    static TIME: Series<0, Counter> = Series::new(family("cpu.time", Kind::Counter, &[]));
    TIME.of([]).add(3);
    assert_eq!(
        write(&[TIME.read()], Format::OpenMetrics),
        "# HELP cpu_time_seconds Help with a \\\\ in it.\n# TYPE cpu_time_seconds counter\n\
         # UNIT cpu_time_seconds seconds\ncpu_time_seconds_total 3\n# EOF\n"
    );
    assert_eq!(
        write(&[TIME.read()], Format::Text).lines().last(),
        Some("cpu_time_seconds_total 3")
    );
}

#[test]
fn what_never_happened_is_zero_and_an_empty_label_is_none() {
    static NEVER: Series<0, Counter> = Series::new(family("never", Kind::Counter, &[]));
    assert_eq!(NEVER.read().points[0].value, Value::Int(0));
    static FAMILY: Family = family("x", Kind::Gauge, &["a", "b"]);
    let metric = Metric::new(&FAMILY).with(vec!["".into(), "q\"\\\n".into()], Value::Float(0.5));
    let text = write(&[metric], Format::Text);
    assert!(
        text.ends_with("x_seconds{b=\"q\\\"\\\\\\n\"} 0.5\n"),
        "{text}"
    );
}

#[test]
fn a_gauge_falls_when_what_it_counts_ends() {
    static ACTIVE: Series<0, Gauge> = Series::new(family("active", Kind::Gauge, &[]));
    let (one, two) = (ACTIVE.of([]).enter(), ACTIVE.of([]).enter());
    drop(one);
    assert_eq!(ACTIVE.read().points[0].value, Value::Int(1));
    drop(two);
    assert_eq!(ACTIVE.read().points[0].value, Value::Int(0));
}

#[test]
fn the_reader_says_how_it_wants_to_be_written_to() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4";
    assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    assert_eq!(Format::accepted("*/*"), Format::Text);
    assert_eq!(Format::accepted(""), Format::Text);
}

#[test]
fn names_are_ours_or_a_conventions_and_no_two_are_alike() {
    let mut names = BTreeSet::new();
    let instruments = INSTRUMENTS.iter().map(|instrument| instrument.family());
    for family in instruments.chain(OBSERVED.iter().copied()) {
        let name = family.name;
        assert!(
            name.starts_with("computelet.") || name.starts_with("rpc.server."),
            "{name}"
        );
        assert!(names.insert(family.base_name()), "{name} is there twice");
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
        let ids = family.labels.iter().any(|label| label.contains("id"));
        assert!(!ids, "{name} would have a series for each caller");
    }
}
