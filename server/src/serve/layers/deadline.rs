//! The caller's deadline, honoured for calls with one answer.
//!
//! tonic honours it too, around everything of ours, but answers CANCELLED and without details. So ours ends a little
//! earlier, which is also earlier than the caller's own clock: it gets the answer instead of its client's guess.

use std::{future::Future, time::Duration};

use http::HeaderMap;

use crate::error::{Error, Kind};

const EARLIER: Duration = Duration::from_millis(2);

/// How long the caller waits: `grpc-timeout`, at most eight digits and a unit.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// What `work` comes to, if it does so in time.
pub(super) async fn within<F: Future>(
    limit: Option<Duration>,
    work: F,
) -> Result<F::Output, Error> {
    let Some(limit) = limit else {
        return Ok(work.await);
    };
    let ours = limit.saturating_sub(EARLIER).max(limit / 2);
    tokio::time::timeout(ours, work).await.map_err(|_| {
        let said =
            "the caller's deadline passed before there was an answer; what was begun goes on";
        Error::new(Kind::Deadline, "DEADLINE", said).with("deadline", format!("{limit:?}"))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::of;

    #[test]
    fn deadlines_are_read_in_every_unit_and_nonsense_is_none() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).unwrap());
            of(&headers)
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("9n"), Some(Duration::from_nanos(9)));
        for nonsense in ["", "S", "123456789S", "1s", "-1S", "+1S", "1"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
