//! `computectl guest set-password`. The password is never an argument, which others on the machine can read.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use computedriver_client::v1;
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal;

use super::{PasswordArgs, QUESTION, answer, within};
use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;

pub(super) async fn run(
    args: PasswordArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let admin_password = match io::stdin().is_terminal() {
        true => asked()?,
        false => piped()?,
    };
    let request = v1::SetAdminPasswordRequest {
        instance_id: args.instance,
        admin_password,
        username: args.user.unwrap_or_default(),
        ..Default::default()
    };
    let mut guests = session.connect().await?.guests();
    let request = within(session, request, QUESTION);
    let set = guests.set_admin_password(request).await?.into_inner();
    let view = ("password", "SetAdminPasswordResponse");
    answer(out, view, &set, "the password is set")
}

fn piped() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(Failure::Usage("stdin has no password".to_owned())),
        false => Ok(password.to_owned()),
    }
}

/// Asks a person, twice.
fn asked() -> Result<String, Failure> {
    let password = prompt("New password: ")?;
    if password != prompt("The same again: ")? {
        return Err(Failure::Usage("the two differ".to_owned()));
    }
    match password.is_empty() {
        true => Err(Failure::Usage("the password is empty".to_owned())),
        false => Ok(password),
    }
}

/// The terminal as it was, when this is dropped.
struct Quiet;

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = terminal::disable_raw_mode();
        let _ = writeln!(io::stderr());
    }
}

fn prompt(words: &str) -> Result<String, Failure> {
    write!(io::stderr(), "{words}")?;
    io::stderr().flush()?;
    terminal::enable_raw_mode()?;
    let _quiet = Quiet;
    let mut typed = String::new();
    loop {
        let Event::Key(key) = event::read()? else {
            continue;
        };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Enter => return Ok(typed),
            KeyCode::Char('c' | 'd') if control => {
                return Err(Failure::Told(130));
            }
            KeyCode::Char('u') if control => typed.clear(),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(c) if !control => typed.push(c),
            _ => {}
        }
    }
}
