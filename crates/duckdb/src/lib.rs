//! DuckDB for Copal: consistent copies of a database that another process holds open and writes to, block by block, and
//! restores that never leave half a database.
//!
//! Owns how DuckDB's files are read and replaced; needs no DuckDB for that. Its invariants: a backup changes nothing
//! that it reads, and is a state that DuckDB itself could have left behind by a crash at one moment after the backup
//! began, with everything committed until then; a restore never lets one database's main file meet another's log.
//! Knows nothing of repositories. docs/engines/duckdb.md says what it guarantees, and why.

mod capture;
mod check;
mod engine;
mod format;
mod inventory;
mod owner;
mod place;
mod program;
mod restore;
mod snapshot;
#[cfg(test)]
mod testing;

pub use engine::DuckDbEngine;

/// The name of the main file in a backup.
const MAIN_FILE: &str = "main.duckdb";
/// The suffix of the write-ahead log.
const LOG: &str = ".wal";
/// The suffix of the log that takes the commits made while a checkpoint runs (DuckDB 1.5 and later).
const CHECKPOINT_LOG: &str = ".wal.checkpoint";
/// The suffix of the log that DuckDB writes while it recovers from a crash in a checkpoint; worthless after another crash.
const RECOVERY_LOG: &str = ".wal.recovery";
