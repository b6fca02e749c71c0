//! Copal preserves databases: backup, restore, verify and prune, as a library.
//!
//! [`Copal`] offers every use case of the `copal` command to Rust programs, async, with progress and cancellation, and prints
//! nothing. Engines and the repository stand below; the command line and other front ends stand above. docs/library.md shows what there is.
//!
//! ```
//! use copal::memory::{MemoryStore, Table};
//! use copal::{BackupOptions, Context, Copal, InitOptions, PassphraseSource, RestoreOptions, Secret, Settings};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let repository = folder.path().join("repository").display().to_string();
//! let passphrase = PassphraseSource::Known(Secret::new("a passphrase"));
//! let copal = Copal::new(Settings { passphrase, ..Settings::new(repository) });
//! copal.init(InitOptions { encrypt: true, ..InitOptions::default() }).await?;
//!
//! // A path or a URL names a database; here it is a store of this program.
//! let store = MemoryStore::new();
//! let users: Table<u64, String> = store.table("users")?;
//! let _registered = copal.register("app", store.clone())?;
//! users.insert(1, "Ada".into())?;
//! copal.backup("memory:app", BackupOptions::default(), &Context::silent()).await?;
//!
//! users.clear()?;
//! copal.restore("memory:app", RestoreOptions::default(), &Context::silent()).await?;
//! assert_eq!(users.get(&1).as_deref(), Some("Ada"));
//! # Ok(()) }
//! ```

pub mod config;
mod engines;
mod error;
mod errors;
mod manager;
mod outcome;
pub mod schedule;
mod scheduler;
mod settings;
mod usecases;

/// Tables that live in the program: a store of typed rows, and the trait by which any other takes part.
#[cfg(feature = "memory")]
pub mod memory {
    pub use copal_memory::*;
}

pub use copal_core::{
    BackupId, CancelToken, CheckLevel, Context, Decision, Difference, Event, FolderName, Follows, Inventory, Keep,
    KeptUntil, Objects, Progress, Reason, Secret, Silent, SnapshotId, Source, TableCount, parse_duration,
};
pub use copal_storage::S3Options;
pub use error::{CopalError, ErrorKind, Result};
pub use manager::{BackupManager, BackupManagerBuilder, ChangeNotifier, ManagerFailure, ManagerStatus, Saved};
pub use outcome::{
    Abilities, AppendOutcome, BackupAge, BackupDetails, BackupOutcome, BackupSummary, DamagedObject, DatabaseListing,
    DatabaseNote, DatabaseStatus, Diagnosis, DrillOutcome, Finding, GcOutcome, InitOutcome, JournalEnd, JournalSegment,
    KeptBackup, KeyInfo, LeaseInfo, Outlook, PruneOutcome, RemovedSnapshot, RestoreOutcome, RestorePlan, RewindOutcome,
    Severity, SnapOutcome, SnapshotListing, SnapshotPart, SnapshotSummary, SpacePlan, StatusProblem, StatusProblemKind,
    VerifyOutcome,
};
pub use scheduler::{Job, JobStatus, RunResult, ScheduledRun, Scheduler, SchedulerBuilder, SchedulerEvent};
pub use settings::{
    Asker, Compression, DatabaseSettings, DuckDbSettings, PassphraseSource, PostgresSettings, Settings,
};
pub use usecases::{
    BackupChoice, BackupOptions, Copal, GcOptions, Identified, InitOptions, KeyChange, PlanOptions, PruneOptions,
    RestoreOptions, RestorePlace, RewindRequest, SnapOptions, VerifyOptions, WhichBackups, host_name,
    snapshot_before_migration, try_snapshot_before_migration,
};
