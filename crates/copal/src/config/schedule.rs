//! The shape of schedules: what can be computed is accepted.

use crate::schedule::Schedule;

/// Accepts what [`Schedule::parse`] can read.
///
/// The error says what is wrong in half a sentence.
pub fn check_schedule(text: &str) -> Result<(), String> {
    Schedule::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_told_from_mistakes() {
        for good in [
            "0 0 * * *",
            "*/5 * * * *",
            "0 3 * * mon-fri",
            "@daily",
            "@weekly",
            "every 5m",
            "every 1d12h",
            "0 0 1,15 jan 7",
        ] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "daily",
            "@dayly",
            "every",
            "every 0s",
            "every day",
            "60 * * * *",
            "0 24 * * *",
            "* * * *",
            "0 0 0 * *",
            "*/0 * * * *",
            "0 0 30 2 *",
            "0 0 L * *",
        ] {
            assert!(check_schedule(bad).is_err(), "{bad}");
        }
    }
}
