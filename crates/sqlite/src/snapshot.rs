//! What snapshots need of SQLite: a clone that is one committed state, and what a file tells of its schema.
//!
//! A clone is made while a read transaction is open. In rollback mode its lock keeps everybody from writing to the main file.
//! In WAL mode nobody waits: main file and log are cloned one after the other, and the log completes whatever main file was
//! met. For while the transaction is open, a checkpoint writes to the main file only what stands in frames that the
//! transaction sees; those frames stay in the log until it ends (see `Database::try_begin`); and if the main file alone is
//! what it sees, no checkpoint writes at all, and a log that starts anew meanwhile continues that. So the two together are the
//! newest state that was committed when the log was cloned; a torn end of the log has wrong checksums, and SQLite leaves it
//! out. The private copy then takes its log into its main file, so that a snapshot is one plain file.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::{
    Content, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored, SCHEMA_VERSION_QUERIES,
    Sink, Source,
};
use copal_file_engine::{Described, FileEngine, io_failed, step};
use copal_storage::local_file::{Holder, clone_into, holders};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::capture::{self, Counting};
use crate::database::{Database, LogState, Storage, open_immutable};
use crate::failure::{code_of, damaged, failed, is_damage};
use crate::header::{HEADER_BYTES, Header};
use crate::place::{Place, beside};
use crate::{MAIN_FILE, SqliteEngine, restore};

/// How long a rewind waits for a database that another process has locked.
const WAIT: Duration = Duration::from_secs(5);
/// How often a database that was replaced while it was cloned is cloned again.
const ATTEMPTS: u32 = 3;

copal_file_engine::snapshots_of_files!(SqliteEngine);

impl FileEngine for SqliteEngine {
    fn main_file(&self) -> &'static str {
        MAIN_FILE
    }

    fn parts(&self) -> &'static [&'static str] {
        &[]
    }

    fn leavings(&self) -> &'static [&'static str] {
        &["-wal", "-journal", "-shm"]
    }

    fn beside(&self, main: &Path, suffix: &str) -> PathBuf {
        beside(main, suffix)
    }

    fn clone_to(&self, source: &Source, main: &Path, context: &Context) -> EngineResult<bool> {
        for _ in 0..ATTEMPTS {
            let place = Place::find(source)?;
            // An empty file is a database without tables; a copy says so.
            if place.bytes == 0 {
                return Ok(false);
            }
            match clone(place, main, self.wait, context)? {
                Cloned::Whole => return Ok(true),
                Cloned::WithLog => return gather(main, context).map(|()| true),
                Cloned::Moved => remove(main)?,
                Cloned::Impossible => return remove(main).map(|()| false),
            }
        }
        let message = format!("{source} was replaced again and again while it was cloned");
        Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is quieter"))
    }

    fn copy(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<()> {
        let place = Place::find(source)?;
        capture::capture(place, self.reader, Counting::Spared, self.wait, sink, context).map(drop)
    }

    fn describe(&self, main: &Path) -> EngineResult<Described> {
        let mut beginning = Vec::new();
        let read = File::open(main).and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut beginning));
        read.map_err(|e| io_failed("read", main, e))?;
        if beginning.is_empty() {
            return Ok(Described { engine_version: "3".to_owned(), schema_version: None });
        }
        let header =
            Header::parse(&beginning).ok_or_else(|| damaged(main, "its header is not one that SQLite writes"))?;
        let connection = open_immutable(main)?;
        let schema_version = schema_version(&connection).map_err(|e| failed(main, "read the schema of", e))?;
        Ok(Described { engine_version: header.writer_version(), schema_version })
    }

    fn users(&self, main: &Path) -> Vec<Holder> {
        holders(main)
    }

    fn rewind(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
        restore::restore(content, request, self.wait.min(WAIT), context)
    }

    fn settle(&self, target: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
        restore::settle(target, dry_run, self.wait.min(WAIT), context)
    }
}

/// What an attempt to clone came to.
enum Cloned {
    /// The main file is all of it.
    Whole,
    /// The log beside it belongs to it.
    WithLog,
    /// Another file had the name meanwhile.
    Moved,
    /// The file system cannot.
    Impossible,
}

fn clone(place: Place, main: &Path, wait: Duration, context: &Context) -> EngineResult<Cloned> {
    let (database, view) = Database::open_view(place, LogState::Ignored, wait, context)?;
    // Not one of our own: to close it would end SQLite's locks.
    match database.handles().descriptor() {
        Some(live) if clone_file(live, main)? => {}
        _ => return Ok(Cloned::Impossible),
    }
    step("main file cloned")?;
    let mut cloned = Cloned::Whole;
    if !matches!(view.storage, Storage::MainFile) {
        let log = database.place.beside("-wal");
        // A log carries no locks.
        match File::open(&log) {
            Ok(file) if clone_file(file.as_fd(), &beside(main, "-wal"))? => cloned = Cloned::WithLog,
            Ok(_) => return Ok(Cloned::Impossible),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_failed("read", &log, e)),
        }
        step("log cloned")?;
    }
    let mut beginning = Vec::new();
    let read = File::open(main).and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut beginning));
    read.map_err(|e| io_failed("read", main, e))?;
    let counter = Header::parse(&beginning).map_or(0, |header| header.change_counter);
    Ok(if !database.handles().has_moved() && database.confirm(&view, counter)? { cloned } else { Cloned::Moved })
}

/// Makes `to` a clone; whether that can be had.
fn clone_file(from: BorrowedFd<'_>, to: &Path) -> EngineResult<bool> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to);
    made.and_then(|made| clone_into(&made, from)).map_err(|e| io_failed("write", to, e))
}

/// Takes the log of a private copy into its main file.
fn gather(main: &Path, context: &Context) -> EngineResult<()> {
    context.cancel.check()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let take = || {
        let connection = Connection::open_with_flags(main, flags)?;
        // Nobody else is there, so no `-shm` is needed; and what is made is synced when it is whole.
        connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = OFF")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    };
    let unfinished = take().map_err(|e| failed(main, "gather the log of", e))?;
    let log = beside(main, "-wal");
    if unfinished || log.metadata().is_ok_and(|m| m.len() > 0) {
        return Err(damaged(main, "its log cannot be taken into it"));
    }
    step("log gathered")?;
    for suffix in ["-wal", "-shm"] {
        remove(&beside(main, suffix))?;
    }
    Ok(())
}

/// Removes what was made, also the log beside it.
fn remove(path: &Path) -> EngineResult<()> {
    for path in [beside(path, "-wal"), path.to_owned()] {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_failed("remove", &path, e)),
            _ => {}
        }
    }
    Ok(())
}

/// What the tool of the application says the schema is, else the number that a program may have set itself.
fn schema_version(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let one = |sql: &str| {
        connection.query_row(sql, [], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Integer(number) => Some(number.to_string()),
                _ => None,
            })
        })
    };
    for (table, sql) in SCHEMA_VERSION_QUERIES {
        let is_there = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = ?1";
        if !connection.prepare(is_there)?.exists([table])? {
            continue;
        }
        match one(sql) {
            Ok(Some(version)) => return Ok(Some(version)),
            // Damage is told; a table of another tool with that name is none of ours.
            Err(error) if is_damage(code_of(&error)) => return Err(error),
            _ => {}
        }
    }
    Ok(one("PRAGMA user_version")?.filter(|version| version != "0"))
}
