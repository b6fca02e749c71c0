//! What the loop of a scheduler writes and others look at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use copal_core::{CancelToken, Keep, Source};
use jiff::{SignedDuration, Timestamp};

use super::event::{RunResult, ScheduledRun};
use super::job::Job;
use super::run::Assignment;
use crate::schedule::{History, Planner, Policy, Run, RunKind, RunReason, Schedule};

/// How one job stands.
#[derive(Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// The database, as the job named it: with its password, if that was in it.
    pub database: String,
    /// What it does now.
    pub running: Option<RunKind>,
    /// When the next regular backup is due.
    pub next_backup: Option<Timestamp>,
    /// When the next regular drill is due.
    pub next_drill: Option<Timestamp>,
    /// When a run of this program succeeded last.
    pub last_success: Option<Timestamp>,
    /// What failed last, one line; also if a run succeeded since.
    pub last_failure: Option<String>,
    /// Failed runs since then.
    pub consecutive_failures: u32,
    /// Why the newest prune failed, if it did, one line; the next backup is followed by another.
    pub prune_failure: Option<String>,
}

impl fmt::Debug for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobStatus")
            .field("database", &Source::shown(&self.database))
            .field("running", &self.running)
            .field("next_backup", &self.next_backup)
            .field("next_drill", &self.next_drill)
            .field("last_success", &self.last_success)
            .field("last_failure", &self.last_failure)
            .field("consecutive_failures", &self.consecutive_failures)
            .field("prune_failure", &self.prune_failure)
            .finish()
    }
}

/// What is known of one job beside what the planner knows.
struct Known {
    policy: Policy,
    keep: Option<Keep>,
    /// The occurrence that the run before a retry was for.
    since: Option<Timestamp>,
    last_success: Option<Timestamp>,
    last_failure: Option<String>,
    failures: u32,
    prune_failure: Option<String>,
    cancel: CancelToken,
}

/// What the loop writes and others look at.
pub(super) struct State {
    pub(super) planner: Planner,
    jobs: BTreeMap<String, Known>,
}

impl State {
    /// Plans nothing yet: what happened before has to be known first.
    pub(super) fn new(jobs: Vec<Job>, limit: usize) -> Self {
        let known = |job: Job| {
            let (since, last_success, last_failure, failures) = (None, None, None, 0);
            let cancel = CancelToken::default();
            let Job { database, policy, keep, .. } = job;
            let known =
                Known { policy, keep, since, last_success, last_failure, failures, prune_failure: None, cancel };
            (database, known)
        };
        Self { planner: Planner::new(limit), jobs: jobs.into_iter().map(known).collect() }
    }

    pub(super) fn databases(&self) -> Vec<String> {
        self.jobs.keys().cloned().collect()
    }

    /// Begins to plan.
    pub(super) fn plan(&mut self, mut histories: BTreeMap<String, History>, limit: usize, now: Timestamp) {
        let planned = self.jobs.iter_mut().map(|(name, known)| {
            known.cancel = CancelToken::default();
            (name.clone(), (known.policy.clone(), histories.remove(name).unwrap_or_default()))
        });
        self.planner.configure(planned.collect(), limit, now);
    }

    /// What is to be done for a run that starts.
    pub(super) fn assign(&mut self, run: &Run, now: Timestamp) -> (Assignment, CancelToken) {
        let database = Arc::clone(&run.database);
        let (kind, time_limit) = (run.kind, run.time_limit);
        let Some(known) = self.jobs.get_mut(&*run.database) else {
            return (Assignment { database, kind, since: None, keep: None, time_limit }, CancelToken::default());
        };
        match (run.reason, &known.policy.schedule) {
            (RunReason::Scheduled | RunReason::CaughtUp, Some(schedule)) => {
                known.since = Some(newest_occurrence(schedule, &known.policy, run.due, now));
            }
            (RunReason::Retry, _) => {}
            _ => known.since = None,
        }
        known.cancel = CancelToken::default();
        let keep = known.keep.clone().filter(|_| run.then_prune);
        (Assignment { database, kind, since: known.since, keep, time_limit }, known.cancel.clone())
    }

    pub(super) fn succeeded(&mut self, run: &ScheduledRun, result: &RunResult, now: Timestamp) {
        let Some(known) = self.jobs.get_mut(&*run.database) else { return };
        (known.last_success, known.failures) = (Some(now), 0);
        if let RunResult::Backups(_, prunes, unpruned) = result
            && !(prunes.is_empty() && unpruned.is_empty())
        {
            known.prune_failure = unpruned.first().map(|error| error.to_string());
        }
    }

    /// How many failures in a row there are now.
    pub(super) fn failed(&mut self, run: &ScheduledRun, message: String) -> u32 {
        let Some(known) = self.jobs.get_mut(&*run.database) else { return 1 };
        known.last_failure = Some(message);
        known.failures = known.failures.saturating_add(1);
        known.failures
    }

    /// Whether a run that failed for a passing reason comes again.
    pub(super) fn is_repeated(&self, run: &ScheduledRun) -> bool {
        self.jobs.get(&*run.database).is_some_and(|known| run.attempt <= known.policy.retries.most)
    }

    pub(super) fn cancel_all(&self) {
        self.jobs.values().for_each(|known| known.cancel.cancel());
    }

    pub(super) fn status(&self) -> Vec<JobStatus> {
        let status = |(name, known): (&String, &Known)| JobStatus {
            database: name.clone(),
            running: self.planner.running_of(name),
            next_backup: self.planner.next_regular(name, RunKind::Backup),
            next_drill: self.planner.next_regular(name, RunKind::Drill),
            last_success: known.last_success,
            last_failure: known.last_failure.clone(),
            consecutive_failures: known.failures,
            prune_failure: known.prune_failure.clone(),
        };
        self.jobs.iter().map(status).collect()
    }
}

/// The newest occurrence that is not later than now, on or after the one of which `due` is the time with its jitter.
fn newest_occurrence(schedule: &Schedule, policy: &Policy, due: Timestamp, now: Timestamp) -> Timestamp {
    /// What was slept through is not counted one by one for ever.
    const MOST: usize = 10_000;
    let before = due.checked_sub(policy.jitter).and_then(|at| at.checked_sub(SignedDuration::from_nanos(1)));
    let first = schedule.next_after(before.unwrap_or(due), &policy.zone);
    let occurrences = std::iter::successors(first, |at| schedule.next_after(*at, &policy.zone));
    occurrences.take(MOST).take_while(|at| *at <= now).last().unwrap_or(due)
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_prune_that_fails_is_told() {
        let mut state = State::new(vec![Job::new("app.db", "@daily").unwrap()], 1);
        let (database, due) = (Arc::<str>::from("app.db"), Timestamp::now());
        let run = ScheduledRun { database, kind: RunKind::Backup, reason: RunReason::Scheduled, due, attempt: 1 };
        let failed = Arc::new(crate::CopalError::new(crate::ErrorKind::Damage, "a segment cannot be read"));
        state.succeeded(&run, &RunResult::Backups(Vec::new(), Vec::new(), vec![failed]), due);
        let status = state.status().remove(0);
        assert_eq!(status.prune_failure.as_deref(), Some("a segment cannot be read"));
        assert_eq!(status.consecutive_failures, 0, "the backup was made");
        state.succeeded(&run, &RunResult::ByOthers, due);
        assert!(state.status().remove(0).prune_failure.is_some(), "nobody pruned");
    }

    #[test]
    fn a_late_run_is_for_the_newest_occurrence() {
        let schedule = Schedule::parse("0 * * * *").unwrap();
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let policy = Policy::default();
        let newest = |policy: &Policy, due: &str, now: &str| newest_occurrence(&schedule, policy, time(due), time(now));
        let on_time = newest(&policy, "2026-01-01T05:00:00Z", "2026-01-01T05:00:00.5Z");
        assert_eq!(on_time, time("2026-01-01T05:00:00Z"));
        let slept = newest(&policy, "2026-01-01T05:00:00Z", "2026-01-01T09:30:00Z");
        assert_eq!(slept, time("2026-01-01T09:00:00Z"));
        let spread = Policy { jitter: Duration::from_secs(1800), ..Policy::default() };
        let jittered = newest(&spread, "2026-01-01T05:12:34Z", "2026-01-01T05:12:34Z");
        assert_eq!(jittered, time("2026-01-01T05:00:00Z"));
    }
}
