//! What snapshots need of an engine.

use std::path::{Path, PathBuf};

use copal_core::{Content, Context, Engine, EngineResult, RestoreRequest, Restored, Sink, Source};
use copal_storage::local_file::Holder;

/// What a file tells of the database in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Version of the database's format.
    pub engine_version: String,
    /// What the migration tool of the application calls the state of the schema.
    pub schema_version: Option<String>,
}

/// An engine whose databases are files.
pub trait FileEngine: Engine + Clone + 'static {
    /// The name of the main file in a backup.
    fn main_file(&self) -> &'static str;

    /// The suffixes of files that may be a part of a copy, beside its main file.
    fn parts(&self) -> &'static [&'static str];

    /// The suffixes of files that a program may leave beside a copy that it had opened, and that say nothing without it.
    fn leavings(&self) -> &'static [&'static str];

    /// The file with `suffix` that belongs to a main file.
    fn beside(&self, main: &Path, suffix: &str) -> PathBuf;

    /// Makes `main` (and its parts), where nothing is yet, a settled copy of the database that shares its content; `false`:
    /// that cannot be had here and now. What it leaves in the folder of `main` is removed.
    fn clone_to(&self, source: &Source, main: &Path, context: &Context) -> EngineResult<bool>;

    /// Pushes the database into a sink, as a capture does, but counts nothing.
    fn copy(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<()>;

    /// What a copy tells that nobody else has open. Errors: `Corrupt`.
    fn describe(&self, main: &Path) -> EngineResult<Described>;

    /// Other processes that use the database with this main file, as far as the system tells.
    fn users(&self, main: &Path) -> Vec<Holder>;

    /// Restores a snapshot, waiting less long for others than a restore does.
    fn rewind(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored>;

    /// Puts right what an interrupted restore to this place left, and says what that was; with `dry_run`, only says it.
    fn settle(&self, target: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>>;
}
