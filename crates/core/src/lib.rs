//! The words Copal is made of: ids, manifests, retention, inventories and the contract of an engine.
//!
//! Everything here is plain data and pure functions. No I/O, no async, no engine, no storage.

mod context;
mod duration;
mod engine;
mod engine_error;
mod ids;
mod inventory;
mod journal;
mod manifest;
mod notify_event;
mod retention;
mod schema_version;
mod secret;
mod snapshot;
mod source;

pub use context::{CancelOnDrop, CancelToken, Cancelled, Context, Event, Progress, Silent};
pub use duration::{DurationError, duration_text, parse_duration};
pub use engine::{
    Capabilities, Capture, CheckLevel, CheckReport, Content, Engine, FileHandle, FirstError, Identity, Member, Objects,
    PageFileSpec, RestoreRequest, Restored, Scratch, Sink, WriteAt,
};
pub use engine_error::{AnyError, EngineError, EngineErrorKind, EngineResult};
pub use ids::{BackupId, DatabaseId, FolderName, IdError, PackId, RepositoryId, SnapshotId};
pub use inventory::{Difference, Inventory, TableCount};
pub use journal::Journal;
pub use manifest::{
    DatabaseRecord, FORMAT_VERSION, FileEntry, Follows, FrameRef, MAX_HEAD_BYTES, MAX_PAGE_SIZE, MIN_PAGE_SIZE,
    ManifestBody, ManifestHeader, PackUse, Promise, SegmentBody, SegmentHeader,
};
pub use notify_event::NotifyEvent;
pub use retention::{Candidate, Decision, Expected, Keep, KeptUntil, Reason, RetentionError, decide, kept_until};
pub use schema_version::SCHEMA_VERSION_QUERIES;
pub use secret::Secret;
pub use snapshot::{Rewind, RewindOptions, Rewound, Snapshot, SnapshotNote, SnapshotRequest, Snapshots, Taken};
pub use source::{Source, SourceError};
