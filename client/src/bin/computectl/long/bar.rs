//! The line at the bottom of a terminal that shows the phase at hand.

use std::time::Duration;

use computedriver_client::v1::operation_progress::Amount;
use computedriver_client::v1::{OperationProgress, PhaseEdge};
use indicatif::{ProgressBar, ProgressStyle};

use crate::text;

const SPINNER: &str = "{spinner} {prefix:<16}  {elapsed_precise}  {wide_msg}";
const BYTES: &str = "{spinner} {prefix:<16}  {elapsed_precise}  {wide_bar} {bytes}/{total_bytes}";
const PERCENT: &str = "{spinner} {prefix:<16}  {elapsed_precise}  {wide_bar} {percent} %";
/// Smooth to the eye, and nothing to the processor.
const TICK: Duration = Duration::from_millis(120);

/// A bar for one phase after another.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(TICK);
        let bar = Self(bar);
        bar.style(SPINNER);
        bar
    }

    pub(super) fn progress(&self, progress: &OperationProgress) {
        if progress.edge() == PhaseEdge::Start {
            self.0.reset();
            self.style(SPINNER);
        }
        self.0.set_prefix(text::phase(progress.phase()));
        self.0.set_message(progress.step.clone());
        match &progress.amount {
            Some(Amount::Bytes(bytes)) => {
                if let Some(total) = bytes.total {
                    self.style(BYTES);
                    self.0.set_length(total);
                } else {
                    self.0.set_message(text::bytes(bytes.done));
                }
                self.0.set_position(bytes.done);
            }
            Some(Amount::Percent(percent)) => {
                self.style(PERCENT);
                self.0.set_length(100);
                self.0.set_position(u64::from(*percent));
            }
            None => {}
        }
    }

    /// Writes a line that stays above the bar.
    pub(super) fn above(&self, line: &str) {
        self.0.println(line);
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }

    fn style(&self, template: &str) {
        // A template that cannot be read leaves the one before.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }
}
