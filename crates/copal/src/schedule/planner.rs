//! Which runs start now, and when to look again.
//!
//! Invariants: a database never has two runs at once, and there are never more runs than the limit. Databases wait in the order
//! in which they fell due, so none waits for ever. A tick costs the logarithm of the number of databases for each run that falls
//! due; only another configuration and a clock set back look at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::lane::{Lane, Terms};
use super::policy::{History, Policy};

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

/// A clock that goes back by less than this only trembles.
const TREMBLE: SignedDuration = SignedDuration::from_secs(1);

/// Decides what runs when.
///
/// Everything that happens is told to it with the time by the wall clock; [`Planner::tick`] answers with the runs to start,
/// which count as running from then on until [`Planner::ended`]. Tick after everything that was told, at the time it names, and
/// at least every 30 seconds, since somebody may set the clock.
///
/// - **Missed**: an occurrence noticed more than a minute late, after downtime, sleep or a clock that jumped forward, is caught up
///   by one run, however many there were, or reported, as the policy says. What waited for the limit or for another run of the
///   database is not missed.
/// - **Clock set back**: waits keep their length. An occurrence that has been dealt with and comes again is passed over, but only
///   one: if the schedule has more of them before the old time, it goes on by the new time at once. So a daily backup does not
///   run twice after a correction by an hour, and one every five minutes does not stop for that hour.
/// - **Overrun**: occurrences during a run of the same database are one run after it.
#[derive(Debug)]
pub struct Planner {
    limit: usize,
    /// The latest time told, by the clock as it is set now.
    seen: Timestamp,
    databases: BTreeMap<Arc<str>, Database>,
    /// Idle databases by the time they want to run.
    waiting: BTreeSet<(Timestamp, Arc<str>)>,
    /// Those whose time has come, for want of a place.
    ready: BTreeSet<(Timestamp, Arc<str>)>,
    running: usize,
    /// To be reported by the next tick.
    missed: Vec<Missed>,
}

/// What a tick found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// To be started now, in this order.
    pub runs: Vec<Run>,
    /// Not to be made up for.
    pub missed: Vec<Missed>,
    /// When the next database falls due; `None` if only something told can change that.
    pub wake_at: Option<Timestamp>,
}

/// A run to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The database.
    pub database: Arc<str>,
    /// What to do.
    pub kind: RunKind,
    /// Why.
    pub reason: RunReason,
    /// When it should have started.
    pub due: Timestamp,
    /// Counts from 1 through the retries.
    pub attempt: u32,
    /// It is to be ended after this time.
    pub time_limit: Option<Duration>,
    /// A prune by the policy follows if it succeeds.
    pub then_prune: bool,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// Makes a backup.
    Backup,
    /// Restores the newest backup to a scratch place and checks it there.
    Drill,
}

/// Why a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunReason {
    /// Its time has come.
    Scheduled,
    /// Its time came while nobody was awake.
    CaughtUp,
    /// The database has changed.
    Changed,
    /// The run before it failed for a passing reason, or was cut off.
    Retry,
    /// Somebody asked for it.
    Requested,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Well.
    Success,
    /// For a reason that may pass.
    TransientFailure,
    /// For a reason that stays until somebody does something.
    PermanentFailure,
    /// Somebody ended it.
    Cancelled,
}

/// Occurrences that nobody was awake for and that are not made up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The database.
    pub database: Arc<str>,
    /// What did not run.
    pub kind: RunKind,
    /// The first of the occurrences.
    pub since: Timestamp,
}

#[derive(Debug)]
struct Database {
    policy: Policy,
    backup: Lane,
    drill: Lane,
    running: Option<RunKind>,
    /// Where it stands in `waiting` or `ready`.
    filed: Option<Timestamp>,
    /// No longer configured; goes when its run has ended.
    removed: bool,
}

impl Planner {
    /// A planner without databases, which lets `limit` runs (at least one) run at once.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            seen: Timestamp::MIN,
            databases: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ready: BTreeSet::new(),
            running: 0,
            missed: Vec::new(),
        }
    }

    /// Replaces the configuration. Runs go on; databases that were there keep what is pending, and their history is not
    /// looked at.
    pub fn configure(&mut self, databases: BTreeMap<String, (Policy, History)>, limit: usize, now: Timestamp) {
        let now = self.advance(now);
        self.limit = limit.max(1);
        let mut old = mem::take(&mut self.databases);
        for (name, (policy, history)) in databases {
            let name: Arc<str> = name.into();
            let database = match old.remove(&name) {
                Some(mut database) => {
                    database.reload(&name, policy, now);
                    database
                }
                None => Database::open(&name, policy, history, now),
            };
            self.databases.insert(name, database);
        }
        for (name, mut database) in old {
            if database.running.is_some() {
                database.removed = true;
                self.databases.insert(name, database);
            }
        }
        self.file_all();
    }

    /// Something significant changed in the database: a backup follows. Answers whether the database is known.
    pub fn changed(&mut self, name: &str, now: Timestamp) -> bool {
        self.told(name, now, |database, now| database.backup.change(now))
    }

    /// Somebody wants a run now; during a run of the database, after it. Answers whether the database is known.
    pub fn request(&mut self, name: &str, kind: RunKind, now: Timestamp) -> bool {
        self.told(name, now, |database, now| database.lane(kind).request(now))
    }

    /// The run of the database has ended.
    pub fn ended(&mut self, name: &str, outcome: RunOutcome, now: Timestamp) {
        let now = self.advance(now);
        let Some(database) = self.databases.get_mut(name) else { return };
        let Some(kind) = database.running.take() else { return };
        self.running -= 1;
        if database.removed {
            self.databases.remove(name);
            return;
        }
        database.notice_while_busy(now);
        let retries = database.policy.retries;
        match outcome {
            RunOutcome::TransientFailure => database.lane(kind).fail(retries, now),
            RunOutcome::Success | RunOutcome::PermanentFailure | RunOutcome::Cancelled => database.lane(kind).settle(),
        }
        self.file(name);
    }

    /// What starts now. The runs in the answer count as started.
    pub fn tick(&mut self, now: Timestamp) -> Tick {
        let now = self.advance(now);
        while let Some((due, name)) = self.waiting.first().filter(|(due, _)| *due <= now).cloned() {
            self.waiting.remove(&(due, Arc::clone(&name)));
            let Some(database) = self.databases.get_mut(&name) else { continue };
            database.notice(&name, now, &mut self.missed);
            let due = database.due();
            database.filed = due;
            if let Some(due) = due {
                let queue = if due <= now { &mut self.ready } else { &mut self.waiting };
                queue.insert((due, name));
            }
        }
        let mut runs = Vec::new();
        while self.running < self.limit
            && let Some((due, name)) = self.ready.pop_first()
        {
            let Some(database) = self.databases.get_mut(&name) else { continue };
            runs.push(database.begin(&name, due, now));
            self.running += 1;
        }
        Tick { runs, missed: mem::take(&mut self.missed), wake_at: self.waiting.first().map(|(due, _)| *due) }
    }

    /// The runs under way.
    pub fn running(&self) -> usize {
        self.running
    }

    /// What the database does now.
    pub fn running_of(&self, name: &str) -> Option<RunKind> {
        self.databases.get(name)?.running
    }

    /// When the next regular run of this kind is due.
    pub fn next_regular(&self, name: &str, kind: RunKind) -> Option<Timestamp> {
        let database = self.databases.get(name).filter(|database| !database.removed)?;
        match kind {
            RunKind::Backup => database.backup.next_regular(),
            RunKind::Drill => database.drill.next_regular(),
        }
    }

    fn told(&mut self, name: &str, now: Timestamp, tell: impl FnOnce(&mut Database, Timestamp)) -> bool {
        let now = self.advance(now);
        let Some(database) = self.databases.get_mut(name).filter(|database| !database.removed) else { return false };
        tell(database, now);
        self.file(name);
        true
    }

    /// Takes note of the time, and of a clock that was set back.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        let seen = self.seen;
        if now >= seen {
            self.seen = now;
        } else if seen.duration_since(now) >= TREMBLE {
            self.seen = now;
            for (name, database) in &mut self.databases {
                database.each_lane(name, |lane, terms| lane.set_back(terms, seen, now));
            }
            self.file_all();
        }
        self.seen
    }

    fn file_all(&mut self) {
        for (_, name) in mem::take(&mut self.ready) {
            if let Some(database) = self.databases.get_mut(&name) {
                database.notice_while_busy(self.seen);
            }
        }
        self.waiting.clear();
        for (name, database) in &mut self.databases {
            database.filed = database.due();
            self.waiting.extend(database.filed.map(|due| (due, Arc::clone(name))));
        }
    }

    /// Puts a database where it belongs after something changed; the next tick sees whether its time has come.
    fn file(&mut self, name: &str) {
        let Some((name, _)) = self.databases.get_key_value(name) else { return };
        let name = Arc::clone(name);
        let Some(database) = self.databases.get_mut(&name) else { return };
        if let Some(filed) = database.filed.take() {
            let key = (filed, Arc::clone(&name));
            self.waiting.remove(&key);
            if self.ready.remove(&key) {
                database.notice_while_busy(self.seen);
            }
        }
        database.filed = database.due();
        self.waiting.extend(database.filed.map(|due| (due, name)));
    }
}

impl Database {
    fn open(name: &str, policy: Policy, history: History, now: Timestamp) -> Self {
        let terms = |kind| Terms { database: name, kind, policy: &policy };
        let backup = Lane::open(terms(RunKind::Backup), history.backup, now);
        let drill = Lane::open(terms(RunKind::Drill), history.drill, now);
        Self { policy, backup, drill, running: None, filed: None, removed: false }
    }

    fn reload(&mut self, name: &str, policy: Policy, now: Timestamp) {
        self.removed = false;
        self.each_lane(name, |lane, old| lane.reload(old, Terms { policy: &policy, ..old }, now));
        self.policy = policy;
    }

    fn lane(&mut self, kind: RunKind) -> &mut Lane {
        match kind {
            RunKind::Backup => &mut self.backup,
            RunKind::Drill => &mut self.drill,
        }
    }

    fn each_lane(&mut self, name: &str, mut act: impl FnMut(&mut Lane, Terms<'_>)) {
        for (lane, kind) in [(&mut self.backup, RunKind::Backup), (&mut self.drill, RunKind::Drill)] {
            act(lane, Terms { database: name, kind, policy: &self.policy });
        }
    }

    fn notice(&mut self, name: &Arc<str>, now: Timestamp, missed: &mut Vec<Missed>) {
        self.each_lane(name, |lane, terms| {
            let since = lane.notice(terms, now);
            missed.extend(since.map(|since| Missed { database: Arc::clone(name), kind: terms.kind, since }));
        });
    }

    /// What fell due while it ran or waited for a place.
    fn notice_while_busy(&mut self, now: Timestamp) {
        self.backup.notice_while_busy(now);
        self.drill.notice_while_busy(now);
    }

    /// When it wants to run next; never while it runs.
    fn due(&self) -> Option<Timestamp> {
        if self.running.is_some() {
            return None;
        }
        let interval = self.policy.min_interval;
        self.backup.due(interval).into_iter().chain(self.drill.due(interval)).min()
    }

    /// Starts the lane that fell due first, the backup if both did.
    fn begin(&mut self, name: &Arc<str>, due: Timestamp, now: Timestamp) -> Run {
        let backup = self.backup.due(self.policy.min_interval) == Some(due);
        let kind = if backup { RunKind::Backup } else { RunKind::Drill };
        let lane = if backup { &mut self.backup } else { &mut self.drill };
        let (reason, attempt) = lane.begin(Terms { database: name, kind, policy: &self.policy }, now);
        self.running = Some(kind);
        self.filed = None;
        Run {
            database: Arc::clone(name),
            kind,
            reason,
            due,
            attempt,
            time_limit: self.policy.time_limit,
            then_prune: backup && self.policy.retention,
        }
    }
}
