//! Locks around the moment in which a database is replaced.

use std::path::Path;
use std::time::{Duration, Instant};

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use copal_storage::local_file::{FolderLock, holders};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::target::Target;
use crate::database::busy;
use crate::failure::{code_of, failed, file_failed, is_busy, is_damage};
use crate::handles::Handles;

/// How often a lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Keeps other restores out of the target's folder, waiting up to `wait` for them.
pub(super) fn alone(target: &Target, wait: Duration, context: &Context) -> EngineResult<FolderLock> {
    let taken = FolderLock::take(&target.folder, wait, || !context.cancel.is_cancelled());
    context.cancel.check()?;
    taken.ok_or_else(|| {
        let message = format!("another restore works in {}", target.folder.display());
        EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is done")
    })
}

/// SQLite's EXCLUSIVE lock on a database that is about to be replaced; it ends when this is dropped.
pub(super) struct Seized {
    /// All of the database is in its main file, without log or journal.
    pub(super) is_whole: bool,
    _connection: Connection,
}

impl Seized {
    /// Locks every other process out and gathers the database in its main file, waiting up to `wait` for others.
    ///
    /// A file that SQLite cannot read is only locked.
    pub(super) fn gather(path: &Path, wait: Duration, context: &Context) -> EngineResult<Self> {
        let connection = open(path)?;
        match retry(path, wait, context, || gather(&connection).map_err(|e| (code_of(&e), e)))? {
            Ok(()) => Ok(Self { is_whole: true, _connection: connection }),
            Err((code, error)) if is_unreadable(code, path) => {
                tracing::debug!(path = %path.display(), %error, "what is replaced cannot be read");
                drop(connection);
                Self::blind(path, wait, context)
            }
            Err((_, error)) => Err(failed(path, "replace", error)),
        }
    }

    /// Locks every other process out, whatever the file contains.
    pub(super) fn blind(path: &Path, wait: Duration, context: &Context) -> EngineResult<Self> {
        let connection = open(path)?;
        retry(path, wait, context, || Handles::of(&connection).lock_exclusive().map_err(|e| (e.0, e)))?
            .map_err(|(_, error)| file_failed(path, "lock", error))?;
        Ok(Self { is_whole: false, _connection: connection })
    }
}

/// Whether the file's content (a header of another version included), not its surroundings, keeps SQLite from it.
fn is_unreadable(code: i32, path: &Path) -> bool {
    match code & 0xff {
        ffi::SQLITE_IOERR | ffi::SQLITE_ERROR => true,
        ffi::SQLITE_READONLY => rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
        _ => is_damage(code),
    }
}

/// Waits until no other process has the file open. In rollback mode a program can have that without any lock, and would
/// go on with the old file.
pub(super) fn wait_for_users(path: &Path, wait: Duration, context: &Context) -> EngineResult<()> {
    let deadline = Instant::now() + wait;
    loop {
        context.cancel.check()?;
        // A process that was just forked has our own files open until it starts its program, so one look is not enough.
        match holders(path).as_slice() {
            [] => return Ok(()),
            [first, ..] if Instant::now() >= deadline => {
                let message = format!("{} is open in {first}", path.display());
                return Err(EngineError::new(EngineErrorKind::Busy, message)
                    .hint("stop that program, or let it close the database, then restore again"));
            }
            _ => std::thread::sleep(RETRY.min(wait)),
        }
    }
}

fn open(path: &Path) -> EngineResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        // When this connection is closed, the files at its path belong to the new database.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(connection)
    };
    open().map_err(|e| failed(path, "open", e))
}

/// Rolls back a journal or copies the log into the main file, and keeps the EXCLUSIVE lock.
fn gather(connection: &Connection) -> rusqlite::Result<()> {
    // Before the first access, so that in WAL mode, too, the lock is on the main file and no `-shm` is needed.
    connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    if connection.is_autocommit() {
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode == "wal" {
        let unfinished: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if unfinished {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
    }
    Ok(())
}

/// Tries again while the database is busy. The outer error ends everything, the inner one is the last answer.
fn retry<T, E>(
    path: &Path,
    wait: Duration,
    context: &Context,
    mut attempt: impl FnMut() -> Result<T, (i32, E)>,
) -> EngineResult<Result<T, (i32, E)>> {
    let deadline = Instant::now() + wait;
    loop {
        context.cancel.check()?;
        match attempt() {
            Err((code, _)) if is_busy(code) => {
                if Instant::now() >= deadline {
                    return Err(busy(path, wait));
                }
                std::thread::sleep(RETRY.min(wait));
            }
            answer => return Ok(answer),
        }
    }
}
