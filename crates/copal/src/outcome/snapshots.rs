//! What the use cases about snapshots answer.

use copal_core::SnapshotId;
use jiff::Timestamp;
use serde::Serialize;

use crate::CopalError;

/// One snapshot: what was taken of one or more databases under one name at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotSummary {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: SnapshotId,
    /// When it was taken, UTC.
    pub time: Timestamp,
    /// What it was taken for.
    pub label: Option<String>,
    /// The git branch of the working folder when it was taken.
    pub git_branch: Option<String>,
    /// The databases of which it has a copy.
    pub databases: Vec<SnapshotPart>,
    /// Databases that were taken together with these, of which no copy was found.
    pub missing: Vec<String>,
}

/// One database's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotPart {
    /// The database's name in the configuration, else the path or URL by which it was named.
    pub database: String,
    /// The engine's name.
    pub engine: String,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// What the application's migration tool calls this state of the schema.
    pub schema_version: Option<String>,
    /// The database's size in bytes.
    pub bytes: Option<u64>,
    /// Bytes of disk that removing it would free; none: it shares them with others, and nobody can tell.
    pub used_bytes: Option<u64>,
    /// How it was copied.
    pub method: String,
    /// Whether a second copy stands ready for the next rewind.
    pub spare: bool,
}

/// A remark about one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseNote {
    /// The database.
    pub database: String,
    /// The remark.
    pub note: String,
}

/// What `snap` took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapOutcome {
    /// The snapshot.
    #[serde(flatten)]
    pub snapshot: SnapshotSummary,
    /// Snapshots of the same name that were removed afterwards.
    pub replaced: Vec<SnapshotId>,
    /// Remarks: sessions that were ended, for example.
    pub notes: Vec<DatabaseNote>,
}

/// What `rewind` put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RewindOutcome {
    /// The snapshot, with the databases that were rewound.
    #[serde(flatten)]
    pub snapshot: SnapshotSummary,
    /// Tracked databases that were not rewound, since the snapshot was taken without them.
    pub untouched: Vec<String>,
    /// Remarks: sessions that were ended, for example.
    pub notes: Vec<DatabaseNote>,
}

/// The snapshots that were found.
#[derive(Debug, Default)]
pub struct SnapshotListing {
    /// Oldest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// Databases that could not be asked, and why.
    pub failures: Vec<(String, CopalError)>,
}

/// What `gc` did for one database, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GcOutcome {
    /// The database.
    pub database: String,
    /// Snapshots that were removed of it.
    pub removed: Vec<RemovedSnapshot>,
    /// How many it still has.
    pub kept: usize,
    /// What was finished or undone of interrupted commands.
    pub settled: Vec<String>,
    /// Nothing was done, it was only looked what there is to do.
    pub dry_run: bool,
}

/// A snapshot that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovedSnapshot {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: SnapshotId,
}
