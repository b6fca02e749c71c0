//! PostgreSQL for Copal: dumps of a live database in one proven view, restores that are swapped in by name, and snapshots.
//!
//! Owns how PostgreSQL's client programs are found, run and believed. Its invariants: a dump that leaves anything out is no
//! backup; a restore is whole and checked before it takes a name, and until then whatever had that name keeps serving.
//! Knows nothing of repositories. docs/engines/postgres.md says what it guarantees, and why; docs/adr/0006 why it speaks
//! to the server through `psql`.

mod address;
mod capture;
mod check;
mod engine;
mod failure;
mod folder_dump;
mod inventory;
mod others;
mod programs;
mod properties;
mod quote;
mod relations;
mod restore;
mod session;
mod snapshot;
mod step;
mod temporary;
#[cfg(any(test, feature = "testkit"))]
pub mod testing;
mod view;

pub use engine::PostgresEngine;

/// The stream with the archive of `pg_dump`, in its custom format without compression.
const ARCHIVE: &str = "dump.pgdump";
/// In front of the names of the streams of a dump by several connections: the directory format, without compression.
const FOLDER: &str = "dump/";
/// The stream with roles and tablespaces as SQL.
const GLOBALS: &str = "globals.sql";
/// The stream with what belongs to the database itself.
const PROPERTIES: &str = "database.json";
