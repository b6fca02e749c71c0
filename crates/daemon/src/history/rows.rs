//! Runs as rows. Times are milliseconds since the epoch, enumerations are their words in JSON.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, Params, Result, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::run::{RunError, RunFacts, RunId, RunRecord, TaskKind};

const COLUMNS: &str = "id, database, kind, reason, attempt, due, started, ended, ending, error_kind, error, duration_ms, \
                       consecutive_failures, backup, logical_bytes, added_bytes, stored_bytes, damaged, warnings, target";

/// Writes one run, or replaces it.
pub(super) fn save(connection: &Connection, run: &RunRecord) -> Result<()> {
    let (error, facts) = (run.error.as_ref(), &run.facts);
    let sql = format!(
        "INSERT OR REPLACE INTO runs ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        run.id.0,
        run.database,
        word(&run.kind)?,
        word(&run.reason)?,
        run.attempt,
        run.due.as_millisecond(),
        run.started.as_millisecond(),
        run.ended.map(Timestamp::as_millisecond),
        run.ending.as_ref().map(word).transpose()?,
        error.map(|error| &error.kind),
        error.map(|error| &error.message),
        number(run.duration_ms),
        run.consecutive_failures,
        facts.backup,
        number(facts.logical_bytes),
        number(facts.added_bytes),
        number(facts.stored_bytes),
        number(Some(facts.damaged)),
        to_json(&facts.warnings)?,
        facts.target,
    ])?;
    Ok(())
}

/// The runs that `which` selects, but for those of a kind that only a newer copal knows.
pub(super) fn read(connection: &Connection, which: &str, values: impl Params) -> Result<Vec<RunRecord>> {
    let mut ask = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM runs {which}"))?;
    let found = ask.query_map(values, |row| if is_known(row)? { record(row).map(Some) } else { Ok(None) })?;
    found.filter_map(Result::transpose).collect()
}

/// Whether this program knows what the run did. A newer one may have written the history before this one was put in its place.
fn is_known(row: &Row<'_>) -> Result<bool> {
    let kind: String = row.get(2)?;
    let is_known = serde_json::from_value::<TaskKind>(serde_json::Value::String(kind.clone())).is_ok();
    if !is_known {
        let id: i64 = row.get(0)?;
        tracing::debug!(run = id, kind, "a run of a kind that this copal does not know");
    }
    Ok(is_known)
}

fn record(row: &Row<'_>) -> Result<RunRecord> {
    let bytes = |index| row.get::<_, Option<i64>>(index).map(|number| number.map(i64::cast_unsigned));
    let error = match (row.get(9)?, row.get(10)?) {
        (Some(kind), Some(message)) => Some(RunError { kind, message }),
        _ => None,
    };
    Ok(RunRecord {
        id: RunId(row.get(0)?),
        database: row.get(1)?,
        kind: from_word(row, 2)?,
        reason: from_word(row, 3)?,
        attempt: row.get(4)?,
        due: time(row, 5)?,
        started: time(row, 6)?,
        ended: if row.get::<_, Option<i64>>(7)?.is_some() { Some(time(row, 7)?) } else { None },
        ending: if row.get::<_, Option<String>>(8)?.is_some() { Some(from_word(row, 8)?) } else { None },
        error,
        duration_ms: bytes(11)?,
        consecutive_failures: row.get(12)?,
        facts: RunFacts {
            backup: row.get(13)?,
            logical_bytes: bytes(14)?,
            added_bytes: bytes(15)?,
            stored_bytes: bytes(16)?,
            damaged: bytes(17)?.unwrap_or_default(),
            warnings: json(row, 18)?,
            target: row.get(19)?,
            checks: Vec::new(),
        },
    })
}

fn number(number: Option<u64>) -> Option<i64> {
    number.map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn time(row: &Row<'_>, index: usize) -> Result<Timestamp> {
    Timestamp::from_millisecond(row.get(index)?)
        .map_err(|error| Error::FromSqlConversionFailure(index, Type::Integer, error.into()))
}

/// The word of an enumeration.
pub(super) fn word(value: &impl Serialize) -> Result<String> {
    Ok(to_json(value)?.trim_matches('"').to_owned())
}

pub(super) fn from_word<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T> {
    let word = serde_json::Value::String(row.get(index)?);
    serde_json::from_value(word).map_err(|error| Error::FromSqlConversionFailure(index, Type::Text, error.into()))
}

/// What stands in a column as JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text).map_err(|error| Error::FromSqlConversionFailure(index, Type::Text, error.into()))
}

/// The JSON of a value.
pub(super) fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}
