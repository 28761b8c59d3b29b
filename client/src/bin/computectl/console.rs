//! `computectl console`: the serial console as a terminal.
//!
//! ```text
//!   keyboard thread ──▶ keys ──▶ server ──▶ guest
//!   escape ─▶ end                  └──▶ bytes ──▶ stdout
//! ```

mod keyboard;
mod window;

use std::future::Future;

use clap::Args;
use computedriver_client::v1;
use computedriver_client::v1::open_serial_console_request::Event as Said;
use computedriver_client::v1::open_serial_console_response::Event as Heard;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Streaming;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;

pub(crate) use keyboard::Escape;
use keyboard::Keyboard;
use window::Window;

#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// UUID of the instance.
    instance: String,
    /// Take the console from whoever holds it.
    #[arg(long)]
    force: bool,
    /// Number of the serial port.
    #[arg(long, default_value_t = 0)]
    port: u32,
    /// The key that leaves the console, as `^]`; or `none`. Only on a terminal.
    #[arg(long, value_name = "KEY", default_value = "^]")]
    escape: Escape,
}

pub(crate) async fn run(
    args: ConsoleArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    if out.is_json() {
        let usage = "console carries bytes; `console-log -o json` is for programs";
        return Err(Failure::Usage(usage.into()));
    }
    let client = session.connect().await?;
    let (keys, typed) = keyboard::keys();
    let open = v1::SerialConsoleOpen {
        instance_id: args.instance.clone(),
        port: args.port,
        force: args.force,
    };
    let answer = client
        .consoles()
        .open_serial_console(requests(open, typed))
        .await?;
    // Only now: whoever is refused sees a plain sentence, and no key was swallowed.
    let window = Window::take()?;
    window.say(&format!(
        "console of {}; {}\r\n",
        args.instance,
        args.escape.hint()
    ));
    let escape = window.is_taken().then_some(args.escape);
    let mut keyboard = Keyboard::start(keys, escape)?;
    let shown = show(answer.into_inner(), out);
    let ended = tokio::select! {
        // Whoever wants to leave leaves, whatever the guest writes.
        biased;
        () = keyboard.escaped() => Ok(()),
        done = told_to_end() => done,
        shown = shown => shown.map(|()| window.say("\r\nthe guest has hung up")),
    };
    drop(window);
    ended
}

fn requests(
    open: v1::SerialConsoleOpen,
    typed: ReceiverStream<Vec<u8>>,
) -> impl Stream<Item = v1::OpenSerialConsoleRequest> {
    let said = |event| v1::OpenSerialConsoleRequest { event: Some(event) };
    let typed = typed.map(move |bytes| said(Said::Data(bytes)));
    tokio_stream::once(said(Said::Open(open))).chain(typed)
}

/// Writes what the guest writes until the session ends.
async fn show(
    mut answers: Streaming<v1::OpenSerialConsoleResponse>,
    out: &mut Out,
) -> Result<(), Failure> {
    while let Some(answer) = answers.message().await? {
        if let Some(Heard::Data(bytes)) = answer.event {
            out.bytes(&bytes)?;
        }
    }
    Ok(())
}

/// Waits for a signal that ends programs.
pub(crate) fn told_to_end() -> impl Future<Output = Result<(), Failure>> {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let signals: Result<Vec<_>, _> = kinds.into_iter().map(signal).collect();
    async move {
        let [mut interrupt, mut terminate, mut hangup] = match <[_; 3]>::try_from(signals?) {
            Ok(signals) => signals,
            Err(_) => unreachable!("three were asked for"),
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok(())
    }
}
