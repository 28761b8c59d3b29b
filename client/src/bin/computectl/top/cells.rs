//! Numbers and trends, as narrow as they can be read.

/// Five characters hold any number that [`percent`] and [`amount`] write.
pub(super) const NUMBER: usize = 5;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// As `12.3%` or `1600%`; absent is `-`.
pub(super) fn percent(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value < 99.95 => format!("{value:.1}%"),
        Some(value) => format!("{value:.0}%"),
    }
}

/// Bytes with three digits, as `9.87K` or `512M`; absent is `-`.
pub(super) fn amount(value: Option<f64>) -> String {
    let Some(mut value) = value else {
        return "-".into();
    };
    let mut units = ["B", "K", "M", "G", "T", "P", "E"].into_iter().peekable();
    while value >= 1023.5 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    let unit = units.next().unwrap_or_default();
    if unit == "B" || value >= 99.95 {
        format!("{value:.0}{unit}")
    } else if value >= 9.995 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.2}{unit}")
    }
}

/// Seconds in two or three characters, as `12s`, `5m`, `3h` or `2d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Parts of the whole as bars, the newest at the right; what is not known is blank.
pub(super) fn spark(parts: &[Option<f64>], width: usize) -> String {
    let blank = width.saturating_sub(parts.len());
    let bars = parts.iter().skip(parts.len().saturating_sub(width));
    let bars = bars.map(|part| part.map_or(' ', bar));
    std::iter::repeat_n(' ', blank).chain(bars).collect()
}

fn bar(part: f64) -> char {
    // Within 0 to 7 by the clamp.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let level = (part.clamp(0.0, 1.0) * 7.0).ceil() as usize;
    BARS[level]
}

#[cfg(test)]
mod tests {
    use super::{NUMBER, age, amount, percent, spark};

    #[test]
    fn numbers_are_narrow() {
        for (bytes, shown) in [
            (0.0, "0B"),
            (1023.0, "1023B"),
            (1023.6, "1.00K"),
            (10_111.0, "9.87K"),
            (10_239.0, "10.0K"),
            (536_870_912.0, "512M"),
            (1_073_000_000.0, "1023M"),
            (1e18, "888P"),
        ] {
            assert_eq!(amount(Some(bytes)), shown);
            assert!(shown.len() <= NUMBER);
        }
        for (part, shown) in [
            (0.04, "0.0%"),
            (99.94, "99.9%"),
            (99.96, "100%"),
            (1600.0, "1600%"),
        ] {
            assert_eq!(percent(Some(part)), shown);
        }
        assert_eq!((percent(None), amount(None)), ("-".into(), "-".into()));
    }

    #[test]
    fn ages_are_narrow() {
        let shown = [0, 59, 60, 3599, 3600, 86_400 * 3].map(age);
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "3d"]);
    }

    #[test]
    fn a_trend_ends_at_the_right_and_leaves_what_is_not_known_blank() {
        assert_eq!(spark(&[Some(0.0), None, Some(0.5), Some(1.0)], 6), "  ▁ ▅█");
        assert_eq!(spark(&[Some(1.0), Some(0.0), Some(7.0)], 2), "▁█");
        assert_eq!(spark(&[], 0), "");
    }
}
