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
    Progress, Reason, Secret, Silent, Source, TableCount, parse_duration,
};
pub use copal_postgres::PostgresEngine as PostgresSettings;
pub use copal_storage::S3Options;
pub use error::{CopalError, ErrorKind, Result};
pub use outcome::{
    BackupAge, BackupDetails, BackupOutcome, BackupSummary, DamagedObject, DatabaseListing, DatabaseStatus, Diagnosis,
    DrillOutcome, Finding, InitOutcome, KeptBackup, KeyInfo, PruneOutcome, RestoreOutcome, Severity, StatusProblem,
    StatusProblemKind, VerifyOutcome,
};
pub use settings::{Asker, Compression, DatabaseSettings, DuckDbSettings, PassphraseSource, Settings};
pub use usecases::{
    BackupChoice, BackupOptions, Copal, InitOptions, KeyChange, PruneOptions, RestoreOptions, VerifyOptions,
    WhichBackups, host_name,
};
