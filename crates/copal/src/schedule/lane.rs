//! The runs of one kind of one database: the next regular occurrence, and whatever else calls for a run.
//!
//! Invariant: an occurrence is dealt with once, by a run that starts at or after it, or by being reported as missed. One run
//! deals with everything that was pending when it started.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Schedule;
use super::planner::{RunKind, RunReason};
use super::policy::{Past, Policy, Retries};

/// An occurrence noticed later than this after it was due was missed: nobody was awake.
const LATE: SignedDuration = SignedDuration::from_secs(60);

const INSTANT: SignedDuration = SignedDuration::from_nanos(1);

/// Whose lane it is, and by which policy.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) database: &'a str,
    pub(super) kind: RunKind,
    pub(super) policy: &'a Policy,
}

/// A regular occurrence that is still to be dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Occurrence {
    at: Timestamp,
    /// `at` with its jitter.
    due: Timestamp,
    /// Why a run follows, once its time has come.
    noticed: Option<RunReason>,
}

/// What calls for runs of one kind.
#[derive(Debug, Default)]
pub(super) struct Lane {
    next: Option<Occurrence>,
    retry: Option<Timestamp>,
    requested: Option<Timestamp>,
    changed: Option<Timestamp>,
    /// Transient failures in a row.
    failures: u32,
    last_start: Option<Timestamp>,
}

impl Terms<'_> {
    fn schedule(&self) -> Option<&Schedule> {
        match self.kind {
            RunKind::Backup => self.policy.schedule.as_ref(),
            RunKind::Drill => self.policy.drill.as_ref(),
        }
    }

    fn occurrence(&self, at: Timestamp) -> Occurrence {
        let spread = |schedule: &Schedule| schedule.spread(self.database, at, &self.policy.zone, self.policy.jitter);
        Occurrence { at, due: self.schedule().map_or(at, spread), noticed: None }
    }

    /// The first occurrence after `now`, when all up to `done` are dealt with.
    fn next(&self, now: Timestamp, done: Timestamp) -> Option<Occurrence> {
        let at = self.schedule()?.resume(now, done, &self.policy.zone)?;
        Some(self.occurrence(at))
    }
}

impl Lane {
    /// A lane that goes on where `past` ended: the first occurrence since then counts, though it may be long ago, and a run
    /// that was cut off or failed is repeated.
    pub(super) fn open(terms: Terms<'_>, past: Past, now: Timestamp) -> Self {
        let done = past.last_start.max(past.last_success);
        let first = match (terms.schedule(), done) {
            (Some(schedule), Some(done)) if done <= now => {
                schedule.next_after(done, &terms.policy.zone).map(|at| terms.occurrence(at))
            }
            _ => terms.next(now, done.unwrap_or(now)),
        };
        let unfinished = past.last_start > past.last_success && terms.policy.catch_up;
        // A start in the future was written by a clock that was set back since.
        let last_start = past.last_start.map(|start| start.min(now));
        Self { next: first, retry: unfinished.then_some(now), last_start, ..Self::default() }
    }

    /// Takes another policy over. What is pending stays, also an occurrence of the old schedule whose time has come.
    pub(super) fn reload(&mut self, old: Terms<'_>, new: Terms<'_>, now: Timestamp) {
        let same = old.schedule() == new.schedule() && old.policy.zone == new.policy.zone;
        self.next = match self.next {
            _ if new.schedule().is_none() => None,
            Some(next) if next.noticed.is_some() || next.at.min(next.due) <= now => Some(next),
            Some(next) if same => Some(new.occurrence(next.at)),
            _ => new.next(now, now),
        };
    }

    /// When the next run wants to start.
    pub(super) fn due(&self, min_interval: Duration) -> Option<Timestamp> {
        let changed = self.changed_due(min_interval);
        [self.next.map(|next| next.due), self.retry, self.requested, changed].into_iter().flatten().min()
    }

    /// A change waits for the minimum interval, and does not get round the backoff after a failure: the retry covers it.
    fn changed_due(&self, min_interval: Duration) -> Option<Timestamp> {
        let changed = self.changed.filter(|_| self.retry.is_none())?;
        Some(self.last_start.map_or(changed, |start| changed.max(later(start, min_interval))))
    }

    /// When the next regular run starts.
    pub(super) fn next_regular(&self) -> Option<Timestamp> {
        self.next.map(|next| next.due)
    }

    /// Notices a regular occurrence whose time has come; answers with it if it was missed and nobody wants it back.
    pub(super) fn notice(&mut self, terms: Terms<'_>, now: Timestamp) -> Option<Timestamp> {
        let next = self.next.as_mut().filter(|next| next.due <= now && next.noticed.is_none())?;
        if now.duration_since(next.due) <= LATE {
            next.noticed = Some(RunReason::Scheduled);
        } else if terms.policy.catch_up {
            next.noticed = Some(RunReason::CaughtUp);
        } else {
            let missed = next.at;
            self.next = terms.next(now, missed);
            return Some(missed);
        }
        None
    }

    /// Likewise for what fell due while the database ran or waited for a place: that is not missed.
    pub(super) fn notice_while_busy(&mut self, now: Timestamp) {
        if let Some(next) = self.next.as_mut().filter(|next| next.due <= now && next.noticed.is_none()) {
            next.noticed = Some(RunReason::Scheduled);
        }
    }

    /// Starts a run, which deals with everything pending; says why it starts and which attempt it is.
    pub(super) fn begin(&mut self, terms: Terms<'_>, now: Timestamp) -> (RunReason, u32) {
        let regular = self.next.filter(|next| next.due <= now);
        if let Some(next) = regular {
            self.failures = 0;
            self.next = terms.next(now, now.max(next.at));
        }
        let reason = match regular {
            _ if self.requested.is_some() => RunReason::Requested,
            Some(next) => next.noticed.unwrap_or(RunReason::Scheduled),
            None if self.retry.is_some() => RunReason::Retry,
            None => RunReason::Changed,
        };
        (self.retry, self.requested, self.changed) = (None, None, None);
        self.last_start = Some(now);
        (reason, self.failures.saturating_add(1))
    }

    /// The run ended for good, well or not.
    pub(super) fn settle(&mut self) {
        self.failures = 0;
    }

    /// The run failed and may succeed later: it is repeated, unless a regular run comes first and deals with it.
    pub(super) fn fail(&mut self, retries: Retries, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        if self.failures > retries.most {
            self.failures = 0;
        } else {
            self.retry = Some(later(now, retries.delay(self.failures)));
        }
    }

    /// A run is wanted now, whatever the schedule says.
    pub(super) fn request(&mut self, now: Timestamp) {
        self.requested.get_or_insert(now);
    }

    /// What is to be backed up has changed; the first of several calls counts.
    pub(super) fn change(&mut self, now: Timestamp) {
        self.changed.get_or_insert(now);
    }

    /// The clock was set back from `seen` to `now`: waits keep their length, occurrences follow the new time.
    pub(super) fn set_back(&mut self, terms: Terms<'_>, seen: Timestamp, now: Timestamp) {
        let back = seen.duration_since(now);
        for time in [&mut self.retry, &mut self.requested, &mut self.changed, &mut self.last_start] {
            *time = time.map(|time| earlier(time, back));
        }
        if let Some(next) = &mut self.next {
            if next.due <= seen {
                next.due = earlier(next.due, back);
            } else if next.at > now {
                self.next = terms.next(now, earlier(next.at, INSTANT));
            }
        }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
