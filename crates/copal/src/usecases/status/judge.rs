//! Whether a database is protected: pure, so that it can be tried against any clock.

use copal_core::BackupId;
use jiff::{SignedDuration, Timestamp};

use super::promise::{Deadline, Promised};
use crate::outcome::span_text;
use crate::{DamagedObject, StatusProblem, StatusProblemKind};

/// Clocks of two machines may differ by so much.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);
/// A backup may come this much later than its schedule says; in between, as much as its occurrences are apart.
const BACKUP_TOLERANCE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(10), SignedDuration::from_hours(1));
/// Likewise a drill, which takes its time.
const DRILL_TOLERANCE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_hours(1), SignedDuration::from_hours(24));

/// What the repository knows about a database.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The newest backup whose manifest can be read.
    pub(super) newest: Option<Newest>,
    /// The newest that bears the mark of a verification.
    pub(super) verified: Option<BackupId>,
    /// The oldest backup made since then, whether or not a prune has dropped it.
    pub(super) unverified: Option<BackupId>,
    /// What is wrong with manifests and the record.
    pub(super) damaged: Vec<DamagedObject>,
}

/// The newest good backup.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    pub(super) id: BackupId,
    pub(super) captured_at: Timestamp,
    pub(super) host: String,
    /// How long it took to make, by the store's clock.
    pub(super) took: SignedDuration,
}

/// What follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) problems: Vec<StatusProblem>,
    pub(super) notes: Vec<String>,
    /// Without another good backup it is stale after this time.
    pub(super) stale_after: Option<Timestamp>,
}

impl Judgement {
    fn problem(&mut self, kind: StatusProblemKind, message: String) {
        self.problems.push(StatusProblem { kind, message });
    }
}

/// Judges what is known by what is promised.
pub(super) fn judge(known: &Known, promised: &Promised, now: Timestamp) -> Judgement {
    let mut judgement = Judgement::default();
    judge_damage(known, &mut judgement);
    match &known.newest {
        None if known.damaged.is_empty() => {
            judgement.problem(StatusProblemKind::NoBackup, "there is no backup yet".into());
        }
        None => judgement.problem(StatusProblemKind::NoBackup, "no backup can be read".into()),
        Some(newest) => {
            judge_age(newest, promised, now, &mut judgement);
            judge_drill(known, newest, promised, now, &mut judgement);
        }
    }
    if let Some(text) = &promised.unreadable {
        judgement.notes.push(format!("this copal does not understand the schedule {text:?}"));
    }
    judgement
}

/// Damage of the newest state of the database is a problem, older damage is worth a note.
fn judge_damage(known: &Known, judgement: &mut Judgement) {
    let newest = known.newest.as_ref().map(|newest| &newest.id);
    let is_older = |object: &&DamagedObject| object.backup.as_ref().is_some_and(|id| newest.is_some_and(|n| id < n));
    let (older, mut newer): (Vec<_>, Vec<_>) = known.damaged.iter().partition(is_older);
    newer.sort_by(|a, b| b.backup.cmp(&a.backup));
    if let Some((first, more)) = newer.split_first() {
        let what = first.backup.as_ref().map(|id| format!("the newest backup {id} cannot be used: "));
        let mut message = format!("{}{} {}", what.unwrap_or_default(), first.object, first.problem);
        if !more.is_empty() {
            message.push_str(&format!(" (and {} more)", more.len()));
        }
        judgement.problem(StatusProblemKind::Damage, message);
    }
    if !older.is_empty() {
        judgement.notes.push(format!("older backups are missing or damaged: {}", older.len()));
    }
}

fn judge_age(newest: &Newest, promised: &Promised, now: Timestamp, judgement: &mut Judgement) {
    let Newest { id, captured_at, host, took } = newest;
    if captured_at.duration_since(now) > CLOCK_SLACK {
        let message =
            format!("the newest backup is of the future, {captured_at:.0}: the clock here or on {host} is wrong");
        return judgement.problem(StatusProblemKind::Clock, message);
    }
    if id.time().duration_since(now) > CLOCK_SLACK {
        let message = format!("the id {id} is of the future: the clock of {host} was wrong; ids never go back");
        judgement.notes.push(message);
    }
    let age = span_text(age_seconds(*captured_at, now));
    if let Some(max_age) = promised.max_age {
        judgement.stale_after = captured_at.checked_add(max_age).ok();
        if judgement.stale_after.is_some_and(|time| now > time) {
            let promised = span_text(max_age.as_secs());
            let message = format!("the newest good backup is {age} old, and {promised} is promised");
            judgement.problem(StatusProblemKind::Stale, message);
        }
    } else if let Some(timetable) = &promised.schedule
        && let Some(Deadline { occurrence, interval, at }) = timetable.deadline(*captured_at, BACKUP_TOLERANCE)
    {
        // The next one may take as long as this one did.
        let longer = (*took).clamp(SignedDuration::ZERO, interval);
        judgement.stale_after = at.checked_add(longer).and_then(|time| time.checked_add(promised.jitter)).ok();
        if judgement.stale_after.is_some_and(|time| now > time) {
            let schedule = timetable.schedule.as_str();
            let message = format!(
                "the newest good backup is {age} old; by \"{schedule}\" there should be one since {occurrence}"
            );
            judgement.problem(StatusProblemKind::Stale, message);
        }
    }
}

/// A drill leaves the mark of a verification; none on any backup that one should have found means that it did not happen.
fn judge_drill(known: &Known, newest: &Newest, promised: &Promised, now: Timestamp, judgement: &mut Judgement) {
    if known.verified.as_ref() == Some(&newest.id) {
        return;
    }
    let (Some(timetable), Some(unverified)) = (&promised.drill, &known.unverified) else { return };
    let Some(Deadline { occurrence, at, .. }) = timetable.deadline(unverified.time(), DRILL_TOLERANCE) else { return };
    if now > at {
        let since = match &known.verified {
            Some(id) => format!("no backup since {id} was verified"),
            None => "no backup was ever verified".to_owned(),
        };
        let message = format!("{since}, and a drill was due at {occurrence}");
        judgement.problem(StatusProblemKind::DrillOverdue, message);
    }
}

/// Seconds from then to now; none of the future.
pub(super) fn age_seconds(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0)
}
