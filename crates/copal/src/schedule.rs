//! When databases are due: [`Schedule`] knows the times, [`Planner`] what starts now.
//!
//! Pure: no clock, no task, no file. Every time comes in as a [`Timestamp`], so years pass in milliseconds in a test. Who
//! really starts runs, measures their time limit and keeps their history stands above.
//!
//! # Daylight saving
//!
//! Cron speaks of local time, which skips some minutes a year (a gap) and repeats others (a fold). Every case has one rule:
//!
//! - **Gap, hours named** (`30 2 * * *`, `*/5 2 * * *`): all occurrences inside the gap become one, at the first instant after
//!   it. If another occurrence falls on that instant, they are one too.
//! - **Gap, hours written with `*`** (`*/5 * * * *`, `17 * * * *`): what does not exist does not run; the next one comes after
//!   as many real minutes as ever.
//! - **Fold, minutes and hours named** (`30 2 * * *`): once, the first time.
//! - **Fold, minutes or hours written with `*`**: both times, again by real minutes.
//!
//! `every 5m` counts real time and knows no zone.

mod cron;
mod lane;
mod planner;
mod policy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use planner::{Missed, Planner, Run, RunKind, RunOutcome, RunReason, Tick};
pub use policy::{History, Past, Policy, Retries};

use cron::Cron;

/// The longest `every`, in seconds: any longer, and it might not come before the end of the calendar.
const LONGEST_INTERVAL: i64 = 100 * 365 * 86_400;

/// The times at which something is due.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Clone, PartialEq, Eq)]
enum Rule {
    /// So many seconds apart, counted from the epoch.
    Every(i64),
    Cron(Cron),
}

impl Schedule {
    /// Reads cron with five fields, `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually` or
    /// `every <duration>`.
    ///
    /// The fields are minute, hour, day of the month, month and day of the week, with lists, ranges, steps and English names of
    /// three letters; 0 and 7 are Sunday. If both fields of days are restricted, either suffices; one that is written with `*`
    /// (even `*/2`) must match as well (crontab(5)). A day that never comes is refused. The error says what is wrong in half a
    /// sentence.
    ///
    /// `every` counts from 1970-01-01 00:00 UTC: that needs no memory, so no restart shifts it, and `every 1h` is on the hour.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let rule = if text.starts_with('@') {
            let cron = match text {
                "@hourly" => "0 * * * *",
                "@daily" | "@midnight" => "0 0 * * *",
                "@weekly" => "0 0 * * 0",
                "@monthly" => "0 0 1 * *",
                "@yearly" | "@annually" => "0 0 1 1 *",
                _ => return Err(format!("\"{text}\" is no known schedule")),
            };
            Rule::Cron(Cron::parse(cron)?)
        } else if let Some(interval) = text.strip_prefix("every ") {
            let seconds = copal_core::parse_duration(interval).map_err(|error| error.to_string())?.as_secs();
            if seconds < 1 {
                return Err(format!("\"{text}\" would never rest"));
            }
            if seconds > LONGEST_INTERVAL {
                return Err(format!("\"{text}\" is longer than a century"));
            }
            Rule::Every(seconds)
        } else {
            Rule::Cron(Cron::parse(text)?)
        };
        Ok(Self { text: text.to_owned(), rule })
    }

    /// The schedule as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first occurrence later than `after`; `None` if there is none before the end of the calendar.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(seconds) => {
                let whole = after.as_second() - i64::from(after.subsec_nanosecond() < 0);
                Timestamp::from_second((whole.div_euclid(*seconds) + 1).checked_mul(*seconds)?).ok()
            }
            Rule::Cron(cron) => cron.next_after(after, zone),
        }
    }

    /// The next occurrence after `now` when all up to `done` are dealt with, though `done` may lie in the future of a clock
    /// that was set back.
    ///
    /// At most one occurrence that the clock reaches again is passed over: with more of them in between, waiting for the old
    /// time would stop the schedule for whole periods, so it goes on by the new time.
    fn resume(&self, now: Timestamp, done: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = self.next_after(now, zone)?;
        if first > done {
            return Some(first);
        }
        let second = self.next_after(first, zone)?;
        Some(if second > done { second } else { first })
    }

    /// When the run of `occurrence` shall start: up to `jitter` later, so that databases with one schedule do not start at once.
    ///
    /// The same database and occurrence always give the same time, on every machine, and it lies before the next occurrence,
    /// so occurrences never change their order.
    pub fn spread(&self, database: &str, occurrence: Timestamp, zone: &TimeZone, jitter: Duration) -> Timestamp {
        if jitter.is_zero() {
            return occurrence;
        }
        let room = self.next_after(occurrence, zone).map(|next| next.duration_since(occurrence).unsigned_abs());
        let most = u64::try_from(jitter.min(room.unwrap_or(jitter)).as_millis()).unwrap_or(u64::MAX);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&occurrence.as_nanosecond().to_le_bytes());
        hasher.update(database.as_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        let delay = u64::from_le_bytes(number).checked_rem(most).unwrap_or(0);
        occurrence.checked_add(Duration::from_millis(delay)).unwrap_or(occurrence)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?})", self.text)
    }
}
