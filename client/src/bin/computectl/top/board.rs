//! The whole state of the display: what is known of the guests, and what the person chose to see of it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use computedriver_client::{Error, Standing, StatsView, v1};

use super::feed::Facts;
use super::row::{Metric, Past, Row, Values};

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Id,
    Name,
    State,
    Metric(Metric),
}

impl Column {
    /// As they stand, left to right.
    pub(super) const ALL: [Self; 9] = [
        Self::Id,
        Self::Name,
        Self::State,
        Self::Metric(Metric::Cpu),
        Self::Metric(Metric::Memory),
        Self::Metric(Metric::Read),
        Self::Metric(Metric::Write),
        Self::Metric(Metric::Receive),
        Self::Metric(Metric::Send),
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Id => "INSTANCE",
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Metric(metric) => metric.title(),
        }
    }
}

/// The connection to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing came yet.
    Waiting,
    Live,
    /// For so many seconds, and why.
    Lost(u64, String),
}

/// Sums over all guests, shown or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) guests: usize,
    pub(super) running: usize,
    pub(super) stale: usize,
    pub(super) values: Values,
}

/// See the head of the file.
pub(super) struct Board {
    pub(super) endpoint: String,
    pub(super) interval: Duration,
    pub(super) facts: Facts,
    pub(super) link: Link,
    pub(super) sort: Column,
    pub(super) reverse: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    /// The first row on the screen, and how many fit; drawing sets both right.
    pub(super) first: usize,
    pub(super) page: usize,
    view: StatsView,
    past: HashMap<String, Past>,
    frozen: Option<(Vec<Row>, Totals)>,
}

impl Board {
    pub(super) fn new(endpoint: &str, interval: Duration) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            interval,
            facts: Facts::default(),
            link: Link::Waiting,
            sort: Column::Metric(Metric::Cpu),
            reverse: false,
            filter: String::new(),
            typing: false,
            first: 0,
            page: 0,
            view: StatsView::default(),
            past: HashMap::new(),
            frozen: None,
        }
    }

    pub(super) fn batch(&mut self, batch: v1::StreamInstanceStatsResponse) {
        if let Link::Lost(..) = std::mem::replace(&mut self.link, Link::Live) {
            self.view.lost();
        }
        self.view.apply(batch);
        let mut before = std::mem::take(&mut self.past);
        for usage in self.view.instances() {
            let mut past = before.remove(usage.id()).unwrap_or_default();
            past.push(usage);
            self.past.insert(usage.id().to_owned(), past);
        }
    }

    pub(super) fn facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// What was known stays on the screen until the server is back.
    pub(super) fn lost(&mut self, error: &Error) {
        let seconds = match self.link {
            Link::Lost(seconds, _) => seconds,
            _ => 0,
        };
        self.link = Link::Lost(seconds, error.to_string());
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.link, Link::Lost(..))
    }

    /// A second has passed.
    pub(super) fn second(&mut self) {
        if let Link::Lost(seconds, _) = &mut self.link {
            *seconds += 1;
        }
    }

    /// Stops what is shown, or lets it go on. Samples are taken meanwhile.
    pub(super) fn pause(&mut self) {
        self.frozen = match self.frozen.take() {
            Some(_) => None,
            None => Some((self.all(), self.sums())),
        };
    }

    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Sorts by a column; by the same again the other way round.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.reverse = self.sort == column && !self.reverse;
        self.sort = column;
    }

    /// The rows that the filter lets through, in order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = match &self.frozen {
            Some((rows, _)) => rows.clone(),
            None => self.all(),
        };
        let filter = self.filter.to_lowercase();
        rows.retain(|row| row.id.starts_with(&filter) || row.name.to_lowercase().contains(&filter));
        rows.sort_by(|a, b| self.order(a, b).then_with(|| a.id.cmp(&b.id)));
        rows
    }

    pub(super) fn totals(&self) -> Totals {
        match &self.frozen {
            Some((_, totals)) => totals.clone(),
            None => self.sums(),
        }
    }

    fn all(&self) -> Vec<Row> {
        let unknown = Past::default();
        let row = |usage: &computedriver_client::InstanceUsage| {
            let name = self.facts.names.get(usage.id());
            let past = self.past.get(usage.id()).unwrap_or(&unknown);
            let name = name.map_or("", String::as_str);
            Row::new(usage, name, past, self.view.collect_time())
        };
        self.view.instances().map(row).collect()
    }

    fn sums(&self) -> Totals {
        let mut totals = Totals::default();
        for row in self.all() {
            for (sum, value) in totals.values.iter_mut().zip(row.values) {
                *sum = value.map_or(*sum, |value| Some(sum.unwrap_or_default() + value));
            }
        }
        for usage in self.view.instances() {
            let runs = usage.counters().power_state() == v1::PowerState::Running;
            totals.guests += 1;
            totals.running += usize::from(runs);
            totals.stale += usize::from(matches!(usage.standing(), Standing::Stale { .. }));
        }
        totals
    }

    /// Numbers from the largest, words from A; what is not known is last either way.
    fn order(&self, a: &Row, b: &Row) -> Ordering {
        let turn = |order: Ordering| match self.reverse {
            true => order.reverse(),
            false => order,
        };
        match self.sort {
            Column::Id => turn(a.id.cmp(&b.id)),
            Column::Name => turn(a.name.cmp(&b.name)),
            Column::State => turn(a.state.to_string().cmp(&b.state.to_string())),
            Column::Metric(metric) => match (a.value(metric), b.value(metric)) {
                (Some(a), Some(b)) => turn(b.total_cmp(&a)),
                (a, b) => b.is_some().cmp(&a.is_some()),
            },
        }
    }
}
