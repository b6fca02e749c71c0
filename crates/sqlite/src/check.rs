//! SQLite's own checks of a database.

use copal_core::{CheckLevel, CheckReport};
use rusqlite::Connection;

use crate::failure::{code_of, is_damage};

/// Problems that are listed at most, for each check.
const LISTED: usize = 100;

/// Runs the checks of `level`. A database that SQLite finds damaged is a report; other errors are errors.
pub(crate) fn run(connection: &Connection, level: CheckLevel) -> rusqlite::Result<CheckReport> {
    let mut report = CheckReport::default();
    match level {
        CheckLevel::None => {}
        CheckLevel::Quick => texts(connection, "quick_check", &mut report)?,
        CheckLevel::Full => {
            texts(connection, "integrity_check", &mut report)?;
            foreign_keys(connection, &mut report)?;
        }
    }
    Ok(report)
}

fn texts(connection: &Connection, pragma: &str, report: &mut CheckReport) -> rusqlite::Result<()> {
    report.ran.push(pragma.to_owned());
    let found = connection
        .prepare(&format!("PRAGMA {pragma}({LISTED})"))
        .and_then(|mut s| s.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>());
    match found {
        Ok(lines) => report.problems.extend(lines.into_iter().filter(|line| line != "ok")),
        Err(error) if is_damage(code_of(&error)) => report.problems.push(format!("{pragma}: {error}")),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn foreign_keys(connection: &Connection, report: &mut CheckReport) -> rusqlite::Result<()> {
    report.ran.push("foreign_key_check".to_owned());
    let found = (|| {
        let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let (table, id, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let which = id.map_or_else(|| "a row".to_owned(), |id| format!("row {id}"));
            lines.push(format!("{which} of table {table} refers to nothing in table {parent}"));
            if lines.len() == LISTED {
                break;
            }
        }
        Ok::<_, rusqlite::Error>(lines)
    })();
    match found {
        Ok(lines) => report.problems.extend(lines),
        // Damage, or a reference that the schema itself gets wrong ("foreign key mismatch").
        Err(error) if is_damage(code_of(&error)) || code_of(&error) & 0xff == rusqlite::ffi::SQLITE_ERROR => {
            report.problems.push(format!("foreign_key_check: {error}"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
