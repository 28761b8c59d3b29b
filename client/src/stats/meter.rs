//! How fast one counter grows.

/// The last reading of a counter, and its growth up to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    last: Option<(i64, i128)>,
    rate: Option<f64>,
}

impl Meter {
    /// Growth a second, when it is known.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Takes a reading. One that is absent leaves the rate unknown; the next is then compared with the last there was,
    /// which is a true mean, because counters are cumulative.
    pub(super) fn read(&mut self, value: Option<i64>, at: Option<i128>) {
        self.rate = None;
        let Some(value) = value else { return };
        // A reading without a time cannot be compared, and what was read before it no longer either.
        let now = at.map(|at| (value, at));
        if let (Some((before, since)), Some((value, at))) = (self.last, now) {
            self.rate = growth(i128::from(value) - i128::from(before), at - since);
        }
        self.last = now;
    }

    /// The counter was read, and was as before.
    pub(super) fn rest(&mut self, at: Option<i128>) {
        let value = self.last.map(|(value, _)| value);
        self.read(value, at);
    }

    /// Nothing is known of the present.
    pub(super) fn pause(&mut self) {
        self.rate = None;
    }

    /// The next reading cannot be compared with the last.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// A counter that went backwards began anew; time that did, or stood still, is a clock that was set.
fn growth(amount: i128, nanoseconds: i128) -> Option<f64> {
    if amount < 0 || nanoseconds <= 0 {
        return None;
    }
    // A rate is for people and graphs: 53 bits of it are more than either sees.
    #[allow(clippy::cast_precision_loss)]
    let rate = amount as f64 / (nanoseconds as f64 / 1e9);
    Some(rate)
}
