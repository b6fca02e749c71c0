//! Copal preserves databases: backup, restore, verify and prune, as a library.
//!
//! [`Copal`] offers every use case of the `copal` command to Rust programs, async, with progress and cancellation, and prints
//! nothing. Engines and the repository stand below; the command line and other front ends stand above.

pub mod config;
mod engines;
mod error;
mod errors;
mod outcome;
pub mod schedule;
mod settings;
mod usecases;

pub use copal_core::{
    BackupId, CancelToken, CheckLevel, Context, Decision, Difference, Event, FolderName, Inventory, Keep, Objects,
    Progress, Reason, Secret, Silent, SnapshotId, Source, TableCount, parse_duration,
};
pub use copal_postgres::PostgresEngine as PostgresSettings;
pub use copal_storage::S3Options;
pub use error::{CopalError, ErrorKind, Result};
pub use outcome::{
    BackupAge, BackupDetails, BackupOutcome, BackupSummary, DamagedObject, DatabaseListing, DatabaseNote,
    DatabaseStatus, Diagnosis, DrillOutcome, Finding, GcOutcome, InitOutcome, KeptBackup, KeyInfo, PruneOutcome,
    RemovedSnapshot, RestoreOutcome, RewindOutcome, Severity, SnapOutcome, SnapshotListing, SnapshotPart,
    SnapshotSummary, StatusProblem, StatusProblemKind, VerifyOutcome,
};
pub use settings::{Asker, Compression, DatabaseSettings, DuckDbSettings, PassphraseSource, Settings};
pub use usecases::{
    BackupChoice, BackupOptions, Copal, GcOptions, InitOptions, KeyChange, PruneOptions, RestoreOptions, RewindRequest,
    SnapOptions, VerifyOptions, WhichBackups, host_name, snapshot_before_migration, try_snapshot_before_migration,
};
