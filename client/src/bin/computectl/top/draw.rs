//! The board as pixels of text. A pure function of the board, the size of the frame, and whether colours are wanted.

use std::env;
use std::fmt;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table};

use crate::text;

use super::board::{Board, Column, Link};
use super::cells::{self, NUMBER};
use super::keys::HELP;
use super::row::{Metric, Row, State};

const ID: u16 = 8;
const STATE: u16 = 9;
/// Names get what is left between these.
const NAME: (u16, u16) = (7, 28);
/// A longer trend says no more.
const SPARK: u16 = 24;

/// How it may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Colour,
    Plain,
}

impl Look {
    /// `NO_COLOR` with any content but none asks for none.
    pub(super) fn of_environment() -> Self {
        match env::var_os("NO_COLOR") {
            Some(asked) if !asked.is_empty() => Self::Plain,
            _ => Self::Colour,
        }
    }

    fn paint(self, colour: Color) -> Style {
        match self {
            Self::Colour => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    fn metric(self, metric: Metric) -> Style {
        self.paint(match metric {
            Metric::Cpu => Color::Green,
            Metric::Memory => Color::Magenta,
            Metric::Read | Metric::Receive => Color::Cyan,
            Metric::Write | Metric::Send => Color::Yellow,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Power(state) => f.pad(text::power_state(*state)),
            Self::Busy => f.pad("busy"),
            Self::Stale(None) => f.pad("stale"),
            Self::Stale(Some(seconds)) => write!(f, "stale {}", cells::age(*seconds)),
        }
    }
}

/// Which columns there is room for, and how wide they are.
struct Plan {
    columns: Vec<Column>,
    name: u16,
    spark: u16,
}

impl Plan {
    fn new(width: u16) -> Self {
        let number = u16::try_from(NUMBER).unwrap_or(u16::MAX);
        let mut columns = Column::ALL.to_vec();
        let least = |columns: &[Column]| -> u16 {
            let widths = columns.iter().map(|column| match column {
                Column::Id => ID,
                Column::Name => NAME.0,
                Column::State => STATE,
                Column::Metric(_) => number,
            });
            widths.map(|width| width + 1).sum::<u16>() - 1
        };
        // Names go first, then states, then numbers from the right; the id stays.
        for leaves in [Column::Name, Column::State] {
            if least(&columns) > width {
                columns.retain(|column| *column != leaves);
            }
        }
        while columns.len() > 1 && least(&columns) > width {
            columns.pop();
        }
        let metrics = columns
            .iter()
            .filter(|c| matches!(c, Column::Metric(_)))
            .count();
        let metrics = u16::try_from(metrics).unwrap_or(u16::MAX).max(1);
        let left = width.saturating_sub(least(&columns));
        // A trend costs its width and a space; what no trend can use goes to the names.
        let spark = (left / metrics).saturating_sub(1).min(SPARK);
        let used = if spark > 0 { (spark + 1) * metrics } else { 0 };
        let name = (NAME.0 + left - used).min(NAME.1);
        Self {
            columns,
            name,
            spark,
        }
    }

    fn width(&self, column: Column) -> u16 {
        let number = u16::try_from(NUMBER).unwrap_or(u16::MAX);
        match column {
            Column::Id => ID,
            Column::Name => self.name,
            Column::State => STATE,
            Column::Metric(_) if self.spark == 0 => number,
            Column::Metric(_) => number + 1 + self.spark,
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board, look: Look) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    let [head, sums, body, foot] = areas.areas(frame.area());
    let rows = board.rows();
    // One line is the header of the table.
    board.page = usize::from(body.height.saturating_sub(1));
    board.first = board.first.min(rows.len().saturating_sub(board.page));
    let name = Line::from(title(board));
    let status = Line::from(status(board, look)).alignment(Alignment::Right);
    let width = u16::try_from(status.width()).unwrap_or(u16::MAX);
    let parts = Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]);
    let [left, right] = parts.spacing(1).areas(head);
    frame.render_widget(Paragraph::new(name), left);
    frame.render_widget(Paragraph::new(status), right);
    frame.render_widget(Paragraph::new(summary(board, sums.width)), sums);
    let shown = rows.iter().skip(board.first).take(board.page);
    frame.render_widget(table(board, shown, body.width, look), body);
    frame.render_widget(Paragraph::new(footer(board, rows.len())), foot);
}

fn title(board: &Board) -> Span<'static> {
    let resource = board.facts.resource.as_ref();
    let host = resource.map_or("", |r| r.hypervisor_hostname.as_str());
    let parts = [host, &board.facts.server, &board.endpoint];
    let parts = parts.map(text::printable);
    let told: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Span::from(told.join(" · ")).bold()
}

fn status(board: &Board, look: Look) -> Span<'static> {
    let (words, style) = match &board.link {
        Link::Waiting => ("waiting for a sample".to_owned(), Style::new()),
        Link::Lost(seconds, _) => {
            let age = cells::age(*seconds);
            let style = look.paint(Color::Red).add_modifier(Modifier::REVERSED);
            (format!(" reconnecting for {age} "), style)
        }
        Link::Live if board.is_paused() => {
            let style = look.paint(Color::Yellow).add_modifier(Modifier::REVERSED);
            (" paused ".to_owned(), style)
        }
        Link::Live => {
            let every = board.interval.as_secs_f64();
            (format!("live, every {every} s"), look.paint(Color::Green))
        }
    };
    Span::styled(words, style)
}

/// What all guests use together, of what the host has; as much of it as the line holds.
fn summary(board: &Board, width: u16) -> String {
    let totals = board.totals();
    let plural = if totals.guests == 1 { "" } else { "s" };
    let mut line = format!(
        "{} guest{plural}, {} running",
        totals.guests, totals.running
    );
    if totals.stale > 0 {
        line.push_str(&format!(", {} stale", totals.stale));
    }
    let [cpu, used, read, write, receive, send] = totals.values;
    let (cpu, used) = (cells::percent(cpu), cells::amount(used));
    let [read, write, receive, send] = [read, write, receive, send].map(cells::amount);
    let (processors, memory) = host(board);
    for part in [
        format!("cpu {cpu}{processors}"),
        format!("mem {used}{memory}"),
        format!("disk {read}/s read {write}/s written"),
        format!("net {receive}/s in {send}/s out"),
    ] {
        if line.chars().count() + part.chars().count() + 3 > usize::from(width) {
            break;
        }
        line.push_str(&format!(" · {part}"));
    }
    line
}

/// The processors and the memory that the host has, where it told.
fn host(board: &Board) -> (String, String) {
    let resource = board.facts.resource.as_ref();
    let vcpus = resource.and_then(|r| r.vcpus.as_ref());
    let memory = resource.and_then(|r| r.memory_mib.as_ref());
    let processors = vcpus.map(|v| format!(" of {}%", v.total.saturating_mul(100)));
    // A host's memory is shown with three digits.
    #[allow(clippy::cast_precision_loss)]
    let memory = memory.map(|m| cells::amount(Some(m.total as f64 * 1_048_576.0)));
    let memory = memory.map(|amount| format!(" of {amount}"));
    (processors.unwrap_or_default(), memory.unwrap_or_default())
}

fn table<'a>(
    board: &Board,
    rows: impl Iterator<Item = &'a Row>,
    width: u16,
    look: Look,
) -> Table<'static> {
    let plan = Plan::new(width);
    let header = plan.columns.iter().map(|&column| {
        let sorted = column == board.sort;
        let arrow = match (sorted, board.reverse) {
            (false, _) => "",
            (true, false) => "▾",
            (true, true) => "▴",
        };
        let title = format!("{}{arrow}", column.title());
        let title = match column {
            Column::Metric(_) => format!("{title:>NUMBER$}"),
            _ => title,
        };
        let style = if sorted {
            Style::new().underlined()
        } else {
            Style::new()
        };
        Cell::from(title).style(style)
    });
    let header = Cells::new(header.collect::<Vec<_>>()).bold();
    let widths = plan
        .columns
        .iter()
        .map(|&c| Constraint::Length(plan.width(c)));
    let widths: Vec<_> = widths.collect();
    let rows = rows.map(|row| {
        // A row of the past is dim, and its trends are not coloured: nothing of it is of now.
        match row.is_dim() || board.is_lost() {
            true => line(row, &plan, Look::Plain).dim(),
            false => line(row, &plan, look),
        }
    });
    let rows = rows.collect::<Vec<_>>();
    Table::new(rows, widths).header(header).column_spacing(1)
}

fn line(row: &Row, plan: &Plan, look: Look) -> Cells<'static> {
    let cells = plan.columns.iter().map(|&column| match column {
        Column::Id => Cell::from(row.id.clone()),
        Column::Name => Cell::from(row.name.clone()),
        Column::State => Cell::from(row.state.to_string()),
        Column::Metric(metric) => Cell::from(measure(row, metric, plan.spark, look)),
    });
    Cells::new(cells.collect::<Vec<_>>())
}

fn measure(row: &Row, metric: Metric, spark: u16, look: Look) -> Line<'static> {
    let number = match metric {
        Metric::Cpu => cells::percent(row.value(metric)),
        _ => cells::amount(row.value(metric)),
    };
    let width = usize::from(spark);
    let trend = cells::spark(&row.past.trend(metric, width), width);
    Line::from(vec![
        Span::from(format!("{number:>NUMBER$} ")),
        Span::styled(trend, look.metric(metric)),
    ])
}

fn footer(board: &Board, rows: usize) -> Line<'static> {
    if board.typing {
        return Line::from(format!("id or name: {}▏", board.filter)).bold();
    }
    if let Link::Lost(_, why) = &board.link {
        return Line::from(text::printable(why));
    }
    let mut words = String::new();
    if !board.filter.is_empty() {
        words = format!("filter {}, {rows} shown (Esc: all)  ", board.filter);
    }
    Line::from(vec![Span::from(words).bold(), Span::from(HELP).dim()])
}

#[cfg(test)]
mod tests;
