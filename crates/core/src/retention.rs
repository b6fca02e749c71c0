//! Which backups stay, and why.

mod until;

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::Serialize;

pub use until::{Expected, KeptUntil, kept_until};

use crate::{BackupId, duration_text};

/// The longest distance of the two newest backups at which the clock is believed.
const MOST_BETWEEN_TWO: SignedDuration = SignedDuration::from_hours(31 * 24);

/// The rules of a policy. A backup stays if any rule wants it; without any rule all stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The last so many.
    pub last: Option<u32>,
    /// All that are at most this much older than the newest.
    pub within: Option<SignedDuration>,
    /// The newest of each of the last so many hours that have one.
    pub hourly: Option<u32>,
    /// Likewise days.
    pub daily: Option<u32>,
    /// Likewise ISO weeks.
    pub weekly: Option<u32>,
    /// Likewise months.
    pub monthly: Option<u32>,
    /// Likewise years.
    pub yearly: Option<u32>,
}

/// A backup about which is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: BackupId,
    /// When it was made.
    pub time: Timestamp,
    /// Pinned by the user.
    pub pinned: bool,
    /// All content of it was read back.
    pub verified: bool,
}

/// Why a backup stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There is no rule at all.
    NoRule,
    /// The newest backup is never dropped.
    Newest,
    /// The newest verified backup is never dropped.
    NewestVerified,
    /// Pinned by the user.
    Pinned,
    /// One of the last N.
    Last,
    /// Young enough.
    Within,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
}

/// What becomes of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The backup.
    pub id: BackupId,
    /// Every reason to keep it; empty means it goes.
    pub reasons: Vec<Reason>,
}

/// The rules cannot be applied safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The newest backup is suspiciously far after its predecessor, so "days back from it" may mean nothing.
    #[error("the newest backup {newest} lies {days} days after the one before it: was the clock wrong?")]
    ClockInDoubt {
        /// The newest backup.
        newest: BackupId,
        /// Days between the two newest backups.
        days: i64,
    },
}

/// Decides about all backups of a database; answers in the order of their times, oldest first.
///
/// Durations and periods count back from the newest backup, in `zone`. Rules of time are refused with `ClockInDoubt` if the newest
/// backup lies more than 31 days after its predecessor, unless `trust_clock`.
pub fn decide(
    candidates: &[Candidate],
    keep: &Keep,
    zone: &TimeZone,
    trust_clock: bool,
) -> Result<Vec<Decision>, RetentionError> {
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| b.id.cmp(&a.id)));
    if keep.has_time_rules() && !trust_clock {
        refuse_doubtful_clock(&ordered)?;
    }
    let Some(newest) = ordered.first() else { return Ok(Vec::new()) };
    let newest_verified = ordered.iter().position(|candidate| candidate.verified);
    let mut periods = Periods::new(keep);
    let mut decisions = Vec::with_capacity(ordered.len());
    for (age_rank, candidate) in ordered.iter().enumerate() {
        let mut reasons = Vec::new();
        let mut add = |wanted: bool, reason| {
            if wanted {
                reasons.push(reason);
            }
        };
        add(!keep.has_rules(), Reason::NoRule);
        add(age_rank == 0, Reason::Newest);
        add(newest_verified == Some(age_rank), Reason::NewestVerified);
        add(candidate.pinned, Reason::Pinned);
        add(keep.last.is_some_and(|last| age_rank < last as usize), Reason::Last);
        let age = newest.time.duration_since(candidate.time);
        add(keep.within().is_some_and(|within| age <= within), Reason::Within);
        periods.visit(&candidate.time.to_zoned(zone.clone()), |reason| add(true, reason));
        decisions.push(Decision { id: candidate.id.clone(), reasons });
    }
    decisions.reverse();
    Ok(decisions)
}

impl Keep {
    /// Whether any rule is set. A count or duration of zero wants no backup and is no rule: it must not be what drops all.
    pub fn has_rules(&self) -> bool {
        self.last.is_some_and(|count| count > 0) || self.has_time_rules()
    }

    fn has_time_rules(&self) -> bool {
        let counts = [self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        self.within().is_some() || counts.iter().any(|count| count.is_some_and(|count| count > 0))
    }

    fn within(&self) -> Option<SignedDuration> {
        self.within.filter(SignedDuration::is_positive)
    }
}

/// The rules in one line: `last 10, within 5d, daily 7`; nothing without any.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |name: &str, count: Option<u32>| count.filter(|n| *n > 0).map(|n| format!("{name} {n}"));
        let rules = [
            count("last", self.last),
            self.within().map(|within| format!("within {}", duration_text(within))),
            count("hourly", self.hourly),
            count("daily", self.daily),
            count("weekly", self.weekly),
            count("monthly", self.monthly),
            count("yearly", self.yearly),
        ];
        f.write_str(&rules.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn refuse_doubtful_clock(newest_first: &[&Candidate]) -> Result<(), RetentionError> {
    let [newest, before, ..] = newest_first else { return Ok(()) };
    let gap = newest.time.duration_since(before.time);
    if is_doubtful(gap) {
        return Err(RetentionError::ClockInDoubt { newest: newest.id.clone(), days: gap.as_hours() / 24 });
    }
    Ok(())
}

/// Whether the newest backup lies so far after the one before it that rules of time are not trusted.
fn is_doubtful(gap: SignedDuration) -> bool {
    gap > MOST_BETWEEN_TWO
}

/// The calendar rules while backups are visited from the newest to the oldest.
struct Periods {
    rules: [Rule; 5],
}

struct Rule {
    reason: Reason,
    left: u32,
    period: fn(&Zoned) -> Period,
    current: Option<Period>,
}

/// Numbers that are the same for all times of one period and no other. The offset tells apart the two hours
/// of the same name when summer time ends.
type Period = (i16, i16, i8, i32);

impl Periods {
    fn new(keep: &Keep) -> Self {
        let rule =
            |reason, count: Option<u32>, period| Rule { reason, left: count.unwrap_or(0), period, current: None };
        Self {
            rules: [
                rule(Reason::Hourly, keep.hourly, |t| (t.year(), t.day_of_year(), t.hour(), t.offset().seconds())),
                rule(Reason::Daily, keep.daily, |t| (t.year(), t.day_of_year(), 0, 0)),
                rule(Reason::Weekly, keep.weekly, |t| {
                    let week = t.date().iso_week_date();
                    (week.year(), 0, week.week(), 0)
                }),
                rule(Reason::Monthly, keep.monthly, |t| (t.year(), 0, t.month(), 0)),
                rule(Reason::Yearly, keep.yearly, |t| (t.year(), 0, 0, 0)),
            ],
        }
    }

    /// Names the rules that want the backup of this time, which must not be later than the one visited before.
    fn visit(&mut self, time: &Zoned, mut wanted: impl FnMut(Reason)) {
        for rule in self.rules.iter_mut().filter(|rule| rule.left > 0) {
            let period = (rule.period)(time);
            if rule.current.replace(period) != Some(period) {
                rule.left -= 1;
                wanted(rule.reason);
            }
        }
    }
}

#[cfg(test)]
mod tests;
