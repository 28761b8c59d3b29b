//! What is typed, read on a thread of its own: a guest that takes nothing must not keep the escape key from being heard.

use std::io::{self, Read as _, Write as _};
use std::str::FromStr;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;

/// What a terminal gives at once.
const ROOM: usize = 4096;
/// Keys that may wait for a guest that takes none: a large paste. Beyond it the bell rings.
const WAITING: usize = 256;

/// The key that leaves the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// This control character.
    Key(u8),
    /// None: only a signal or the guest's end does.
    Never,
}

impl FromStr for Escape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"none" => Ok(Self::Never),
            [b'^', key @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(Self::Key(key & 0x1f)),
            _ => Err("must be a control key, as ^] or ^A, or none".into()),
        }
    }
}

impl Escape {
    /// What to say of it.
    pub(super) fn hint(self) -> String {
        match self {
            Self::Key(key) => format!("^{} leaves it", char::from(key | 0x40)),
            Self::Never => "no key leaves it".into(),
        }
    }

    fn find(self, typed: &[u8]) -> Option<usize> {
        match self {
            Self::Key(key) => typed.iter().position(|byte| *byte == key),
            Self::Never => None,
        }
    }
}

/// Where keys go in, and where they come out.
pub(super) fn keys() -> (Sender<Vec<u8>>, ReceiverStream<Vec<u8>>) {
    let (keys, typed) = mpsc::channel(WAITING);
    (keys, ReceiverStream::new(typed))
}

/// The thread that reads stdin; it ends with the program.
pub(super) struct Keyboard(oneshot::Receiver<()>);

impl Keyboard {
    /// Reads stdin: as keys of a terminal when there is an escape, else as a file is read, at the guest's pace.
    pub(super) fn start(keys: Sender<Vec<u8>>, escape: Option<Escape>) -> io::Result<Self> {
        let (escaped, told) = oneshot::channel();
        let read = move || match escape {
            Some(escape) if press(&keys, escape) => drop(escaped.send(())),
            Some(_) => {}
            None => pour(&keys),
        };
        let builder = std::thread::Builder::new().name("keyboard".into());
        builder.spawn(read)?;
        Ok(Self(told))
    }

    /// Waits for the escape key. The end of stdin is none.
    pub(super) async fn escaped(&mut self) {
        if (&mut self.0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether the escape key was pressed, and not stdin at its end or the session over.
fn press(keys: &Sender<Vec<u8>>, escape: Escape) -> bool {
    let mut room = [0; ROOM];
    while let Ok(count @ 1..) = read(&mut room) {
        let typed = &room[..count];
        let end = escape.find(typed);
        let typed = &typed[..end.unwrap_or(count)];
        if !typed.is_empty() {
            match keys.try_send(typed.to_vec()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => ring(),
                Err(TrySendError::Closed(_)) => return false,
            }
        }
        if end.is_some() {
            return true;
        }
    }
    false
}

fn pour(keys: &Sender<Vec<u8>>) {
    let mut room = [0; ROOM];
    while let Ok(count @ 1..) = read(&mut room) {
        if keys.blocking_send(room[..count].to_vec()).is_err() {
            return;
        }
    }
}

fn read(room: &mut [u8]) -> io::Result<usize> {
    loop {
        match io::stdin().read(room) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Says that keys were lost.
fn ring() {
    // A terminal without a bell tells nothing, and there is no other way while the guest has the screen.
    let _ = io::stderr().write_all(b"\x07");
}

#[cfg(test)]
mod tests {
    use super::Escape;

    #[test]
    fn an_escape_is_a_control_key_or_none() {
        assert_eq!("^]".parse(), Ok(Escape::Key(0x1d)));
        assert_eq!("^a".parse(), Ok(Escape::Key(1)));
        assert_eq!("^A".parse(), Ok(Escape::Key(1)));
        assert_eq!("none".parse(), Ok(Escape::Never));
        assert_eq!(Escape::Key(0x1d).hint(), "^] leaves it");
        for wrong in ["", "x", "^", "^1", "^]]"] {
            assert!(wrong.parse::<Escape>().is_err(), "{wrong}");
        }
        assert_eq!(Escape::Key(0x1d).find(b"ab\x1dc"), Some(2));
        assert_eq!(Escape::Never.find(b"ab\x1dc"), None);
    }
}
