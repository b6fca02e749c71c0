//! What the loop writes and others look at: what is planned, what runs, and how the newest runs ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use copal::Copal;
use copal::schedule::{self, Planner, RunKind};
use jiff::Timestamp;
use tokio::time::Instant;

use super::live::Live;
use super::{DatabaseStatus, LaneStatus, RunnerSettings};
use crate::history::{Newest, NewestRuns};
use crate::run::{RunId, RunRecord, TaskKind};

/// What the loop writes and others look at.
#[derive(Debug)]
pub(super) struct State {
    pub(super) planner: Planner,
    pub(super) newest: NewestRuns,
    pub(super) running: BTreeMap<RunId, Running>,
    pub(super) last_id: i64,
    /// The configured databases, in order.
    pub(super) names: Vec<String>,
    /// When a change was last reported that no successful backup has followed yet.
    pub(super) changed: BTreeMap<String, Timestamp>,
    pub(super) generation: u64,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) record: RunRecord,
    /// Another database that it puts something in the place of.
    pub(super) over: Option<String>,
    /// Whether the planner waits for its end.
    pub(super) is_planned: bool,
    pub(super) live: Arc<Live>,
    pub(super) began: Instant,
}

/// How one database does, for those who look at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseBrief {
    pub(crate) name: String,
    /// Backups that failed in a row.
    pub(crate) failures: u32,
    /// When the next regular backup is due.
    pub(crate) next_backup: Option<Timestamp>,
}

impl State {
    pub(super) fn configure(&mut self, settings: RunnerSettings, now: Timestamp) -> Copal {
        let RunnerSettings { settings, policies, limit } = settings;
        self.generation += 1;
        self.names = policies.keys().cloned().collect();
        let with_past = policies.into_iter().map(|(name, policy)| {
            let history = schedule::History {
                backup: self.past(&name, RunKind::Backup),
                drill: self.past(&name, RunKind::Drill),
            };
            (name, (policy, history))
        });
        let databases = with_past.collect();
        self.planner.configure(databases, limit, now);
        Copal::new(settings)
    }

    pub(super) fn lane(&self, database: &str, kind: TaskKind) -> Option<&Newest> {
        self.newest.get(&(database.to_owned(), kind))
    }

    pub(super) fn past(&self, database: &str, kind: RunKind) -> schedule::Past {
        let Some(newest) = self.lane(database, kind.into()) else { return schedule::Past::default() };
        let started = |run: &Option<RunRecord>| run.as_ref().map(|run| run.started);
        schedule::Past { last_start: started(&newest.run), last_success: started(&newest.success) }
    }

    pub(super) fn failures(&self, database: &str, kind: TaskKind) -> u32 {
        let newest = self.lane(database, kind).and_then(|newest| newest.run.as_ref());
        newest.map_or(0, |run| run.consecutive_failures)
    }

    pub(super) fn brief(&self, name: &str) -> DatabaseBrief {
        DatabaseBrief {
            name: name.to_owned(),
            failures: self.failures(name, TaskKind::Backup),
            next_backup: self.planner.next_regular(name, RunKind::Backup),
        }
    }

    pub(super) fn database(&self, name: &str) -> DatabaseStatus {
        let running = self.running.iter().find(|(_, running)| running.is_planned && running.record.database == name);
        let lane = |kind: RunKind| {
            let Newest { run, success } = self.lane(name, kind.into()).cloned().unwrap_or_default();
            LaneStatus {
                consecutive_failures: self.failures(name, kind.into()),
                newest: run,
                newest_success: success,
                next: self.planner.next_regular(name, kind),
            }
        };
        DatabaseStatus {
            name: name.to_owned(),
            running: running.map(|(id, _)| *id),
            backup: lane(RunKind::Backup),
            drill: lane(RunKind::Drill),
        }
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
