//! Follows a long call and shows its phases: redrawn on a terminal, plain lines in a pipe, objects as JSON.

mod bar;

use std::future::pending;
use std::time::Duration;

use computedriver_client::v1::operation_progress::Amount;
use computedriver_client::v1::{OperationProgress, Phase, PhaseEdge};
use computedriver_client::{Follow, LongRequest, News};
use serde_json::json;

use crate::exit::{Failure, Left};
use crate::out::Out;
use crate::{json, text};

use bar::Bar;

/// A long call and the words for it.
pub(crate) struct Long<R: LongRequest> {
    pub(crate) follow: Follow<R>,
    /// How long to wait.
    pub(crate) limit: Option<Duration>,
    /// What to look at when the wait ends before the server named the operation, as `computectl show ID`.
    pub(crate) look: String,
}

impl<R: LongRequest> Long<R> {
    /// Follows to the end; an interrupt or the limit ends the wait and nothing else.
    pub(crate) async fn run(mut self, out: &mut Out) -> Result<R::Done, Failure> {
        let mut display = Display::new(out);
        let limit = self.limit;
        let time_up = async move {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => pending().await,
            }
        };
        tokio::pin!(time_up);
        loop {
            // News first: an end that is there is told even when the person was as fast.
            let news = tokio::select! {
                biased;
                news = self.follow.next() => news,
                _ = tokio::signal::ctrl_c() => return Err(display.leave(self.goes_on(Left::Interrupted))),
                () = &mut time_up => return Err(display.leave(self.goes_on(Left::TimeUp))),
            };
            match news {
                Ok(News::Done(done)) => {
                    display.clear();
                    return Ok(done);
                }
                Ok(news) => display.show(&news)?,
                Err(error) => return Err(display.leave(error.into())),
            }
        }
    }

    /// The sentence for someone who stops waiting.
    fn goes_on(&self, why: Left) -> Failure {
        let left = match why {
            Left::Interrupted => "interrupted",
            Left::TimeUp => "not done in time",
        };
        let message = match self.follow.operation_id() {
            Some(id) => format!(
                "{left}: operation {id} goes on at the server\n\
                 watch it:  computectl ops watch {id}\n\
                 cancel it: computectl ops cancel {id}"
            ),
            None => format!(
                "{left} before the server answered: the request may have reached it\nsee: {}",
                self.look
            ),
        };
        Failure::Left { why, message }
    }
}

/// What the person sees of a long call.
struct Display<'a> {
    out: &'a mut Out,
    bar: Option<Bar>,
    quarter: u64,
}

impl<'a> Display<'a> {
    fn new(out: &'a mut Out) -> Self {
        let bar = (out.is_terminal() && !out.is_json()).then(Bar::new);
        Self {
            out,
            bar,
            quarter: 0,
        }
    }

    fn show<T>(&mut self, news: &News<T>) -> Result<(), Failure> {
        if self.out.is_json() {
            return self.object(news);
        }
        match news {
            News::Progress(progress) => self.progress(progress),
            News::Standing(operation) => {
                // Phases that ended before this caller came.
                for progress in &operation.phases {
                    self.progress(progress)?;
                }
                Ok(())
            }
            News::Lost(error) => self.say(&format!("{error}; joining again")),
            _ => Ok(()),
        }
    }

    fn object<T>(&mut self, news: &News<T>) -> Result<(), Failure> {
        match news {
            News::Progress(progress) => {
                let view = json::view("OperationProgress", progress);
                self.out.object(&json!({ "progress": view }))?;
            }
            News::Standing(operation) => {
                let view = json::view("Operation", operation.as_ref());
                self.out.object(&json!({ "operation": view }))?;
            }
            News::Lost(error) => {
                let view = Failure::Call(error.clone()).json();
                self.out.object(&json!({ "lost": view }))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn progress(&mut self, progress: &OperationProgress) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.progress(progress);
        }
        match progress.edge() {
            PhaseEdge::Start if progress.phase() == Phase::Undo => {
                self.say("UNDO  what was done is being undone")
            }
            PhaseEdge::Start => {
                self.quarter = 0;
                Ok(())
            }
            PhaseEdge::End => self.say(&ended(progress)),
            _ if self.bar.is_some() => Ok(()),
            _ => self.quarters(progress),
        }
    }

    /// In a pipe, a phase that takes long says so at each quarter.
    fn quarters(&mut self, progress: &OperationProgress) -> Result<(), Failure> {
        let Some(percent) = percent(progress) else {
            return Ok(());
        };
        if percent / 25 <= self.quarter {
            return Ok(());
        }
        self.quarter = percent / 25;
        let phase = text::phase(progress.phase());
        let amount = amount(progress).unwrap_or_default();
        self.say(&format!("{phase:<16}  {amount}"))
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        match &self.bar {
            Some(bar) => bar.above(line),
            None => self.out.line(line)?,
        }
        Ok(())
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
    }

    fn leave(&mut self, failure: Failure) -> Failure {
        self.clear();
        failure
    }
}

fn ended(progress: &OperationProgress) -> String {
    let phase = text::phase(progress.phase());
    let elapsed = text::span(text::duration(progress.elapsed.as_ref()));
    let mut line = format!("{phase:<16}  {elapsed:>8}");
    if let Some(Amount::Bytes(bytes)) = &progress.amount {
        line.push_str(&format!("  {}", text::bytes(bytes.done)));
    }
    if !progress.evidence.is_empty() {
        // The guest wrote it: nothing of it may steer the terminal.
        let evidence: String = progress
            .evidence
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        line.push_str(&format!("  {evidence}"));
    }
    line
}

fn percent(progress: &OperationProgress) -> Option<u64> {
    match progress.amount.as_ref()? {
        Amount::Percent(percent) => Some(u64::from(*percent)),
        Amount::Bytes(bytes) => {
            let total = bytes.total.filter(|total| *total > 0)?;
            u64::try_from(u128::from(bytes.done) * 100 / u128::from(total)).ok()
        }
    }
}

fn amount(progress: &OperationProgress) -> Option<String> {
    Some(match progress.amount.as_ref()? {
        Amount::Percent(percent) => format!("{percent} %"),
        Amount::Bytes(bytes) => match bytes.total {
            Some(total) => format!("{} of {}", text::bytes(bytes.done), text::bytes(total)),
            None => text::bytes(bytes.done),
        },
    })
}
