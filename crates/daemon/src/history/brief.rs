//! Backup runs of one database that are over, in brief: for plots, calendars and strips.

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::{History, Result, rows};
use crate::run::{Ending, RunId, TaskKind};
use crate::strips::{self, StripRun};

/// A backup run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedRun {
    pub(crate) started: Timestamp,
    pub(crate) ending: Ending,
    /// The backup that it made.
    pub(crate) backup: Option<String>,
    pub(crate) duration_ms: Option<u64>,
}

impl History {
    /// The newest backup runs of a database that are over and started no earlier than `since`, newest first.
    pub(crate) fn ended(&mut self, database: &str, since: Timestamp, most: u32) -> Result<Vec<EndedRun>> {
        self.ask(|connection| {
            let mut ask = connection.prepare_cached(
                "SELECT started, ending, duration_ms, backup FROM runs
                 WHERE database = ?1 AND started >= ?2 AND kind = 'backup' AND ending IS NOT NULL ORDER BY id DESC LIMIT ?3",
            )?;
            let ended = |row: &Row<'_>| {
                Ok(EndedRun {
                    started: rows::time(row, 0)?,
                    ending: rows::from_word(row, 1)?,
                    duration_ms: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
                    backup: row.get(3)?,
                })
            };
            ask.query_map(params![database, since.as_millisecond(), most], ended)?.collect()
        })
    }

    /// The databases that have backup runs.
    pub(super) fn backed_up(&mut self) -> Result<Vec<String>> {
        self.ask(|connection| {
            let mut ask = connection.prepare("SELECT database FROM lanes WHERE kind = 'backup'")?;
            let names = ask.query_map([], |row| row.get(0))?;
            names.collect()
        })
    }

    /// The newest backup runs of a database that are over, as strips have them.
    pub(super) fn strip(&mut self, database: &str) -> Result<Vec<StripRun>> {
        self.ask(|connection| {
            let mut ask = connection.prepare_cached(
                "SELECT id, started, ending, duration_ms FROM runs
                 WHERE database = ?1 AND kind = 'backup' AND ending IS NOT NULL ORDER BY id DESC LIMIT ?2",
            )?;
            let run = |row: &Row<'_>| {
                Ok(StripRun {
                    run: RunId(row.get(0)?),
                    kind: TaskKind::Backup,
                    started: rows::time(row, 1)?,
                    ending: rows::from_word(row, 2)?,
                    duration_ms: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                })
            };
            ask.query_map(params![database, strips::MOST as i64], run)?.collect()
        })
    }
}
