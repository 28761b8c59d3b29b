//! `docs/metrics.md` against the metrics of the server. `UPDATE_GOLDEN=1` writes the tables anew.

use std::fmt::Write as _;

use computelet::metrics::{Family, GUESTS, INSTRUMENTS, Kind, OBSERVED};

use crate::support::text;

const PAGE: &str = "docs/metrics.md";

/// The tables of the page by their marks.
fn tables() -> Vec<(&'static str, Vec<&'static Family>)> {
    let instruments = INSTRUMENTS.iter().map(|instrument| instrument.family());
    vec![
        ("instruments", instruments.collect()),
        ("observed", OBSERVED.to_vec()),
        ("guests", GUESTS.to_vec()),
    ]
}

fn table(families: &[&Family]) -> String {
    let head = "| on the page | over OTLP | what | labels | tells |\n|---|---|---|---|---|\n";
    let mut table = head.to_owned();
    for family in families {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let quoted = |label: &&str| format!("`{}`", label.replace('.', "_"));
        let labels: Vec<_> = family.labels.iter().map(quoted).collect();
        writeln!(
            table,
            "| `{}` | `{}`, {} | {kind} | {} | {} |",
            family.prometheus_name(),
            family.otlp_name(),
            family.unit,
            labels.join(", "),
            family.help
        )
        .unwrap();
    }
    table
}

#[test]
fn every_metric_is_in_the_page_and_the_page_names_no_other() {
    let page = text(PAGE);
    let mut right = page.clone();
    for (mark, families) in tables() {
        let begin = format!("<!-- {mark} -->\n");
        let (before, rest) = right.split_once(&begin).unwrap_or_else(|| panic!("{mark}"));
        let (_, after) = rest.split_once("<!-- end -->").expect("an end mark");
        right = format!("{before}{begin}{}<!-- end -->{after}", table(&families));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(format!("{}/{PAGE}", env!("CARGO_MANIFEST_DIR")), right).unwrap();
    } else {
        assert_eq!(page, right, "run with UPDATE_GOLDEN=1");
    }
}
