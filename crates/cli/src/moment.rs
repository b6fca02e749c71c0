//! Times as people type them: `--at "2026-11-20 15:30"`, `--at yesterday`, `--at "2h ago"`.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp, Zoned};

/// Reads an argument in the local time zone of now.
pub(crate) fn argument(text: &str) -> Result<Timestamp, String> {
    parse(text.trim(), &Zoned::now())
}

/// Reads RFC 3339, a local date and time, a date (the end of that day), `now`, `today`, `yesterday`, or a span `ago`.
fn parse(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no time; write 2026-11-20T15:30:00Z, \"2026-11-20 15:30\", 2026-11-20 (its end), yesterday or \"2h ago\""
        )
    };
    let day = match text.to_ascii_lowercase().as_str() {
        "now" => return Ok(now.timestamp()),
        "today" => Some(now.date()),
        "yesterday" => Some(now.date().yesterday().map_err(|_| wrong())?),
        _ => text.parse::<Date>().ok().filter(|_| text.len() == 10),
    };
    if let Some(day) = day {
        let end = day.at(23, 59, 59, 0).to_zoned(now.time_zone().clone());
        return end.map(|end| end.timestamp()).map_err(|_| wrong());
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(':') {
        let local = text.parse::<DateTime>().map_err(|_| wrong())?;
        return local.to_zoned(now.time_zone().clone()).map(|zoned| zoned.timestamp()).map_err(|_| wrong());
    }
    let span = text.parse::<Span>().ok().filter(|span| span.is_negative()).ok_or_else(wrong)?;
    now.checked_add(span).map(|zoned| zoned.timestamp()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_meant() {
        let now: Zoned = "2026-11-21T10:00:00+01:00[Europe/Berlin]".parse().unwrap();
        for (text, expected) in [
            ("2026-11-20T15:30:00Z", "2026-11-20T15:30:00Z"),
            ("2026-11-20T15:30:00+01:00", "2026-11-20T14:30:00Z"),
            ("2026-11-20 15:30:00Z", "2026-11-20T15:30:00Z"),
            ("2026-11-20 15:30", "2026-11-20T14:30:00Z"),
            ("2026-11-20T15:30:10", "2026-11-20T14:30:10Z"),
            ("2026-11-20", "2026-11-20T22:59:59Z"),
            ("yesterday", "2026-11-20T22:59:59Z"),
            ("today", "2026-11-21T22:59:59Z"),
            ("now", "2026-11-21T09:00:00Z"),
            ("2h ago", "2026-11-21T07:00:00Z"),
            ("3 days ago", "2026-11-18T09:00:00Z"),
            ("1h30m ago", "2026-11-21T07:30:00Z"),
        ] {
            assert_eq!(parse(text, &now).map(|at| at.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for bad in ["", "2h", "tomorrow", "2026-13-01", "2026-11", "15:30", "20261120", "soon", "2026-11-20 25:00"] {
            assert!(parse(bad, &now).is_err(), "{bad}");
        }
    }
}
