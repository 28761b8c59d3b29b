//! The terminal, taken and given back.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// The whole terminal. It is given back as it was however this ends: by a drop, and by a panic before its message.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

#[cfg(test)]
mod tests {
    use super::Screen;

    /// Set for the half of the test that panics, on a terminal of its own.
    const PANICS: &str = "COMPUTECTL_TEST_PANICS";

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a terminal needs a process")]
    fn a_panic_gives_the_terminal_back_before_its_message() {
        if std::env::var_os(PANICS).is_some() {
            let mut screen = Screen::take().expect("a terminal");
            screen.draw(|_| panic!("broken on purpose")).expect("never");
        }
        let own = std::env::current_exe().expect("a test has a path");
        let line = format!(
            "'{}' --exact --nocapture top::screen::tests::a_panic_gives_the_terminal_back_before_its_message",
            own.display()
        );
        let run = std::process::Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .env(PANICS, "1")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("script is part of every Debian");
        let told = String::from_utf8_lossy(&run.stdout);
        let places =
            ["\u{1b}[?1049h", "\u{1b}[?1049l", "broken on purpose"].map(|it| told.find(it));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{told:?}"
        );
    }
}
