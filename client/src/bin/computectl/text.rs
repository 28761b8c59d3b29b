//! Small things said in the words of people: sizes, times, durations, names of enums.

use std::time::Duration;

use computedriver_client::v1;

/// Bytes in the largest unit that leaves a number above one.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let power = (count.ilog2() / 10).min(6);
    // Shown with one digit: what the conversion loses is far below that.
    #[allow(clippy::cast_precision_loss)]
    let amount = count as f64 / (1u64 << (10 * power)) as f64;
    format!("{amount:.1} {}", UNITS[power as usize - 1])
}

/// As `0.3 s` or `2 min 05 s`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// A duration of the wire; one that makes no sense is none.
pub(crate) fn duration(wire: Option<&prost_types::Duration>) -> Duration {
    wire.and_then(|d| Duration::try_from(*d).ok())
        .unwrap_or_default()
}

/// As `2026-01-31T12:00:00Z`; empty when unset.
pub(crate) fn time(wire: Option<&prost_types::Timestamp>) -> String {
    wire.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok())
        .and_then(|t| t.round(jiff::Unit::Second).ok())
        .map(|t| t.to_string())
        .unwrap_or_default()
}

/// The name of an enum's value without the name of the enum.
pub(crate) fn short(full: &'static str, prefix: &str) -> &'static str {
    full.strip_prefix(prefix).unwrap_or(full)
}

pub(crate) fn phase(phase: v1::Phase) -> &'static str {
    short(phase.as_str_name(), "PHASE_")
}

pub(crate) fn power_state(state: v1::PowerState) -> &'static str {
    short(state.as_str_name(), "POWER_STATE_")
}

pub(crate) fn operation_state(state: v1::OperationState) -> &'static str {
    short(state.as_str_name(), "OPERATION_STATE_")
}

pub(crate) fn disk_format(format: v1::DiskFormat) -> &'static str {
    short(format.as_str_name(), "DISK_FORMAT_")
}

pub(crate) fn sample_status(status: v1::SampleStatus) -> &'static str {
    short(status.as_str_name(), "SAMPLE_STATUS_")
}

/// What a guest or its hypervisor wrote, so that nothing of it steers the terminal or ends the line.
pub(crate) fn printable(text: &str) -> String {
    let space = |c: char| if c.is_control() { ' ' } else { c };
    text.chars()
        .map(space)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Reads `250ms`, `30`, `30s`, `5m` or `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits
        .parse()
        .map_err(|_| "expected a number with a unit, as 30s or 5m".to_owned())?;
    let duration = match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(count)),
        "" | "s" => Some(Duration::from_secs(count)),
        "m" | "min" => count.checked_mul(60).map(Duration::from_secs),
        "h" => count.checked_mul(3600).map(Duration::from_secs),
        _ => return Err("the unit is one of ms, s, m, h".to_owned()),
    };
    duration
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "the duration is 0 or too long".to_owned())
}

/// Reads `key=value`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bytes, parse_duration, parse_pair, printable, span};

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(300 << 20), "300.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn spans_read_well() {
        assert_eq!(span(Duration::from_millis(250)), "0.2 s");
        assert_eq!(span(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn durations_are_understood_or_refused() {
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "0s", "5y", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_guest_wrote_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\r\nb\u{9b}"), "a [2J  b");
    }

    #[test]
    fn pairs_keep_later_equal_signs() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_pair("=b").is_err());
        assert!(parse_pair("a").is_err());
    }
}
