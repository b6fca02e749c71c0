//! The history of runs, in a small SQLite of the state folder.
//!
//! It is never the truth about backups: deleted, everything but the history is as before. So what cannot be used, because it is
//! damaged or a newer program wrote it, is set aside, and a new one begins. Old runs go after 90 days or when there are more than
//! 250,000; the newest run and the newest success of each database stay longer, since schedules go on from them.
//!
//! [`History`] blocks and is for one thread; [`Recorder`] puts it on one and survives a full disk.

mod brief;
mod logs;
mod recorder;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_notify::Told;
use jiff::{SignedDuration, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params, params_from_iter};

pub(crate) use brief::EndedRun;
pub use recorder::{HistoryStatus, Past, Recorder};

use crate::lock::create_private;
use crate::run::{Ending, RunId, RunRecord, TaskKind};

/// The name of the file.
pub const FILE_NAME: &str = "history.sqlite";

/// `user_version` of the file.
const SCHEMA: i64 = 1;
/// `application_id`: "copl".
const APPLICATION: i64 = 0x636f_706c;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
const KEEP_MOST: i64 = 250_000;
/// What is known of a database that has not run for so long is forgotten.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(800 * 24);

const TABLES: &str = "
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    database TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    due INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    ending TEXT,
    error_kind TEXT,
    error TEXT,
    duration_ms INTEGER,
    consecutive_failures INTEGER NOT NULL,
    backup TEXT,
    logical_bytes INTEGER,
    added_bytes INTEGER,
    stored_bytes INTEGER,
    damaged INTEGER NOT NULL,
    warnings TEXT NOT NULL,
    target TEXT
) STRICT;
CREATE INDEX runs_of_database ON runs (database, id);
CREATE INDEX runs_under_way ON runs (id) WHERE ending IS NULL;
CREATE TABLE lanes (
    database TEXT NOT NULL,
    kind TEXT NOT NULL,
    newest INTEGER NOT NULL,
    newest_success INTEGER,
    PRIMARY KEY (database, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE told (notifier TEXT PRIMARY KEY, told TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE changed (database TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// For questions that would read all runs without them. An older program keeps them up as well.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS runs_failed ON runs (id) WHERE ending IN ('transient-failure', 'permanent-failure');
CREATE INDEX IF NOT EXISTS runs_beside_backups ON runs (kind, id) WHERE kind <> 'backup';
";

/// Why the history could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the history of runs {}: {problem}", path.display())]
pub struct HistoryError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
    /// Whether the file itself is at fault, so that it can only be set aside.
    pub is_damage: bool,
}

/// Result of this module's calls.
pub(crate) type Result<T> = std::result::Result<T, HistoryError>;

/// The newest runs of one kind of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The newest run, whatever became of it.
    pub run: Option<RunRecord>,
    /// The newest successful one.
    pub success: Option<RunRecord>,
}

/// The newest runs of all databases, by name and kind.
pub type NewestRuns = BTreeMap<(String, TaskKind), Newest>;

/// Which runs to read, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this database only.
    pub database: Option<String>,
    /// Of this kind only.
    pub kind: Option<TaskKind>,
    /// Only those that failed by themselves, or only the others.
    pub failed: Option<bool>,
    /// Older than this one.
    pub before: Option<RunId>,
    /// At most so many; 0 means 100.
    pub most: u32,
}

/// The open file.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    connection: Connection,
}

/// A history that was opened, and what somebody should know about it.
#[derive(Debug)]
pub struct Opened {
    /// The history.
    pub history: History,
    /// What became of a file that could not be used.
    pub warning: Option<String>,
    /// Runs that were under way when the daemon was killed; closed now.
    pub interrupted: Vec<RunRecord>,
}

impl History {
    /// Opens or creates the history in the folder, for the only daemon that writes to it.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Opened> {
        Self::open_again(folder, now, RunId(i64::MAX))
    }

    /// The same after it could not be used for a while: runs from `own` on are this daemon's, and may be under way.
    fn open_again(folder: &Path, now: Timestamp, own: RunId) -> Result<Opened> {
        let path = folder.join(FILE_NAME);
        let failed = |problem: String| HistoryError { path: path.clone(), problem, is_damage: false };
        create_private(folder).map_err(|error| failed(error.to_string()))?;
        let (mut history, warning) = match Self::try_open(&path) {
            Ok(history) => (history, None),
            Err(error) if error.is_damage => {
                let aside = set_aside(&path).map_err(|error| failed(format!("it cannot be set aside: {error}")))?;
                let warning = format!("{error}; it is set aside as {}, and a new one begins", aside.display());
                tracing::warn!("{warning}");
                (Self::try_open(&path)?, Some(warning))
            }
            Err(error) => return Err(error),
        };
        let interrupted = history.close_interrupted(now, own)?;
        history.trim(now)?;
        Ok(Opened { history, warning, interrupted })
    }

    /// Opens an existing history to look into it, while a daemon may write to it.
    pub fn look(folder: &Path) -> Result<Self> {
        use rusqlite::OpenFlags;
        let path = folder.join(FILE_NAME);
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| problem(&path, &error))?;
        let history = Self { path, connection };
        history.check_version()?;
        Ok(history)
    }

    fn try_open(path: &Path) -> Result<Self> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            // A crash of the machine may cost the last runs, not the file.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            // In KiB: what is asked for is looked up, and the system keeps the file in memory anyway.
            connection.pragma_update(None, "cache_size", -256)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| problem(path, &error))?;
        let mut history = Self { path: path.to_owned(), connection };
        let tables = "SELECT count(*) FROM sqlite_schema";
        let is_new = history.ask(|connection| connection.query_row(tables, [], |row| row.get::<_, i64>(0)))? == 0;
        if is_new {
            history.ask(|connection| {
                let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                change.execute_batch(TABLES)?;
                change.pragma_update(None, "application_id", APPLICATION)?;
                change.pragma_update(None, "user_version", SCHEMA)?;
                change.commit()
            })?;
        }
        history.check_version()?;
        history.ask(|connection| {
            connection.execute_batch(logs::TABLES).and_then(|()| connection.execute_batch(INDEXES))
        })?;
        let check = "PRAGMA quick_check(1)";
        let found = history.ask(|connection| connection.query_row(check, [], |row| row.get::<_, String>(0)))?;
        if found != "ok" {
            return Err(history.unusable(format!("it is damaged ({found})")));
        }
        Ok(history)
    }

    fn check_version(&self) -> Result<()> {
        let pragma = |name| {
            let value = self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            value.map_err(|error| problem(&self.path, &error))
        };
        match (pragma("application_id")?, pragma("user_version")?) {
            (APPLICATION, SCHEMA) => Ok(()),
            (APPLICATION, version) => Err(self.unusable(format!("it is of version {version}, of a newer copal"))),
            _ => Err(self.unusable("it is another program's database".to_owned())),
        }
    }

    fn unusable(&self, problem: String) -> HistoryError {
        HistoryError { path: self.path.clone(), problem, is_damage: true }
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        ask(&mut self.connection).map_err(|error| problem(&self.path, &error))
    }

    /// Writes what is known of runs, in one transaction; what was known of the same runs is replaced.
    pub fn save<'a>(&mut self, records: impl IntoIterator<Item = &'a RunRecord>) -> Result<()> {
        self.ask(|connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for record in records {
                rows::save(&change, record)?;
                let success = (record.ending == Some(Ending::Success)).then_some(record.id.0);
                change.prepare_cached(
                    "INSERT INTO lanes (database, kind, newest, newest_success) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET newest = max(newest, excluded.newest),
                     newest_success = max(ifnull(newest_success, excluded.newest_success), ifnull(excluded.newest_success, newest_success))",
                )?
                .execute(params![record.database, rows::word(&record.kind)?, record.id.0, success])?;
            }
            change.commit()
        })
    }

    /// Runs, newest first.
    pub fn runs(&mut self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        let before = filter.before.map_or(i64::MAX, |id| id.0);
        let most = if filter.most == 0 { 100 } else { filter.most };
        let (mut which, mut values) = ("WHERE id < ?".to_owned(), vec![Value::from(before)]);
        if let Some(database) = &filter.database {
            which += " AND database = ?";
            values.push(database.clone().into());
        }
        if let Some(kind) = filter.kind {
            // In the words of the index, so that it is used.
            which += if kind == TaskKind::Backup { " AND kind = ?" } else { " AND kind = ? AND kind <> 'backup'" };
            let word = rows::word(&kind).map_err(|error| problem(&self.path, &error))?;
            values.push(word.into());
        }
        which += match filter.failed {
            Some(true) => " AND ending IN ('transient-failure', 'permanent-failure')",
            Some(false) => " AND ifnull(ending, '') NOT IN ('transient-failure', 'permanent-failure')",
            None => "",
        };
        which += " ORDER BY id DESC LIMIT ?";
        values.push(most.into());
        self.ask(|connection| rows::read(connection, &which, params_from_iter(values)))
    }

    /// The newest run and the newest success of every database and kind.
    pub fn newest(&mut self) -> Result<NewestRuns> {
        let (runs, successes) = self.ask(|connection| {
            let of = |column| format!("WHERE id IN (SELECT {column} FROM lanes WHERE {column} IS NOT NULL)");
            Ok((
                rows::read(connection, &of("newest"), params![])?,
                rows::read(connection, &of("newest_success"), params![])?,
            ))
        })?;
        let mut newest = NewestRuns::new();
        for run in runs {
            let lane = newest.entry((run.database.clone(), run.kind)).or_default();
            lane.run = Some(run);
        }
        for run in successes {
            let lane = newest.entry((run.database.clone(), run.kind)).or_default();
            lane.success = Some(run);
        }
        Ok(newest)
    }

    /// The number of the newest run.
    pub fn last_id(&mut self) -> Result<Option<RunId>> {
        self.ask(|connection| connection.query_row("SELECT max(id) FROM runs", [], |row| row.get::<_, Option<i64>>(0)))
            .map(|id| id.map(RunId))
    }

    /// What each notifier was told.
    pub fn told(&mut self) -> Result<BTreeMap<String, Told>> {
        self.ask(|connection| {
            let mut ask = connection.prepare("SELECT notifier, told FROM told")?;
            let found = ask.query_map([], |row| Ok((row.get(0)?, rows::json(row, 1)?)))?;
            found.collect()
        })
    }

    /// Keeps what a notifier was told; `None` forgets it.
    pub fn save_told(&mut self, notifier: &str, told: Option<&Told>) -> Result<()> {
        self.ask(|connection| {
            match told {
                Some(told) => connection.execute(
                    "INSERT INTO told VALUES (?1, ?2) ON CONFLICT DO UPDATE SET told = excluded.told",
                    params![notifier, rows::to_json(told)?],
                )?,
                None => connection.execute("DELETE FROM told WHERE notifier = ?1", [notifier])?,
            };
            Ok(())
        })
    }

    /// The changes that no backup has followed yet, by database.
    pub fn changed(&mut self) -> Result<BTreeMap<String, Timestamp>> {
        self.ask(|connection| {
            let mut ask = connection.prepare("SELECT database, since FROM changed")?;
            let found = ask.query_map([], |row| Ok((row.get(0)?, rows::time(row, 1)?)))?;
            found.collect()
        })
    }

    /// Keeps that a database has changed, or that a backup follows.
    pub fn save_changed(&mut self, database: &str, since: Option<Timestamp>) -> Result<()> {
        self.ask(|connection| {
            match since {
                Some(since) => connection.execute(
                    "INSERT INTO changed VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    params![database, since.as_millisecond()],
                )?,
                None => connection.execute("DELETE FROM changed WHERE database = ?1", [database])?,
            };
            Ok(())
        })
    }

    /// Closes the runs that nobody can be working on any more.
    fn close_interrupted(&mut self, now: Timestamp, own: RunId) -> Result<Vec<RunRecord>> {
        let mut runs =
            self.ask(|connection| rows::read(connection, "WHERE ending IS NULL AND id < ?1 ORDER BY id", [own.0]))?;
        for run in &mut runs {
            (run.ended, run.ending) = (Some(now), Some(Ending::Interrupted));
        }
        if !runs.is_empty() {
            self.save(&runs)?;
        }
        Ok(runs)
    }

    /// Forgets old runs; answers how many.
    pub fn trim(&mut self, now: Timestamp) -> Result<usize> {
        self.trim_to(now, KEEP_MOST)
    }

    fn trim_to(&mut self, now: Timestamp, most: i64) -> Result<usize> {
        let before = |age| now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
        self.ask(|connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute(
                "DELETE FROM lanes WHERE newest IN (SELECT id FROM runs WHERE started < ?1)",
                [before(FORGET_AFTER)],
            )?;
            let oldest = change
                .query_row("SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET ?1", [most], |row| row.get::<_, i64>(0))
                .optional()?;
            let gone = change.execute(
                "DELETE FROM runs WHERE (started < ?1 OR id <= ?2) AND ending IS NOT NULL
                 AND id NOT IN (SELECT newest FROM lanes)
                 AND id NOT IN (SELECT newest_success FROM lanes WHERE newest_success IS NOT NULL)",
                params![before(KEEP_FOR), oldest.unwrap_or(i64::MIN)],
            )?;
            logs::trim(&change)?;
            change.commit()?;
            Ok(gone)
        })
    }
}

/// The file under another name, which replaces what was set aside before.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = path.with_extension("unusable.sqlite");
    for suffix in ["-wal", "-shm"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        match fs::rename(beside(path), beside(&aside)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn problem(path: &Path, error: &rusqlite::Error) -> HistoryError {
    use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType, SqliteFailure};
    let is_damage = match error {
        SqliteFailure(failure, _) => matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase),
        // Only this program writes: what it cannot read was written by no version that it knows.
        FromSqlConversionFailure(..) | InvalidColumnType(..) => true,
        _ => false,
    };
    HistoryError { path: path.to_owned(), problem: error.to_string(), is_damage }
}
