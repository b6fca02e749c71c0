//! Durations as people write them in configurations and on command lines: `5d`, `36h`, `1d12h`.

use jiff::SignedDuration;

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units, such as `5d` or `1d12h`.
    #[error("{0:?} is not a duration; write 30s, 90m, 36h, 5d, 2w, 1y or a combination such as 1d12h")]
    Syntax(String),
    /// More than ten thousand years.
    #[error("the duration {0:?} is too long")]
    TooLong(String),
}

const UNITS: [(&str, u64); 6] =
    [("y", 365 * 86_400), ("w", 7 * 86_400), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
const MAX_SECONDS: u64 = 10_000 * 365 * 86_400;

/// Reads whole numbers with units, each unit at most once and the largest first: `y` (365 days), `w`, `d`, `h`, `m`
/// (minutes), `s`.
pub fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let (mut rest, mut units, mut seconds) = (text.trim(), UNITS.as_slice(), 0_u64);
    if rest.is_empty() {
        return Err(syntax());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(syntax)?;
        let (number, behind) = rest.split_at(digits);
        if number.is_empty() {
            return Err(syntax());
        }
        let found = units.iter().position(|(unit, _)| behind.starts_with(unit)).ok_or_else(syntax)?;
        let (unit, factor) = units[found];
        let number: u64 = number.parse().map_err(|_| too_long())?;
        seconds = number.checked_mul(factor).and_then(|more| seconds.checked_add(more)).ok_or_else(too_long)?;
        units = &units[found + 1..];
        rest = behind[unit.len()..].trim_start();
    }
    match i64::try_from(seconds) {
        Ok(whole) if seconds <= MAX_SECONDS => Ok(SignedDuration::from_secs(whole)),
        _ => Err(too_long()),
    }
}

/// Writes a duration so that [`parse_duration`] reads it: `5d`, `1d12h`. Parts of a second are left out.
pub fn duration_text(duration: SignedDuration) -> String {
    // Weeks and years would not be what was written more often than days.
    const SPELLED: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let (mut text, mut rest) = (String::new(), duration.as_secs().max(0));
    for (unit, size) in SPELLED {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> i64 {
        parse_duration(text).unwrap().as_hours()
    }

    #[test]
    fn reads_units_and_combinations() {
        assert_eq!(hours("5d"), 120);
        assert_eq!(hours("36h"), 36);
        assert_eq!(hours("2w"), 14 * 24);
        assert_eq!(hours("1y"), 365 * 24);
        assert_eq!(hours("1d12h"), 36);
        assert_eq!(hours(" 1w 1d "), 8 * 24);
        assert_eq!(parse_duration("90m").unwrap(), SignedDuration::from_secs(5400));
        assert_eq!(parse_duration("1h30m5s").unwrap(), SignedDuration::from_secs(5405));
        assert_eq!(parse_duration("0d").unwrap(), SignedDuration::ZERO);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (text, shortest) in [("5d", "5d"), ("36h", "1d12h"), ("2w", "14d"), ("1h30m5s", "1h30m5s"), ("0d", "0s")] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration_text(duration), shortest);
            assert_eq!(parse_duration(shortest), Ok(duration));
        }
    }

    #[test]
    fn refuses_what_is_not_one() {
        for text in ["", " ", "5", "d", "5x", "5 days", "-5d", "1.5h", "12h1d", "1d1d", "5d3", "5 d", "٣d", "5D", "5dé"]
        {
            assert_eq!(parse_duration(text), Err(DurationError::Syntax(text.to_owned())), "{text}");
        }
        for text in ["99999999999999999999d", "18446744073709551615y", "10001y", "10000y1s"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong(text.to_owned())), "{text}");
        }
    }
}
