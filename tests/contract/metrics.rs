//! `docs/metrics.md` against the metrics of the server. `UPDATE_GOLDEN=1` writes the tables anew.

use std::{collections::BTreeSet, fmt::Write as _};

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

/// Every name that a series or a label of the server may have on the page; for people to read, also those of histograms,
/// which are no series.
fn known(prose: bool) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for family in tables().into_iter().flat_map(|(_, families)| families) {
        known.extend(family.labels.iter().map(|label| label.replace('.', "_")));
        let name = family.prometheus_name();
        if family.kind == Kind::Histogram {
            known.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
        if prose || family.kind != Kind::Histogram {
            known.insert(name);
        }
    }
    known
}

#[test]
fn dashboard_and_alerts_ask_only_for_what_the_server_tells() {
    let (series, names) = (known(false), known(true));
    for asking in [
        "docs/grafana/computelet.json",
        "docs/prometheus/alerts.yml",
        "tests/e2e/alerts.yml",
    ] {
        let mut asked = 0;
        for line in text(asking).lines() {
            let prose = line.trim_start().starts_with("runbook:");
            let known = if prose { &names } else { &series };
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = |word: &&str| word.starts_with("computelet_") || word.starts_with("rpc_");
            for word in words.filter(ours) {
                assert!(known.contains(word), "{asking} asks for {word}: {line}");
                asked += 1;
            }
        }
        assert!(asked > 0, "{asking}");
    }
}
