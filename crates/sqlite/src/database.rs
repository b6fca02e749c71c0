//! A live database, opened so that a look at it changes nothing, and one consistent view of it.
//!
//! Opened for reading and writing without creating, because SQLite needs that for what every reader has to do: roll
//! back the journal that a crash left, and take away the `-wal` and `-shm` that opening made. `query_only` refuses
//! everything else, and nothing is checkpointed: a `-wal` with content stays as it is.

use std::path::Path;
use std::time::{Duration, Instant};

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use copal_storage::local_file::holders;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::failure::{code_of, damaged, failed, file_failed, is_busy};
use crate::handles::Handles;
use crate::header::{HEADER_BYTES, Header, MAGIC, looks_random};
use crate::place::Place;
use crate::settled::Settled;
use crate::wal_index::{WalIndex, WalState};

/// Attempts to open a view in which the log's state is known, while writers commit all the time.
const VIEW_ATTEMPTS: u32 = 200;
/// How often a locked database is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// An open database.
pub(crate) struct Database {
    /// SQLite's connection.
    pub(crate) connection: Connection,
    /// Where it is.
    pub(crate) place: Place,
    /// Set if it is read as immutable.
    settled: Option<Settled>,
}

/// What a read transaction sees.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Bytes in a page.
    pub(crate) page_size: u32,
    /// Number of pages.
    pub(crate) pages: u32,
    /// Where the newest versions of the pages are.
    pub(crate) storage: Storage,
    /// In WAL mode the state of the log that it sees, where that is known.
    log: Option<WalState>,
}

/// Where the pages of a view are.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// All in the main file, which cannot change while the view is open.
    MainFile,
    /// In the log as far as it holds them, else in the main file.
    Log(WalState),
    /// In the log or the main file; which frames belong to the view is not known here.
    Unknown,
}

/// Whether it must be known which frames of the log belong to a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogState {
    /// It is of no interest.
    Ignored,
    /// It is found out if that is soon possible.
    Wanted,
    /// Nothing can be done without it.
    Needed,
}

impl View {
    /// Length of the database in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.pages)
    }
}

impl Database {
    /// Opens the database, which must not be an empty file.
    pub(crate) fn open(place: Place) -> EngineResult<Self> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        // The path is absolute, so it cannot be taken for a `file:` URL or an option.
        let connection = Connection::open_with_flags(&place.path, flags).map_err(|e| failed(&place.path, "open", e))?;
        let database = Self { connection, place, settled: None };
        database.configure()?;
        Ok(database)
    }

    /// Opens it as immutable, which is right as long as `settled` holds.
    fn open_settled(place: Place, settled: Settled) -> EngineResult<Self> {
        let connection = open_immutable(&place.path)?;
        Ok(Self { connection, place, settled: Some(settled) })
    }

    /// Opens one consistent view, waiting up to `wait` for a database that is locked.
    pub(crate) fn open_view(
        place: Place,
        log: LogState,
        wait: Duration,
        context: &Context,
    ) -> EngineResult<(Self, View)> {
        let database = Self::open(place)?;
        database.refuse_strangers()?;
        match database.begin(log, wait, context) {
            Ok(view) => Ok((database, view)),
            Err(error) if error.kind == EngineErrorKind::PermissionDenied => {
                database.begin_settled(error, wait, context)
            }
            Err(error) => Err(error),
        }
    }

    /// A second connection that sees the same state as `view`, for work on another thread; `None` where that is not
    /// certain at once.
    ///
    /// In rollback mode nobody can commit while this connection holds its shared lock. In WAL mode the state of the
    /// log tells (see `try_begin`): if it is still the one of `view`, nothing was committed in between.
    pub(crate) fn second_look(&self, view: &View) -> Option<Self> {
        if self.settled.is_some() || matches!(view.storage, Storage::Unknown) {
            return None;
        }
        let second = Self::open(self.place.clone()).ok()?;
        let seen = second.try_begin().ok()?;
        let is_same = seen.log == view.log
            && (seen.page_size, seen.pages) == (view.page_size, view.pages)
            && (view.log.is_some() || !self.is_wal().ok()?)
            && !matches!(seen.storage, Storage::Unknown);
        is_same.then_some(second)
    }

    /// Says whether everything that was read since `open_view` belongs to one state.
    pub(crate) fn confirm(&self, view: &View, change_counter: u32) -> EngineResult<bool> {
        if let Some(settled) = &self.settled {
            return settled.holds(&self.place);
        }
        let failed = |e| file_failed(&self.place.path, "read", e);
        match &view.storage {
            Storage::Log(state) => state.still_there(self.handles()).map_err(failed),
            Storage::Unknown => Ok(true),
            // Belt and braces: SQLite's lock keeps writers out, unless somebody in this process closed a descriptor.
            Storage::MainFile if self.is_wal()? => Ok(true),
            Storage::MainFile => {
                let mut header = [0; HEADER_BYTES];
                self.handles().read_main(0, &mut header).map_err(failed)?;
                Ok(Header::parse(&header).is_some_and(|h| h.change_counter == change_counter))
            }
        }
    }

    /// SQLite's open files.
    pub(crate) fn handles(&self) -> Handles<'_> {
        Handles::of(&self.connection)
    }

    /// One number that a pragma answers.
    pub(crate) fn number(&self, pragma: &str) -> EngineResult<i64> {
        self.query(pragma, |row| row.get(0))
    }

    /// One text that a pragma answers.
    pub(crate) fn text(&self, pragma: &str) -> EngineResult<String> {
        self.query(pragma, |row| row.get(0))
    }

    fn query<T>(&self, pragma: &str, take: fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> EngineResult<T> {
        self.raw_query(pragma, take).map_err(|e| failed(&self.place.path, "read", e))
    }

    fn raw_query<T>(&self, sql: &str, take: fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.connection.prepare_cached(sql)?.query_row([], take)
    }

    fn is_wal(&self) -> EngineResult<bool> {
        Ok(self.text("PRAGMA journal_mode")? == "wal")
    }

    fn configure(&self) -> EngineResult<()> {
        configure(&self.connection, &self.place.path)
    }

    /// Refuses files that are not SQLite's before SQLite does anything with what stands beside them.
    pub(crate) fn refuse_strangers(&self) -> EngineResult<()> {
        let path = &self.place.path;
        let mut beginning = [0; 4096];
        let there = self.handles().read_main(0, &mut beginning).map_err(|e| file_failed(path, "read", e))?;
        let beginning = beginning.get(..there).unwrap_or_default();
        // A crash may have torn the first page; then a journal or a log has what is needed to mend it.
        if beginning.starts_with(MAGIC) || (beginning.len() >= 512 && self.place.has_journal_or_log()) {
            return Ok(());
        }
        let shown = path.display();
        let whole_pages = self.place.bytes.is_multiple_of(512);
        Err(if whole_pages && looks_random(beginning) {
            EngineError::new(
                EngineErrorKind::Encrypted,
                format!("{shown} looks encrypted: it begins with random bytes"),
            )
            .hint("databases of SQLCipher or SEE cannot be backed up; export an unencrypted copy and back that up")
        } else {
            EngineError::new(EngineErrorKind::NotThisEngine, format!("{shown} is not a SQLite database"))
        })
    }

    fn begin(&self, log: LogState, wait: Duration, context: &Context) -> EngineResult<View> {
        let path = &self.place.path;
        let deadline = Instant::now() + wait;
        let again = |log, moved| match log {
            LogState::Ignored => false,
            LogState::Wanted => moved < VIEW_ATTEMPTS,
            LogState::Needed => moved < VIEW_ATTEMPTS || Instant::now() < deadline,
        };
        let mut moved = 0;
        loop {
            context.cancel.check()?;
            match self.try_begin() {
                Ok(view) if matches!(view.storage, Storage::Unknown) && again(log, moved) => {
                    moved += 1;
                    self.rollback();
                    // Writers are met less often by attempts that are not in step with them.
                    match moved {
                        ..VIEW_ATTEMPTS if moved % 8 > 0 => {}
                        ..VIEW_ATTEMPTS => std::thread::sleep(Duration::from_micros(200)),
                        _ => std::thread::sleep(RETRY),
                    }
                }
                Ok(view) => return Ok(view),
                Err(error) => {
                    let code = code_of(&error);
                    self.rollback();
                    if !is_busy(code) {
                        return Err(self.explain(error));
                    }
                    if Instant::now() >= deadline {
                        return Err(busy(path, wait).because(error));
                    }
                    std::thread::sleep(RETRY.min(wait));
                }
            }
        }
    }

    /// Begins a read transaction; in WAL mode it finds out which state of the log the transaction sees.
    ///
    /// The wal-index header is read before and after. It changes with every commit (`iChange`, `mxFrame`), with
    /// every restart of the log (salts) and with nothing else but a recovery. So two equal headers mean that the
    /// transaction, which took its snapshot in between, sees exactly that state. Then there are two cases:
    ///
    /// - Everything in the log was copied to the main file (`nBackfill == mxFrame`). The main file alone is the
    ///   snapshot: SQLite holds either read lock 0, which keeps checkpoints from writing, or a read mark not above
    ///   `mxFrame`, beyond which no checkpoint copies.
    /// - Not everything was copied. As `nBackfill` only grows within one state, SQLite did not find it equal to
    ///   `mxFrame` either, so it holds a read mark above 0. While it does, the log is not restarted: frames 1 to
    ///   `mxFrame` stay as they are. Checkpoints may write to the main file, but only pages that have such a frame,
    ///   and those are read from the log.
    ///
    /// A recovery by another process in the meantime (after a writer died within its update of the header) sets
    /// `nBackfill` to 0 but neither takes locks away nor changes frames; with `nBackfill` at 0 no log restarts.
    fn try_begin(&self) -> rusqlite::Result<View> {
        let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        // Also opens the log, if there is one, so that there is a wal-index to look at.
        let wal_before = self.raw_query("PRAGMA journal_mode", mode)? == "wal";
        let look = || if wal_before { WalIndex::read(self.handles()).ok().flatten() } else { None };
        let before = look();
        self.connection.prepare_cached("BEGIN")?.execute([])?;
        self.raw_query("PRAGMA user_version", |row| row.get::<_, i64>(0))?;
        let after = look();
        let wal = self.raw_query("PRAGMA journal_mode", mode)? == "wal";
        let page_size = self.raw_query("PRAGMA page_size", |row| row.get(0))?;
        let pages = self.raw_query("PRAGMA page_count", |row| row.get(0))?;
        let log = match (&before, &after) {
            (Some(before), Some(after)) if wal && before.state == after.state => Some(after.state),
            _ => None,
        };
        let storage = match (before, after) {
            _ if wal != wal_before => Storage::Unknown,
            _ if !wal => Storage::MainFile,
            (Some(before), Some(after)) if before.state == after.state => {
                if after.backfilled == after.state.last_frame {
                    Storage::MainFile
                } else if after.state.pages == pages {
                    Storage::Log(after.state)
                } else {
                    Storage::Unknown
                }
            }
            _ => Storage::Unknown,
        };
        Ok(View { page_size, pages, storage, log })
    }

    fn rollback(&self) {
        if !self.connection.is_autocommit() {
            // A read transaction cannot fail to end.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn begin_settled(self, refused: EngineError, wait: Duration, context: &Context) -> EngineResult<(Self, View)> {
        let mut header = [0; HEADER_BYTES];
        let there = self.handles().read_main(0, &mut header).unwrap_or(0);
        let is_wal = header.get(..there).and_then(Header::parse).is_some_and(|h| h.wal);
        if self.place.bytes_beside("-wal") > 0 || self.place.bytes_beside("-journal") > 0 {
            return Err(refused.hint(
                "a log or journal with content stands beside it; to read that needs write permission for the folder",
            ));
        }
        if !is_wal {
            return Err(refused);
        }
        let place = self.place.clone();
        // The connection must be gone first: it may hold locks on the same file.
        drop(self);
        let deadline = Instant::now() + wait;
        let settled = loop {
            context.cancel.check()?;
            match Settled::observe(&place)? {
                Some(settled) => break settled,
                None if Instant::now() >= deadline => return Err(busy(&place.path, wait)),
                None => std::thread::sleep(Duration::from_millis(200)),
            }
        };
        let database = Self::open_settled(place, settled)?;
        let view = database.begin(LogState::Ignored, wait, context)?;
        Ok((database, View { storage: Storage::MainFile, ..view }))
    }

    /// What a refusal at the beginning of a transaction means.
    fn explain(&self, error: rusqlite::Error) -> EngineError {
        let path = &self.place.path;
        let code = code_of(&error);
        if code & 0xff == ffi::SQLITE_NOTADB {
            return damaged(path, "its first page is not that of a SQLite database (or the rest of it is encrypted)")
                .because(error);
        }
        if code == ffi::SQLITE_READONLY_ROLLBACK || code == ffi::SQLITE_READONLY_RECOVERY {
            let message = format!("a crash left {} in the middle of a transaction", path.display());
            return EngineError::new(EngineErrorKind::PermissionDenied, message)
                .hint("it must be rolled back first, which needs write permission: open it once with its own program")
                .because(error);
        }
        failed(path, "read", error)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.rollback();
        // An empty log is one that opening made (or that says nothing): SQLite may take it away again, together with
        // `-shm`, if nobody else is there. A log with content is left as it is.
        if self.settled.is_none() && self.place.beside("-wal").exists() && self.place.bytes_beside("-wal") == 0 {
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

/// The error for a database that stayed locked.
pub(crate) fn busy(path: &Path, wait: Duration) -> EngineError {
    let by = match holders(path).as_slice() {
        [] => String::new(),
        found => format!(" ({})", found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    let message = format!("{} is held by another process{by}; waited {} s", path.display(), wait.as_secs());
    EngineError::new(EngineErrorKind::Busy, message)
        .hint("try again when it is done; with `locking_mode=EXCLUSIVE` a program keeps the database until it ends")
}

/// Opens a file that nobody changes, so that nothing is locked or created beside it.
pub(crate) fn open_immutable(path: &Path) -> EngineResult<Connection> {
    use std::os::unix::ffi::OsStrExt;
    let mut url = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            url.push(char::from(*byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(&url, flags).map_err(|e| failed(path, "open", e))?;
    configure(&connection, path)?;
    Ok(connection)
}

fn configure(connection: &Connection, path: &Path) -> EngineResult<()> {
    let set = || {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // Waiting is ours, so that it can be cancelled.
        connection.busy_timeout(Duration::ZERO)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY")
    };
    set().map_err(|e| failed(path, "open", e))
}
