//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::board::{Board, Column};
use super::row::Metric;

/// The last line of the screen.
pub(super) const HELP: &str =
    "q quit  p pause  / filter  ↑↓ scroll  ←→ sort (or i n s c m r w x t)  v turn";

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

impl Board {
    pub(super) fn key(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::GoOn;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Flow::Quit,
            _ if control => {}
            code if self.typing => self.type_in(code),
            code => return self.command(code),
        }
        Flow::GoOn
    }

    fn type_in(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn command(&mut self, code: KeyCode) -> Flow {
        match code {
            KeyCode::Char('q') => return Flow::Quit,
            // A filter is left before the program is.
            KeyCode::Esc if self.filter.is_empty() => return Flow::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('v') => self.reverse = !self.reverse,
            KeyCode::Left => self.neighbour(Column::ALL.len() - 1),
            KeyCode::Right => self.neighbour(1),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first += 1,
            KeyCode::PageUp => self.first = self.first.saturating_sub(self.page),
            KeyCode::PageDown => self.first += self.page,
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = usize::MAX / 2,
            KeyCode::Char(c) => {
                if let Some(column) = column(c) {
                    self.sort_by(column);
                }
            }
            _ => {}
        }
        Flow::GoOn
    }

    fn neighbour(&mut self, steps: usize) {
        let all = Column::ALL;
        let at = all.iter().position(|column| *column == self.sort);
        self.sort = all[(at.unwrap_or_default() + steps) % all.len()];
        self.reverse = false;
    }
}

fn column(key: char) -> Option<Column> {
    Some(match key {
        'i' => Column::Id,
        'n' => Column::Name,
        's' => Column::State,
        'c' => Column::Metric(Metric::Cpu),
        'm' => Column::Metric(Metric::Memory),
        'r' => Column::Metric(Metric::Read),
        'w' => Column::Metric(Metric::Write),
        'x' => Column::Metric(Metric::Receive),
        't' => Column::Metric(Metric::Send),
        _ => return None,
    })
}
