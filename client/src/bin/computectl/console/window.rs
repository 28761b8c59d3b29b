//! The terminal, lent to the guest and given back.

use std::io::{self, IsTerminal as _, Write as _};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};

/// What a guest may have left behind, undone: colours and hidden cursor (soft reset), reports of the mouse and of focus,
/// bracketed paste, the other screen.
const RESTORE: &[u8] =
    b"\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?47l\x1b[?25h\x1b[0m\r\n";

/// A terminal without echo, lines and signals. It is as it was however this ends; with stdin elsewhere it stays as it is.
pub(super) struct Window {
    taken: bool,
}

impl Window {
    pub(super) fn take() -> io::Result<Self> {
        let taken = io::stdin().is_terminal();
        if taken {
            enable_raw_mode()?;
        }
        Ok(Self { taken })
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken
    }

    /// A word to the person, beside what the guest writes.
    pub(super) fn say(&self, text: &str) {
        if self.taken {
            // A person who sees nothing has lost nothing.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if !self.taken {
            return;
        }
        let mut stdout = io::stdout();
        if stdout.is_terminal() {
            // Whether it can be told or not, the line discipline is given back.
            let _ = stdout.write_all(RESTORE).and_then(|()| stdout.flush());
        }
        let _ = disable_raw_mode();
    }
}
