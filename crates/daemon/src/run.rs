//! One run: what is known of it while it goes on and afterwards.

use std::fmt;

use copal::schedule::{RunKind, RunOutcome, RunReason};
use copal::{CopalError, ErrorKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Names a run; a later run has a greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Makes a backup, and prunes by the policy.
    Backup,
    /// Restores the newest backup to a scratch place and checks it there.
    Drill,
    /// Reads backups back.
    Verify,
    /// Restores a backup.
    Restore,
    /// Drops the backups that no rule wants.
    Prune,
    /// Takes a snapshot.
    Snapshot,
    /// Puts the database back as it was in a snapshot.
    Rewind,
}

impl From<RunKind> for TaskKind {
    fn from(kind: RunKind) -> Self {
        match kind {
            RunKind::Backup => Self::Backup,
            RunKind::Drill => Self::Drill,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Well.
    Success,
    /// For a reason that may pass; it is tried again.
    TransientFailure,
    /// For a reason that stays until somebody does something.
    PermanentFailure,
    /// Somebody ended it, or the daemon was stopped.
    Cancelled,
    /// The daemon was killed meanwhile.
    Interrupted,
}

impl Ending {
    /// Whether the run failed by itself.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::TransientFailure | Self::PermanentFailure)
    }

    /// What the planner makes of it.
    pub(crate) fn outcome(self) -> RunOutcome {
        match self {
            Self::Success => RunOutcome::Success,
            Self::TransientFailure => RunOutcome::TransientFailure,
            Self::PermanentFailure => RunOutcome::PermanentFailure,
            Self::Cancelled | Self::Interrupted => RunOutcome::Cancelled,
        }
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunError {
    /// The class: the word of an [`ErrorKind`], `timed-out`, `panicked`, `drill-failed` or `drill-impossible`.
    pub kind: String,
    /// What happened and why, without secrets.
    pub message: String,
}

impl RunError {
    pub(crate) fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into() }
    }

    pub(crate) fn of(error: &CopalError) -> Self {
        let mut message = error.to_string();
        for cause in error.causes() {
            message = format!("{message}: {cause}");
        }
        if let Some(hint) = error.hint() {
            message = format!("{message} ({hint})");
        }
        Self::new(error.kind().as_str(), message)
    }
}

/// Whether a failure may pass by itself.
///
/// A server that refuses connections and a file that is away are both not found; the engine's other errors include lost
/// connections. Trying again in vain costs little, since retries have pauses and end.
pub(crate) fn is_transient(kind: ErrorKind) -> bool {
    use ErrorKind::{Busy, Failed, NotFound, Pruned, Unavailable};
    matches!(kind, Busy | Unavailable | Pruned | NotFound | Failed)
}

/// What a run made or found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunFacts {
    /// The backup that was made, read or restored; the last of them for a whole server.
    pub backup: Option<String>,
    /// The size of the database.
    pub logical_bytes: Option<u64>,
    /// What the backup added to the repository.
    pub added_bytes: Option<u64>,
    /// What all objects take that restoring reads.
    pub stored_bytes: Option<u64>,
    /// Where a backup was restored to.
    pub target: Option<String>,
    /// Objects of the repository that are missing or changed.
    pub damaged: u64,
    /// What went wrong beside the run's purpose: damage, a prune that failed.
    pub warnings: Vec<String>,
    /// What was checked and found good, on its way into the run's log.
    #[serde(skip)]
    pub checks: Vec<String>,
}

/// One run, under way or over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunRecord {
    /// Its number.
    pub id: RunId,
    /// The database.
    pub database: String,
    /// What it does.
    pub kind: TaskKind,
    /// Why it started.
    #[schema(value_type = String, example = "scheduled")]
    pub reason: RunReason,
    /// Counts from 1 through the retries.
    pub attempt: u32,
    /// When it should have started.
    pub due: Timestamp,
    /// When it did.
    pub started: Timestamp,
    /// When it ended; none while it goes on.
    pub ended: Option<Timestamp>,
    /// How; none while it goes on.
    pub ending: Option<Ending>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// How long it took by a clock that nobody sets.
    pub duration_ms: Option<u64>,
    /// Failures of this kind of run in a row, this one included.
    pub consecutive_failures: u32,
    /// What it made or found.
    #[serde(flatten)]
    pub facts: RunFacts,
}

impl RunRecord {
    /// A run that starts because somebody asked for it.
    pub(crate) fn start(id: RunId, database: &str, kind: TaskKind, now: Timestamp) -> Self {
        Self {
            id,
            database: database.to_owned(),
            kind,
            reason: RunReason::Requested,
            attempt: 1,
            due: to_millisecond(now),
            started: to_millisecond(now),
            ended: None,
            ending: None,
            error: None,
            duration_ms: None,
            consecutive_failures: 0,
            facts: RunFacts::default(),
        }
    }
}

/// The time as precisely as the history keeps it.
pub(crate) fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
