//! Takes terminal control out of a console's bytes.

/// What a terminal does with the next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In `ESC [ … letter`: colours, cursor moves.
    Control,
    /// In `ESC ] … BEL` or `ESC ] … ESC \`: window titles.
    Command,
    /// After ESC in a command.
    CommandEscape,
    /// After `ESC (` and its kin: one byte names a character set.
    Charset,
}

/// Lets through what a person would see, and line feeds.
#[derive(Debug, Default)]
pub(super) struct Cleaner(State);

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CANCEL: u8 = 0x18;

impl Cleaner {
    /// What is left of `byte`. Bytes beyond ASCII pass: they may be text in any encoding.
    pub(super) fn next(&mut self, byte: u8) -> Option<u8> {
        // No sequence reaches over a line's end: a garbled one hides at most the rest of its line.
        if matches!(byte, b'\n' | CANCEL) {
            self.0 = State::Text;
            return (byte == b'\n').then_some(byte);
        }
        let (state, out) = match (self.0, byte) {
            (State::Command, ESC) => (State::CommandEscape, None),
            (_, ESC) => (State::Escape, None),
            (State::Text, b'\t') => (State::Text, Some(b' ')),
            (State::Text, 0x00..=0x1f | 0x7f) => (State::Text, None),
            (State::Text, _) => (State::Text, Some(byte)),
            (State::Escape, b'[') => (State::Control, None),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (State::Command, None),
            (State::Escape, b'(' | b')' | b'*' | b'+' | b'#' | b'%') => (State::Charset, None),
            (State::Control, 0x40..=0x7e) | (State::Command, BEL) => (State::Text, None),
            (State::Control, _) => (State::Control, None),
            (State::Command, _) => (State::Command, None),
            (State::Escape | State::CommandEscape | State::Charset, _) => (State::Text, None),
        };
        self.0 = state;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_would_see_is_left() {
        for (shown, seen) in [
            ("plain\r\n", "plain\n"),
            ("\x1b[0;1;32mOK\x1b[0m\tdone", "OK done"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]0;title\x1b\\text", "text"),
            ("\x1b(Btext\x1b=", "text"),
            ("a\0b\x08c", "abc"),
            ("\x1b[999\nnext line", "\nnext line"),
            ("\x1b]never ended\nnext line", "\nnext line"),
            ("Grüße", "Grüße"),
        ] {
            let mut cleaner = Cleaner::default();
            let left: Vec<u8> = shown.bytes().filter_map(|b| cleaner.next(b)).collect();
            assert_eq!(String::from_utf8_lossy(&left), seen, "{shown:?}");
        }
    }
}
