//! SQLite for Copal: backups of live databases, page by page, and restores that never leave half a database.
//!
//! Owns how SQLite files are read and replaced. Its invariants: a backup changes nothing that it reads and is exactly
//! one committed state; a restore leaves at its target the whole old or the whole new database, wherever it is
//! interrupted. Knows nothing of repositories. docs/engines/sqlite.md says what it guarantees and needs.

mod capture;
mod check;
mod database;
mod engine;
mod failure;
mod handles;
mod header;
mod inventory;
mod place;
mod reader;
mod restore;
mod settled;
mod snapshot;
#[cfg(test)]
mod testing;
mod wal_index;
mod watch;

pub use engine::SqliteEngine;
pub use reader::Reader;

/// The name of the database in a backup.
const MAIN_FILE: &str = "main.db";
