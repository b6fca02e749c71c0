//! What is promised about a database, and the times that follow from it.

use std::time::Duration;

use copal_core::Promise;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::DatabaseSettings;
use crate::schedule::Schedule;

/// A policy as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Promised {
    pub(super) max_age: Option<Duration>,
    pub(super) schedule: Option<Timetable>,
    pub(super) drill: Option<Timetable>,
    /// Regular runs start up to this much later than the schedule says.
    pub(super) jitter: Duration,
    /// A schedule that this program does not understand.
    pub(super) unreadable: Option<String>,
}

/// A schedule and its time zone, which only the configuration knows.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    pub(super) schedule: Schedule,
    pub(super) zone: Option<TimeZone>,
}

/// A time by which something is done, and what it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The occurrence of the schedule.
    pub(super) occurrence: Timestamp,
    /// From the occurrence to the one after it.
    pub(super) interval: SignedDuration,
    /// With its tolerance.
    pub(super) at: Timestamp,
}

impl Promised {
    /// As configured; `zone` is for a database without a zone of its own.
    pub(super) fn configured(settings: &DatabaseSettings, zone: &TimeZone) -> Self {
        let zone = settings.timezone.as_ref().unwrap_or(zone);
        let mut promised = Self { max_age: settings.max_age, jitter: settings.jitter, ..Self::default() };
        promised.schedule = promised.timetable(settings.schedule.as_deref(), Some(zone));
        promised.drill = promised.timetable(settings.drill.as_deref(), Some(zone));
        promised
    }

    /// As a manifest's clear header has it, which knows neither the zone nor the drills.
    pub(super) fn recorded(promise: &Promise) -> Self {
        let mut promised = Self { max_age: promise.max_age_seconds.map(Duration::from_secs), ..Self::default() };
        promised.schedule = promised.timetable(promise.schedule.as_deref(), None);
        promised
    }

    fn timetable(&mut self, text: Option<&str>, zone: Option<&TimeZone>) -> Option<Timetable> {
        let text = text?;
        match Schedule::parse(text) {
            Ok(schedule) => Some(Timetable { schedule, zone: zone.cloned() }),
            Err(_) => {
                self.unreadable = Some(text.to_owned());
                None
            }
        }
    }

    /// When the next regular run of a database starts.
    pub(super) fn next_run(&self, database: &str, now: Timestamp) -> Option<Timestamp> {
        let timetable = self.schedule.as_ref()?;
        match &timetable.zone {
            Some(zone) => {
                let at = timetable.schedule.next_after(now, zone)?;
                Some(timetable.schedule.spread(database, at, zone, self.jitter))
            }
            None => timetable.after_in_any_zone(now),
        }
    }
}

impl Timetable {
    /// The first occurrence after a moment; where the zone is not known, the latest that it can be.
    ///
    /// So a place without the configuration gives no false alarm, and a daily backup is still missed after a day: whatever
    /// the zone, its occurrences are that far apart.
    fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        match &self.zone {
            Some(zone) => self.schedule.next_after(moment, zone),
            None => every_zone().filter_map(|zone| self.schedule.next_after(moment, &zone)).max(),
        }
    }

    /// The first occurrence after a moment, if it is the same wherever the database is.
    fn after_in_any_zone(&self, moment: Timestamp) -> Option<Timestamp> {
        let mut times = every_zone().filter_map(|zone| self.schedule.next_after(moment, &zone));
        let first = times.next()?;
        times.all(|time| time == first).then_some(first)
    }

    /// When the first occurrence after a moment should have been dealt with: as long after it as the next one is away, but
    /// within these bounds.
    pub(super) fn deadline(&self, moment: Timestamp, tolerance: (SignedDuration, SignedDuration)) -> Option<Deadline> {
        let occurrence = self.after(moment)?;
        let (least, most) = tolerance;
        let interval = self.after(occurrence).map_or(most, |next| next.duration_since(occurrence));
        let is_sure = self.zone.is_some() || self.after_in_any_zone(moment).is_some();
        // Where the zone is not known, its clocks may have been set back meanwhile.
        let unsure = if is_sure { SignedDuration::ZERO } else { SignedDuration::from_hours(1) };
        let at = occurrence.checked_add(interval.clamp(least, most)).and_then(|at| at.checked_add(unsure)).ok()?;
        Some(Deadline { occurrence, interval, at })
    }
}

/// A zone for every half hour of offset from UTC that a place on earth has.
fn every_zone() -> impl Iterator<Item = TimeZone> {
    (-24..=28).filter_map(|half| Offset::from_seconds(half * 1800).ok()).map(TimeZone::fixed)
}
