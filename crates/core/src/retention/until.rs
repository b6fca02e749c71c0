//! Until when backups stay if the schedule goes on as it is.
//!
//! Each future backup is followed by a prune. No rule wants a backup again that it once did not want any more, and what a prune drops
//! changes nothing for the others; so each rule has one step from which on it lets a backup go, which is computed, not simulated.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Candidate, Keep, Period, Periods, is_doubtful};
use crate::BackupId;

/// What is expected to happen, each in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected<'a> {
    /// When backups will be made, each followed by a prune.
    pub backups: &'a [Timestamp],
    /// When drills will verify the newest backup.
    pub drills: &'a [Timestamp],
}

/// Until when a backup stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptUntil {
    /// It is pinned, or there is no rule.
    ForEver,
    /// The prune after the backup of this time drops it.
    Until(Timestamp),
    /// Longer than what is expected reaches.
    Unknown,
}

/// Tells until when each backup stays, oldest first. `zone` is that of the periods, as for [`decide`](super::decide).
pub fn kept_until(
    candidates: &[Candidate],
    keep: &Keep,
    zone: &TimeZone,
    expected: Expected<'_>,
) -> Vec<(BackupId, KeptUntil)> {
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| b.id.cmp(&a.id)));
    let Some(newest) = ordered.first() else { return Vec::new() };
    let steps: Vec<Timestamp> = expected.backups.iter().copied().filter(|time| *time > newest.time).collect();
    let prunes = prunes(&steps, newest.time, keep);
    let verified = Verified::new(&ordered, &steps, expected.drills);
    let mut calendar = Calendar::new(keep, zone, newest.time, &steps);
    let mut told = Vec::with_capacity(ordered.len());
    for (rank, candidate) in ordered.iter().enumerate() {
        // The periods have to see all of them.
        let by_calendar = calendar.step(candidate.time, zone);
        if candidate.pinned || !keep.has_rules() {
            told.push((candidate.id.clone(), KeptUntil::ForEver));
            continue;
        }
        let by_last = keep.last.map_or(0, |last| (last as usize).saturating_sub(rank));
        let by_within = keep
            .within()
            .map_or(0, |within| steps.partition_point(|time| time.duration_since(candidate.time) <= within) + 1);
        let step = by_last.max(by_within).max(by_calendar).max(verified.step(rank)).max(1);
        let prune = prunes.get(step - 1).copied().flatten();
        told.push((candidate.id.clone(), prune.map_or(KeptUntil::Unknown, KeptUntil::Until)));
    }
    told.reverse();
    told
}

/// For each step the first prune from it on that does not refuse because the clock is in doubt.
fn prunes(steps: &[Timestamp], newest: Timestamp, keep: &Keep) -> Vec<Option<Timestamp>> {
    let before = std::iter::once(newest).chain(steps.iter().copied());
    let believed = steps.iter().zip(before).map(|(time, before)| {
        let is_refused = keep.has_time_rules() && is_doubtful(time.duration_since(before));
        (!is_refused).then_some(*time)
    });
    let mut prunes: Vec<_> = believed.collect();
    let mut next = None;
    for prune in prunes.iter_mut().rev() {
        next = prune.or(next);
        *prune = next;
    }
    prunes
}

/// The newest verified backup stays until a newer one is verified.
struct Verified {
    /// The rank of the newest verified one when the first future backup is made.
    rank: Option<usize>,
    /// The step at which another one is.
    until: usize,
}

impl Verified {
    fn new(newest_first: &[&Candidate], steps: &[Timestamp], drills: &[Timestamp]) -> Self {
        let known = newest_first.iter().position(|candidate| candidate.verified);
        let Some(first) = steps.first() else { return Self { rank: known, until: 1 } };
        let is_before = drills.iter().any(|drill| drill < first);
        let after = drills.iter().find(|drill| *drill >= first);
        let until = after.map_or(steps.len(), |drill| steps.partition_point(|time| time <= drill)) + 1;
        Self { rank: if is_before { Some(0) } else { known }, until }
    }

    fn step(&self, rank: usize) -> usize {
        if self.rank == Some(rank) { self.until } else { 0 }
    }
}

/// The rules of periods, while backups are visited from the newest to the oldest.
struct Calendar {
    rules: Vec<Places>,
}

struct Places {
    count: usize,
    period: fn(&jiff::Zoned) -> Period,
    /// How many periods that are later than the newest backup's have begun at each step.
    begun: Vec<usize>,
    /// The period visited last, and its number from the newest.
    current: Option<(Period, usize)>,
}

impl Calendar {
    fn new(keep: &Keep, zone: &TimeZone, newest: Timestamp, steps: &[Timestamp]) -> Self {
        let rules: Vec<_> = Periods::new(keep).rules.into_iter().filter(|rule| rule.left > 0).collect();
        let zoned: Vec<_> = match rules.is_empty() {
            true => Vec::new(),
            false => steps.iter().map(|time| time.to_zoned(zone.clone())).collect(),
        };
        let newest = newest.to_zoned(zone.clone());
        let places = rules.into_iter().map(|rule| {
            let (mut current, mut count) = ((rule.period)(&newest), 0);
            let begun = zoned.iter().map(|time| {
                let period = (rule.period)(time);
                count += usize::from(period != current);
                current = period;
                count
            });
            Places { begun: begun.collect(), count: rule.left as usize, period: rule.period, current: None }
        });
        Self { rules: places.collect() }
    }

    /// The step from which on no rule wants the backup of this time, which must not be later than the one visited before.
    fn step(&mut self, time: Timestamp, zone: &TimeZone) -> usize {
        if self.rules.is_empty() {
            return 0;
        }
        let time = time.to_zoned(zone.clone());
        self.rules.iter_mut().map(|rule| rule.step(&time)).max().unwrap_or(0)
    }
}

impl Places {
    fn step(&mut self, time: &jiff::Zoned) -> usize {
        let period = (self.period)(time);
        let number = match self.current {
            Some((current, _)) if current == period => return 0,
            Some((_, number)) => number + 1,
            None => 0,
        };
        self.current = Some((period, number));
        // A backup of the same period takes the newest one's place.
        if number == 0 && self.begun.first() == Some(&0) {
            return 1;
        }
        self.begun.partition_point(|begun| number + begun < self.count) + 1
    }
}
