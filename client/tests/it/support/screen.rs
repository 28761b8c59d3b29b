//! A terminal with a program in it: a pseudo terminal, and an emulator that reads what the program draws.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// How long a test waits for what must be drawn.
const LIMIT: Duration = Duration::from_secs(60);

/// A terminal and the program in it; a program that still runs is ended with it.
pub(crate) struct Screen {
    keyboard: File,
    terminal: OwnedFd,
    before: Termios,
    shown: Arc<Shown>,
    reader: Option<JoinHandle<()>>,
    child: Child,
}

struct Shown {
    parser: Mutex<vt100::Parser>,
    changed: Condvar,
}

impl Screen {
    /// Starts the program on a terminal of this size, as a shell does: it leads a session whose terminal this is.
    pub(crate) fn start(program: &Command, (columns, rows): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let terminal = rustix::fs::open(&name, flags, Mode::empty()).expect("its other end");
        tcsetwinsize(&master, size(columns, rows)).expect("it has a size");
        let before = tcgetattr(&terminal).expect("it is a terminal");
        let child = spawn(program, &terminal);
        let shown = Arc::new(Shown {
            parser: Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)),
            changed: Condvar::new(),
        });
        let keyboard = File::from(master);
        let output = keyboard.try_clone().expect("a second handle");
        let reader = std::thread::spawn({
            let shown = shown.clone();
            move || shown.read(output)
        });
        Self {
            keyboard,
            terminal,
            before,
            shown,
            reader: Some(reader),
            child,
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        let typed = self.keyboard.write_all(keys.as_bytes());
        typed.expect("the terminal takes keys");
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        let mut parser = self.shown.parser.lock();
        parser.screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.keyboard, size(columns, rows)).expect("it takes a size");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), signal).expect("our own child");
    }

    /// Waits until the screen is as wanted, and returns its lines.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut parser = self.shown.parser.lock();
        loop {
            let lines = lines(parser.screen());
            if wanted(&lines) {
                return lines;
            }
            let late = self.shown.changed.wait_for(&mut parser, LIMIT).timed_out();
            assert!(!late, "gave up waiting for {what}:\n{}", lines.join("\n"));
        }
    }

    /// What the emulator shows now.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.shown.parser.lock().screen())
    }

    /// Waits for the end: the exit code, once the terminal was found as it was before.
    pub(crate) fn end(mut self) -> i32 {
        let status = self.child.wait().expect("our own child");
        let after = tcgetattr(&self.terminal).expect("it is a terminal");
        assert_eq!(modes(&after), modes(&self.before), "line discipline");
        // What was drawn last is read before the emulator is asked.
        let told = rustix::io::write(&self.terminal, b"\r\nover");
        told.expect("the terminal takes text");
        self.wait("the end of the output", |lines| {
            lines.iter().any(|l| l == "over")
        });
        let parser = self.shown.parser.lock();
        assert!(
            !parser.screen().alternate_screen(),
            "the screen before is back"
        );
        assert!(!parser.screen().hide_cursor(), "the cursor is back");
        status.code().expect("it ended by itself")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader holds a handle of its own and ends with the last of the other side.
        drop(self.reader.take());
    }
}

impl Shown {
    fn read(&self, mut output: File) {
        let mut buffer = [0; 4096];
        // The last handle of the other side being closed is an error on Linux, and the end.
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            self.parser.lock().process(&buffer[..count]);
            self.changed.notify_all();
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the program under test is a process"
)]
fn spawn(program: &Command, terminal: &OwnedFd) -> Child {
    let end = || Stdio::from(terminal.try_clone().expect("another handle"));
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "--wait"])
        .arg(program.get_program())
        .args(program.get_args())
        .env_remove("COMPUTELET_ENDPOINT")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .stdin(end())
        .stdout(end())
        .stderr(end());
    command.spawn().expect("setsid of util-linux is there")
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal has cells")
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn modes(termios: &Termios) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        termios.input_modes, termios.output_modes, termios.control_modes, termios.local_modes
    )
}

fn lines(screen: &vt100::Screen) -> Vec<String> {
    let (_, columns) = screen.size();
    let rows = screen.rows(0, columns.get());
    rows.map(|row| row.trim_end().to_owned()).collect()
}
