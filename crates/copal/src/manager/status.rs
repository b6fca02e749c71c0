//! How a manager stands.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::ErrorKind;

/// The newest failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManagerFailure {
    /// When it happened.
    pub time: Timestamp,
    /// The class of the error.
    pub kind: ErrorKind,
    /// What happened, one line.
    pub message: String,
}

/// How a manager stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ManagerStatus {
    /// Whether it works in the background.
    pub started: bool,
    /// Whether something is being saved now.
    pub running: bool,
    /// When something was saved last, or found unchanged.
    pub last_success: Option<Timestamp>,
    /// The newest failure, also if something was saved since.
    pub last_failure: Option<ManagerFailure>,
    /// When the next backup begins, unless a change comes before; absent if it is not started.
    pub next_run: Option<Timestamp>,
    /// How long writers were held up by the newest view of the database, where the engine knows it.
    pub last_hold: Option<Duration>,
    /// Failed tries since something was saved.
    pub consecutive_failures: u32,
    /// Segments of the journal since the full backup.
    pub deltas_since_full: u32,
    /// Whether a change was reported that is not saved yet.
    pub changed: bool,
    /// Why the newest prune failed, if it did; the next full backup is followed by another.
    pub prune_failure: Option<String>,
}
