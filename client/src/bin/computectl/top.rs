//! `computectl top`: what the guests use, live.
//!
//! ```text
//!   feed  (batches, lost links) ─┐
//!   facts (names, host totals)  ─┼─▶ board ──▶ draw ──▶ terminal
//!   keys, signals, seconds      ─┘
//! ```
//! The board is the whole state, and drawing reads nothing else.

mod board;
mod cells;
mod draw;
mod feed;
mod keys;
mod once;
mod row;
mod screen;

use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamExt as _;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::text;

use board::Board;
use draw::Look;
use feed::News;
use keys::Flow;
use screen::Screen;

/// News that may wait for the screen; the feed waits when there is more.
const NEWS: usize = 16;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Time between samples, from 1s to 1h.
    #[arg(long, default_value = "2s", value_parser = text::parse_duration)]
    interval: Duration,
    /// Print one table after two samples and end; for scripts and pipes.
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(args: TopArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    if args.once {
        let client = session.connect().await?;
        let mut board = Board::new(session.endpoint(), args.interval);
        return once::run(&client, &mut board, out).await;
    }
    if out.is_json() || !out.is_terminal() {
        let usage = "top draws on a terminal; `computectl top --once` prints one table, \
                     and `computectl stats -o json` is for programs";
        return Err(Failure::Usage(usage.into()));
    }
    // Before the screen is taken: whoever has no server sees a plain sentence.
    let client = session.connect_for_good().await?;
    let board = Board::new(session.endpoint(), args.interval);
    let (news, rx) = mpsc::channel(NEWS);
    let _feed = feed::begin(&client, args.interval, news);
    live(board, rx).await
}

/// Draws until the person leaves.
async fn live(mut board: Board, mut news: mpsc::Receiver<News>) -> Result<(), Failure> {
    let look = Look::of_environment();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut second = tokio::time::interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut screen = Screen::take()?;
    let mut events = EventStream::new();
    loop {
        screen.draw(|frame| draw::draw(frame, &mut board, look))?;
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) if board.key(key) == Flow::Quit => return Ok(()),
                // A new size is seen by the next drawing.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            told = news.recv() => match told {
                Some(News::Batch(batch)) => board.batch(*batch),
                Some(News::Facts(facts)) => board.facts(*facts),
                Some(News::Lost(error)) => board.lost(&error),
                Some(News::End(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            _ = second.tick() => board.second(),
        }
    }
}
