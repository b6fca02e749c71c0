//! What a scheduler tells.

use std::fmt;
use std::sync::Arc;

use copal_core::Source;
use jiff::Timestamp;

use crate::schedule::{Missed, Run, RunKind, RunReason};
use crate::{BackupOutcome, CopalError, PruneOutcome, VerifyOutcome};

/// A run of a scheduler. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScheduledRun {
    /// The database, as the job named it: with its password, if that is in it.
    pub database: Arc<str>,
    /// What it does.
    pub kind: RunKind,
    /// Why it starts.
    pub reason: RunReason,
    /// When it should have started.
    pub due: Timestamp,
    /// Counts from 1 through the retries.
    pub attempt: u32,
}

impl ScheduledRun {
    pub(super) fn of(run: &Run) -> Self {
        let Run { kind, reason, due, attempt, .. } = *run;
        Self { database: Arc::clone(&run.database), kind, reason, due, attempt }
    }
}

impl fmt::Debug for ScheduledRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduledRun")
            .field("database", &Source::shown(&self.database))
            .field("kind", &self.kind)
            .field("reason", &self.reason)
            .field("due", &self.due)
            .field("attempt", &self.attempt)
            .finish()
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub enum RunResult {
    /// The backups that were made (one, or those of a whole server), what was pruned behind them, and why prunes failed. The run of
    /// the next backup prunes again.
    Backups(Vec<BackupOutcome>, Vec<PruneOutcome>, Vec<Arc<CopalError>>),
    /// Somebody else made the backup of this occurrence.
    ByOthers,
    /// The newest backups were restored to a scratch place and found good.
    Drilled(Vec<VerifyOutcome>),
}

/// Something happened. Its `Debug` shows no password.
#[derive(Clone)]
pub enum SchedulerEvent {
    /// A run starts.
    Started(ScheduledRun),
    /// It ended well.
    Succeeded(ScheduledRun, RunResult),
    /// Somebody else works on the database; it is looked at again later.
    Postponed(ScheduledRun),
    /// It failed, as so many in a row did.
    Failed(ScheduledRun, Arc<CopalError>, u32),
    /// It was told to stop.
    Cancelled(ScheduledRun),
    /// Occurrences that nobody was awake for and that are not made up for.
    Missed(Missed),
}

impl fmt::Debug for SchedulerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(run) => f.debug_tuple("Started").field(run).finish(),
            Self::Succeeded(run, result) => f.debug_tuple("Succeeded").field(run).field(result).finish(),
            Self::Postponed(run) => f.debug_tuple("Postponed").field(run).finish(),
            Self::Failed(run, error, failures) => {
                f.debug_tuple("Failed").field(run).field(error).field(failures).finish()
            }
            Self::Cancelled(run) => f.debug_tuple("Cancelled").field(run).finish(),
            Self::Missed(missed) => {
                let database = Arc::from(Source::shown(&missed.database));
                f.debug_tuple("Missed").field(&Missed { database, ..missed.clone() }).finish()
            }
        }
    }
}
