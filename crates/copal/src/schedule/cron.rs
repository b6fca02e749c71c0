//! Cron with five fields: the sets of minutes, hours and days, and the instants at which a zone's local time matches them.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

const MINUTE: Field = Field { what: "minute", low: 0, last: 59, high: 59, names: &[] };
const HOUR: Field = Field { what: "hour", low: 0, last: 23, high: 23, names: &[] };
const DAY: Field = Field { what: "day of the month", low: 1, last: 31, high: 31, names: &[] };
const MONTH: Field = Field {
    what: "month",
    low: 1,
    last: 12,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field {
    what: "day of the week",
    low: 0,
    last: 6,
    high: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// The most days of each month.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// How far a search goes. The rarest date, 29 February on given days of the week, comes after at most 40 years.
const HORIZON: SignedDuration = SignedDuration::from_hours(50 * 366 * 24);

/// A cron expression; sets are bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both fields of days must match, because one of them is written with `*`; otherwise either suffices.
    both_days: bool,
    /// Hours are not written with `*`: what a gap swallows runs after it.
    hours_named: bool,
    /// Minutes or hours are written with `*`: local times that come twice run twice.
    each_pass: bool,
}

impl Cron {
    /// Reads the five fields and refuses dates that never come.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("\"{text}\" is no schedule"));
        };
        let (minutes, hours) = (MINUTE.parse(minutes)?, HOUR.parse(hours)?);
        let (days, months, weekdays) = (DAY.parse(days)?, MONTH.parse(months)?, WEEKDAY.parse(weekdays)?);
        let cron = Self {
            minutes: minutes.bits,
            hours: hours.bits,
            days: days.bits,
            months: months.bits,
            // 7 is Sunday as well.
            weekdays: (weekdays.bits | weekdays.bits >> 7) & 0x7f,
            both_days: days.any || weekdays.any,
            hours_named: !hours.any,
            each_pass: minutes.any || hours.any,
        };
        let first_day = cron.days.trailing_zeros();
        let comes = (1..).zip(LENGTHS).any(|(month, days)| has(cron.months, month) && first_day <= days);
        if comes || !cron.both_days { Ok(cron) } else { Err(format!("\"{text}\" names a day that never comes")) }
    }

    /// The first occurrence later than `after`.
    ///
    /// Goes from one change of the zone's offset to the next: in between, local time is as regular as any.
    pub(super) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let horizon = after.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        let (mut start, mut with_start) = (after, false);
        loop {
            let offset = zone.to_offset(start);
            let change = zone.following(start).next().map(|change| change.timestamp());
            let end = change.map_or(horizon, |change| change.min(horizon));
            let until = offset.to_datetime(end);
            let mut from = whole_minute(offset.to_datetime(start), with_start)?;
            while let Some(found) = self.next_match(from, until) {
                if self.each_pass || !is_second_pass(found, offset, zone) {
                    return offset.to_timestamp(found).ok();
                }
                from = next_minute(found)?;
            }
            if end == horizon {
                return None;
            }
            let behind_gap = zone.to_offset(end).to_datetime(end);
            if self.hours_named && self.next_match(whole_minute(until, true)?, behind_gap).is_some() {
                return Some(end);
            }
            (start, with_start) = (end, true);
        }
    }

    /// The first matching local minute from `from` (a whole minute) and before `until`.
    fn next_match(&self, from: DateTime, until: DateTime) -> Option<DateTime> {
        let (mut date, mut hour, mut minute) = (from.date(), number(from.hour()), number(from.minute()));
        while date <= until.date() {
            if !has(self.months, number(date.month())) {
                date = date.last_of_month();
            } else if self.matches_day(date)
                && let Some((hour, minute)) = self.next_time(hour, minute)
            {
                let found = date.at(hour, minute, 0, 0);
                return (found < until).then_some(found);
            }
            date = date.tomorrow().ok()?;
            (hour, minute) = (0, 0);
        }
        None
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = has(self.days, number(date.day()));
        let weekday = has(self.weekdays, number(date.weekday().to_sunday_zero_offset()));
        if self.both_days { day && weekday } else { day || weekday }
    }

    /// The first matching time of a day from `hour:minute` on.
    fn next_time(&self, hour: u32, minute: u32) -> Option<(i8, i8)> {
        let this_hour = has(self.hours, hour).then(|| at_least(self.minutes, minute)).flatten();
        let (hour, minute) = match this_hour {
            Some(minute) => (hour, minute),
            None => (at_least(self.hours, hour + 1)?, at_least(self.minutes, 0)?),
        };
        Some((i8::try_from(hour).ok()?, i8::try_from(minute).ok()?))
    }
}

/// Whether `local`, read with `offset`, is the second of two instants with this local time.
fn is_second_pass(local: DateTime, offset: Offset, zone: &TimeZone) -> bool {
    matches!(zone.to_ambiguous_timestamp(local).offset(), AmbiguousOffset::Fold { after, .. } if after == offset)
}

/// The first whole minute after `local`, or `local` itself if it is one and counts.
fn whole_minute(local: DateTime, counts: bool) -> Option<DateTime> {
    let whole = local.date().at(local.hour(), local.minute(), 0, 0);
    if counts && whole == local { Some(whole) } else { next_minute(whole) }
}

fn next_minute(local: DateTime) -> Option<DateTime> {
    local.checked_add(SignedDuration::from_mins(1)).ok()
}

fn has(set: u64, value: u32) -> bool {
    set >> value & 1 == 1
}

fn at_least(set: u64, value: u32) -> Option<u32> {
    let rest = set & u64::MAX.checked_shl(value)?;
    (rest != 0).then(|| rest.trailing_zeros())
}

fn number(value: i8) -> u32 {
    u32::from(value.unsigned_abs())
}

/// What may stand in one of the five places.
struct Field {
    what: &'static str,
    low: u32,
    /// The last value of `*`.
    last: u32,
    /// The highest number that may be written.
    high: u32,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
}

struct Values {
    bits: u64,
    /// Written with `*`.
    any: bool,
}

impl Field {
    fn parse(&self, text: &str) -> Result<Values, String> {
        let mut values = Values { bits: 0, any: false };
        for part in text.split(',') {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let (low, high) = match range.split_once('-') {
                _ if range == "*" => {
                    values.any = true;
                    (self.low, self.last)
                }
                Some((low, high)) => self.range(part, low, high)?,
                None if step.is_some() => return Err(format!("\"{part}\" steps from one {} to nowhere", self.what)),
                None => (self.value(part, range)?, self.value(part, range)?),
            };
            let step = step.map_or(Ok(1), |step| self.step(part, step))?;
            values.bits |= (low..=high).step_by(step).fold(0, |bits, value| bits | 1 << value);
        }
        Ok(values)
    }

    fn range(&self, part: &str, low: &str, high: &str) -> Result<(u32, u32), String> {
        let (low, mut high) = (self.value(part, low)?, self.value(part, high)?);
        if high == 0 && self.high > self.last {
            // `sat-sun`: as an end, Sunday is 7.
            high = self.high;
        }
        if low <= high { Ok((low, high)) } else { Err(format!("\"{part}\" ends before it begins")) }
    }

    /// A step that leaves nothing but the first value is a mistake: `*/90` is not every 90 minutes.
    fn step(&self, part: &str, step: &str) -> Result<usize, String> {
        let most = self.last - self.low + 1;
        let good = plain_number(step).filter(|step| (1..=most).contains(step)).and_then(|step| step.try_into().ok());
        good.ok_or_else(|| format!("\"{part}\" has no step from 1 to {most}"))
    }

    fn value(&self, part: &str, text: &str) -> Result<u32, String> {
        let named = || (self.low..).zip(self.names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        let value = plain_number(text).or_else(|| named().map(|(value, _)| value));
        let good = value.filter(|value| (self.low..=self.high).contains(value));
        good.ok_or_else(|| format!("\"{part}\" is no {}", self.what))
    }
}

fn plain_number(text: &str) -> Option<u32> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
