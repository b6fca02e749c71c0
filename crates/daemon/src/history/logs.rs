//! What runs said, beside the runs themselves.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{History, Result, rows};
use crate::log::KeptLog;
use crate::run::RunId;

/// A program that does not know this table deletes runs as well, and the trigger is in the file. To save a run again is no deletion: such
/// triggers are not fired by REPLACE unless they are asked to be recursive.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS logs (run INTEGER PRIMARY KEY, log TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS logs_go_with_runs AFTER DELETE ON runs BEGIN DELETE FROM logs WHERE run = old.id; END;
";

/// Logs of so many runs are kept, the newest.
const MOST: i64 = 20_000;

/// Forgets the logs of older runs than are kept.
pub(super) fn trim(connection: &Connection) -> rusqlite::Result<()> {
    trim_to(connection, MOST)
}

fn trim_to(connection: &Connection, most: i64) -> rusqlite::Result<()> {
    let older = "DELETE FROM logs WHERE run <= (SELECT run FROM logs ORDER BY run DESC LIMIT 1 OFFSET ?1)";
    connection.execute(older, [most]).map(drop)
}

impl History {
    /// Writes what runs said, in one transaction.
    pub(crate) fn save_logs<'a>(&mut self, logs: impl IntoIterator<Item = (&'a RunId, &'a KeptLog)>) -> Result<()> {
        self.ask(|connection| {
            let change = connection.transaction()?;
            for (run, log) in logs {
                save(&change, *run, log)?;
            }
            change.commit()
        })
    }

    /// What a run said; nothing of one that was made by a program that kept no logs.
    pub(crate) fn log(&mut self, run: RunId) -> Result<KeptLog> {
        self.ask(|connection| {
            let mut ask = connection.prepare_cached("SELECT log FROM logs WHERE run = ?1")?;
            ask.query_row([run.0], |row| rows::json(row, 0)).optional().map(Option::unwrap_or_default)
        })
    }
}

fn save(connection: &Connection, run: RunId, log: &KeptLog) -> rusqlite::Result<()> {
    let mut save = connection.prepare_cached("INSERT OR REPLACE INTO logs VALUES (?1, ?2)")?;
    save.execute(params![run.0, rows::to_json(log)?]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_logs_are_kept() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE runs (id INTEGER PRIMARY KEY) STRICT").unwrap();
        connection.execute_batch(TABLES).unwrap();
        for run in [3, 5, 7, 11] {
            save(&connection, RunId(run), &KeptLog::default()).unwrap();
        }
        let kept = || connection.query_row("SELECT group_concat(run) FROM logs", [], |row| row.get::<_, String>(0));
        trim_to(&connection, 4).unwrap();
        assert_eq!(kept().unwrap(), "3,5,7,11");
        trim_to(&connection, 2).unwrap();
        assert_eq!(kept().unwrap(), "7,11");
    }
}
