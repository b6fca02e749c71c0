//! The contract between an engine (which knows one kind of database) and everything else.
//!
//! Engines block; callers run them on threads of their own. An engine never sees a repository: it pushes pages into a
//! `Sink` and takes files from a `Content`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::engine_error::{AnyError, EngineResult};
use crate::{Context, FileEntry, Inventory, Journal, Snapshots, Source};

/// What an engine can do, as values, so that nobody above it asks for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// URL schemes it answers to, for example `["sqlite"]`.
    pub schemes: &'static [&'static str],
    /// Databases are files on this machine (so a plain path can name one).
    pub is_file: bool,
    /// Durable backups.
    pub capture: bool,
    /// Restores.
    pub restore: bool,
    /// The zstd level that pays for its content where none is configured: 3 for rows as they are, 1 for what the database
    /// compresses itself.
    pub compression: i32,
    /// Restores of chosen tables and schemas into a database that stays.
    pub objects: bool,
    /// Restores that replace a database can leave the old one beside it.
    pub keep_old: bool,
    /// Restores to `file:PATH` write what the engine's own tools read.
    pub archives: bool,
}

impl Capabilities {
    /// What every engine has whose databases are files: captures, and restores of whole databases.
    pub fn of_files(schemes: &'static [&'static str], compression: i32) -> Self {
        let (objects, keep_old, archives) = (false, false, false);
        Self { schemes, is_file: true, capture: true, restore: true, compression, objects, keep_old, archives }
    }
}

/// What an engine found out about a database without reading its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What names this database for ever: the canonical path, or host, port and database name. No secrets.
    pub canonical: String,
    /// A good short name, for example the file's stem.
    pub short_name: String,
    /// Version of the database's format or server.
    pub version: String,
    /// Size in bytes, where it is known.
    pub bytes: Option<u64>,
}

/// What is about to be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFileSpec {
    /// Name of the file in the backup, relative, for example `main.db`.
    pub name: String,
    /// Bytes in a page, 512 to 1,048,576.
    pub page_size: u32,
    /// Length of the head in front of the pages, at most 65,536 bytes.
    pub head_length: u32,
}

/// A page file or a stream that a sink is taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle(pub u32);

/// Takes the content of one backup.
pub trait Sink {
    /// Begins a page file.
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError>;

    /// Takes consecutive pages, the first of which has number `first` (from 0). Any order; a page given again replaces
    /// the earlier one. `bytes` are whole pages, except that the file's last may be short. Best in runs of about 1 MiB.
    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError>;

    /// Ends a file of `length` bytes, head included. Every page up to there must have been given; later ones are dropped.
    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError>;

    /// Forgets a file or stream that was begun; the engine may begin it again.
    fn withdraw(&mut self, file: FileHandle) -> Result<(), AnyError>;

    /// Begins a stream: bytes of unknown length, which are cut by their content. `name` is relative, for example `dump`.
    fn begin_stream(&mut self, name: &str) -> Result<FileHandle, AnyError> {
        Err(format!("this sink takes page files only, not the stream {name}").into())
    }

    /// Takes the next bytes of a stream. Best in runs of some 100 KiB.
    fn append(&mut self, stream: FileHandle, bytes: &[u8]) -> Result<(), AnyError> {
        Err(format!("this sink has no stream {} for {} bytes", stream.0, bytes.len()).into())
    }

    /// Ends a stream.
    fn finish_stream(&mut self, stream: FileHandle) -> Result<(), AnyError> {
        Err(format!("this sink has no stream {}", stream.0).into())
    }
}

/// What an engine knows after a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// Version of the database's format or server.
    pub engine_version: String,
    /// Counts from the very view that was captured.
    pub inventory: Inventory,
    /// Where the backup stands in the database's own history, in the engine's notation.
    pub position: Option<String>,
    /// Remarks to be kept with the backup.
    pub notes: Vec<String>,
}

/// A place that takes bytes at offsets, from several threads.
pub trait WriteAt: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// Makes the whole content a clone of a file that shares its blocks; `false`: that cannot be had here.
    fn reflink(&self, from: &Path) -> std::io::Result<bool> {
        let _ = from;
        Ok(false)
    }
}

/// A writer that remembers its first error, which says more than what a [`Content`] makes of it.
#[derive(Debug)]
pub struct FirstError<W, R = fn(&Path) -> std::io::Result<bool>> {
    write: W,
    reflink: R,
    failure: Mutex<Option<std::io::Error>>,
}

impl<W: Fn(u64, &[u8]) -> std::io::Result<()>> FirstError<W> {
    /// Writes with `write`, and cannot make clones.
    pub fn new(write: W) -> Self {
        Self { write, reflink: |_| Ok(false), failure: Mutex::new(None) }
    }
}

impl<W, R: Fn(&Path) -> std::io::Result<bool>> FirstError<W, R> {
    /// The same, but makes clones with `reflink`.
    pub fn with_reflink<N: Fn(&Path) -> std::io::Result<bool>>(self, reflink: N) -> FirstError<W, N> {
        FirstError { write: self.write, reflink, failure: self.failure }
    }

    /// The first error, if there was one.
    pub fn into_failure(self) -> Option<std::io::Error> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an error, and gives back what it was.
    fn keep(&self, error: std::io::Error) -> std::io::Error {
        let told = match error.raw_os_error() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::from(error.kind()),
        };
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }
}

impl<W, R> WriteAt for FirstError<W, R>
where
    W: Fn(u64, &[u8]) -> std::io::Result<()> + Send + Sync,
    R: Fn(&Path) -> std::io::Result<bool> + Send + Sync,
{
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        (self.write)(offset, bytes).map_err(|error| self.keep(error))
    }

    fn reflink(&self, from: &Path) -> std::io::Result<bool> {
        (self.reflink)(from).map_err(|error| self.keep(error))
    }
}

/// A backup as an engine sees it while restoring.
pub trait Content: Send + Sync {
    /// The files of the backup.
    fn files(&self) -> &[FileEntry];

    /// Writes one whole file, authenticated and compared with its digest, in runs at any order of offsets.
    fn write_file(&self, name: &str, out: &dyn WriteAt, context: &Context) -> Result<(), AnyError>;

    /// Writes one whole stream from its first byte to its last. Every byte is authenticated before it is written; that they
    /// are all of the stream is known when this returns. An error of `out` ends it and is its cause.
    fn write_stream(&self, name: &str, out: &mut dyn std::io::Write, context: &Context) -> Result<(), AnyError> {
        let _ = (out, context);
        Err(format!("{name} is not a stream").into())
    }

    /// The segments of the journal to be applied after the files, in order; only for engines that have a journal.
    fn segments(&self) -> &[Box<dyn Content>] {
        &[]
    }
}

/// How thoroughly a restored database is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckLevel {
    /// Not at all: the content is a snapshot's.
    None,
    /// The engine's quick check.
    #[default]
    Quick,
    /// Everything the engine can check.
    Full,
}

/// What to restore to where.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The target, of the engine's own kind.
    pub target: Source,
    /// Whether an existing database may be replaced.
    pub replace: bool,
    /// The check that must pass before the target takes its place.
    pub check: CheckLevel,
    /// Look whether it could be done, and do nothing.
    pub dry_run: bool,
    /// Leave the database that is replaced beside the new one; only if the engine is capable of it.
    pub keep_old: bool,
    /// What to restore into a database that stays; empty: the whole database. Only if the engine is capable of it.
    pub objects: Objects,
    /// Replace a file although a process has it open, which goes on writing to what is gone.
    pub force: bool,
    /// What the backup contains: a whole database is compared with it before it takes its place, where the engine can.
    pub expected: Option<Inventory>,
}

impl RestoreRequest {
    /// Restores all of a backup to a target where nothing is, with the quick check.
    pub fn new(target: Source) -> Self {
        let (replace, dry_run, keep_old, force) = (false, false, false, false);
        Self {
            target,
            replace,
            check: CheckLevel::Quick,
            dry_run,
            keep_old,
            force,
            objects: Objects::default(),
            expected: None,
        }
    }
}

/// Chosen parts of a database, by the names that the engine writes in inventories (`schema.table`) or without the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Tables with their data.
    pub tables: Vec<String>,
    /// Schemas with all that is in them.
    pub schemas: Vec<String>,
}

impl Objects {
    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.schemas.is_empty()
    }
}

/// One database of a server that was named as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name on the server.
    pub name: String,
    /// Where it is.
    pub source: Source,
}

/// A place to which a backup is restored in order to look at it, and what removes it again.
pub struct Scratch {
    /// The target of the restore.
    pub source: Source,
    /// Removes what was restored; to be called whatever came of it, also if nothing was restored.
    pub discard: Box<dyn FnOnce() -> EngineResult<()> + Send>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("source", &self.source).finish_non_exhaustive()
    }
}

/// What a restore did (or, in a dry run, would do).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The target as shown to people.
    pub target: String,
    /// Whether something was (would be) replaced.
    pub replaced: bool,
    /// The check that passed; empty in a dry run.
    pub check: CheckReport,
    /// Remarks.
    pub notes: Vec<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The checks that ran, for example `quick_check`.
    pub ran: Vec<String>,
    /// What is wrong, in the engine's words; empty if the database is sound.
    pub problems: Vec<String>,
    /// Checks of this level that could not be run, and why.
    pub impossible: Vec<String>,
}

/// Knows one kind of database.
pub trait Engine: Send + Sync {
    /// Its name, for example `sqlite`, as it stands in manifests.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether a file that begins with these bytes (up to 4,096; fewer if the file is shorter) is one of its databases.
    fn recognises(&self, beginning: &[u8]) -> bool;

    /// Who is this database, is it reachable, which version.
    fn identify(&self, source: &Source) -> EngineResult<Identity>;

    /// The databases that a source stands for if it names a whole server (`postgres://host/*`); `None`: it names one.
    fn members(&self, source: &Source) -> EngineResult<Option<Vec<Member>>> {
        let _ = source;
        Ok(None)
    }

    /// Opens one consistent view of the database and pushes all of it into `sink`, the inventory read in the same view.
    fn capture(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<Capture>;

    /// Writes a backup's files to the target, checks them there, and only then lets them take the target's place.
    fn restore(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored>;

    /// Counts what is in a database now.
    fn inventory(&self, source: &Source, context: &Context) -> EngineResult<Inventory>;

    /// Checks a database by the engine's own means. A database that is unsound is a report, not an error.
    fn check(&self, source: &Source, level: CheckLevel, context: &Context) -> EngineResult<CheckReport>;

    /// A new place for a drill of a backup of `source`: a file in this empty folder, or a database of the same server.
    fn scratch(&self, source: &Source, folder: &Path) -> EngineResult<Scratch>;

    /// What takes snapshots and rewinds to them, if the engine can.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// What tells what happened since a backup, if the engine can.
    fn journal(&self) -> Option<&dyn Journal> {
        None
    }

    /// The same with all snapshots in one folder, which may contain other files, if databases are files.
    fn snapshots_in(&self, folder: &Path) -> Option<Box<dyn Snapshots>> {
        let _ = folder;
        None
    }
}
