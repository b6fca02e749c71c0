//! Snapshots: instant copies beside the live database, on the same server or disk, for going back in seconds.
//!
//! There is no index of them: each carries its description with it, so a list is a look at the place where they lie. Whatever
//! is killed, at any moment there is a database of the name, or the next call puts it back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine_error::EngineError;
use crate::{Capture, Content, Context, EngineErrorKind, EngineResult, Inventory, Sink, SnapshotId, Source};

/// What its user said of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNote {
    /// What it is called; any text without control characters.
    pub name: String,
    /// How often it was renamed. If those that were taken together have different names, that of the highest counts.
    pub revision: u32,
    /// A word of `[A-Za-z0-9._-]{1,64}` for what it was taken for, for example `pre-migrate`.
    pub label: Option<String>,
    /// The databases that were taken together under one id, this one included, by the names that the user has for them.
    pub together: Vec<String>,
    /// The branch of the working folder, where it is one of git.
    pub git_branch: Option<String>,
}

/// A snapshot that can be rewound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// What its user said of it.
    pub note: SnapshotNote,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// What the migration tool of the application calls this state of the schema.
    pub schema_version: Option<String>,
    /// The database's size in bytes, where it is known.
    pub bytes: Option<u64>,
    /// How it was copied, in a word or two: `reflink`, `live copy`, `wal_log`.
    pub method: String,
    /// The bytes of disk that removing it would free, where that can be told. Found when it is listed.
    #[serde(skip)]
    pub used_bytes: Option<u64>,
    /// Whether a second copy stands ready, with which the next rewind is but a renaming. Found when it is listed.
    #[serde(skip)]
    pub has_spare: bool,
}

/// What to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The new snapshot's id.
    pub id: SnapshotId,
    /// What is kept with it.
    pub note: SnapshotNote,
    /// Make a spare copy ready, though that takes space; where it takes none, one is made anyway.
    pub spare: bool,
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Remarks for the user: the sessions that were ended, for example.
    pub notes: Vec<String>,
}

/// How to rewind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RewindOptions {
    /// Replace a file although a process has it open, which goes on writing to what is gone.
    pub force: bool,
    /// Make another spare copy ready afterwards, though that takes space.
    pub spare: bool,
}

/// What a rewind did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewound {
    /// Remarks for the user: the sessions that were ended, for example.
    pub notes: Vec<String>,
}

/// A rewind of which all that takes time is done. Dropped instead of finished, it removes what it had prepared.
pub trait Rewind: Send {
    /// Puts the snapshot's content in the database's place, in one step; whatever fails before that, the database is as it was.
    fn finish(self: Box<Self>, context: &Context) -> EngineResult<Rewound>;
}

/// Takes snapshots of one kind of database. `source` always is the database itself, never a whole server.
///
/// Every call but `list` first finishes or undoes what an earlier process was killed in. Two calls for one database exclude each
/// other, across processes; the second waits for a while and is then `Busy`.
pub trait Snapshots: Send + Sync {
    /// Takes a snapshot of a database that may be in use. Nothing is left of one that fails.
    fn take(&self, source: &Source, request: &SnapshotRequest, context: &Context) -> EngineResult<Taken>;

    /// The complete snapshots of this database, oldest first, also if the database itself is gone. Changes nothing.
    fn list(&self, source: &Source, context: &Context) -> EngineResult<Vec<Snapshot>>;

    /// Does all of a rewind that takes time. Errors: `NotFound` without such a snapshot.
    fn prepare(
        &self,
        source: &Source,
        id: &SnapshotId,
        options: RewindOptions,
        context: &Context,
    ) -> EngineResult<Box<dyn Rewind>>;

    /// Replaces what is said of a snapshot, in one step.
    fn describe(&self, source: &Source, id: &SnapshotId, note: &SnapshotNote, context: &Context) -> EngineResult<()>;

    /// Removes a snapshot and its spare copy.
    fn remove(&self, source: &Source, id: &SnapshotId, context: &Context) -> EngineResult<()>;

    /// Finishes or undoes what killed processes left, and says what that was; with `dry_run`, only says it. A complete snapshot
    /// is never touched.
    fn settle(&self, source: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>>;

    /// The file that is the snapshot, if it is one plain file that a plain move puts in the database's place.
    fn path(&self, source: &Source, id: &SnapshotId) -> EngineResult<Option<PathBuf>> {
        let _ = (source, id);
        Ok(None)
    }

    /// Pushes a snapshot into a sink, as `Engine::capture` does it with the database itself.
    fn capture(
        &self,
        source: &Source,
        id: &SnapshotId,
        sink: &mut dyn Sink,
        context: &Context,
    ) -> EngineResult<Capture> {
        let _ = (id, sink, context);
        Err(EngineError::new(EngineErrorKind::Unsupported, format!("snapshots of {source} cannot be backed up")))
    }

    /// Makes a snapshot of a backup, checked as a restore is; the database itself is not touched.
    fn restore(
        &self,
        source: &Source,
        content: &dyn Content,
        request: &SnapshotRequest,
        expected: &Inventory,
        context: &Context,
    ) -> EngineResult<Taken> {
        let _ = (content, request, expected, context);
        let message = format!("a backup of {source} cannot be made a snapshot");
        Err(EngineError::new(EngineErrorKind::Unsupported, message))
    }
}
