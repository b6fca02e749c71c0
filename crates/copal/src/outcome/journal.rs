//! What the use cases answer about the journal of a database.

use std::time::Duration;

use copal_core::{BackupId, Follows};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One segment of a journal: what happened after the state that it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalSegment {
    /// Its id.
    pub id: BackupId,
    /// Up to when it tells what happened, UTC.
    pub time: Timestamp,
    /// Its number in the journal of its backup, from 1.
    pub sequence: u64,
    /// Bytes that it added to the repository.
    pub added_bytes: u64,
}

/// The state that was saved last: what the next segment of the journal goes on from.
///
/// Only who saved it knows it; a program that starts again begins with a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEnd {
    /// The object of the repository.
    pub follows: Follows,
    /// Where it stands in the database's own history; `None`: the engine did not say, so nothing can follow.
    pub position: Option<String>,
}

/// What `append` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppendOutcome {
    /// The backup under the journal.
    pub base: BackupId,
    /// The new segment.
    pub segment: JournalSegment,
    /// What the next segment goes on from.
    #[serde(skip)]
    pub end: JournalEnd,
    /// How long writers were held up, where the engine knows it.
    #[serde(skip)]
    pub held: Option<Duration>,
}

/// A segment that was read or written.
pub(crate) fn segment(segment: &copal_repository::Segment) -> JournalSegment {
    let (id, sequence) = (segment.id().clone(), segment.sequence());
    JournalSegment { id, time: segment.header.time, sequence, added_bytes: segment.body.added_bytes }
}

/// A segment as a listing tells it.
pub(crate) fn listed_segment(brief: &copal_repository::SegmentSummary) -> JournalSegment {
    let (id, sequence) = (brief.id.clone(), brief.sequence);
    JournalSegment { id, time: brief.time, sequence, added_bytes: brief.added_bytes }
}
