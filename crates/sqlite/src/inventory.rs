//! What a database contains, counted in one view of it.

use std::collections::BTreeMap;

use copal_core::{Context, EngineResult, Inventory, TableCount};
use rusqlite::types::ValueRef;

use crate::database::{Database, View};
use crate::failure::{code_of, failed, is_busy, is_damage};
use crate::header::{HEADER_BYTES, Header};

/// Up to this size a count walks the tables themselves, which finds damage in their trees and costs 0.15 s for 1 GiB in
/// the page cache. Larger databases may not fit there, so SQLite counts along each table's smallest index.
const WALKED_WHOLE: u64 = 4 << 30;

/// Counts everything in the view that is open.
pub(crate) fn take(database: &Database, view: &View, context: &Context) -> EngineResult<Inventory> {
    let number = |pragma: &str| database.number(pragma).map(|n| n.to_string());
    let facts = BTreeMap::from([
        ("application_id".to_owned(), number("PRAGMA application_id")?),
        ("auto_vacuum".to_owned(), number("PRAGMA auto_vacuum")?),
        ("encoding".to_owned(), database.text("PRAGMA encoding")?),
        ("journal_mode".to_owned(), journal_mode(database)?.to_owned()),
        ("page_count".to_owned(), view.pages.to_string()),
        ("page_size".to_owned(), view.page_size.to_string()),
        ("schema_digest".to_owned(), schema_digest(database)?),
        ("user_version".to_owned(), number("PRAGMA user_version")?),
    ]);
    Ok(Inventory { facts, tables: tables(database, view, context)?, ..Inventory::default() })
}

/// The inventory of an empty file, which SQLite takes for a database without tables.
pub(crate) fn of_empty_file() -> Inventory {
    let facts = [
        ("application_id", "0"),
        ("auto_vacuum", "0"),
        ("encoding", "UTF-8"),
        ("journal_mode", "delete"),
        ("page_count", "0"),
        ("page_size", "4096"),
        ("user_version", "0"),
    ];
    let mut facts: BTreeMap<_, _> = facts.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    facts.insert("schema_digest".to_owned(), blake3::Hasher::new().finalize().to_hex().to_string());
    Inventory { facts, ..Inventory::default() }
}

/// `wal` or `delete`, as the file's header asks for: what a connection uses is not a property of the database.
fn journal_mode(database: &Database) -> EngineResult<&'static str> {
    let mut header = [0; HEADER_BYTES];
    let fail = |e| crate::failure::file_failed(&database.place.path, "read", e);
    database.handles().read_main(0, &mut header).map_err(fail)?;
    Ok(if Header::parse(&header).is_some_and(|h| h.wal) { "wal" } else { "delete" })
}

/// BLAKE3 over all rows of `sqlite_schema` in order; each value is preceded by its type and length.
fn schema_digest(database: &Database) -> EngineResult<String> {
    let fail = |e| failed(&database.place.path, "read the schema of", e);
    let sql = "SELECT type, name, tbl_name, rootpage, sql FROM main.sqlite_schema ORDER BY rowid";
    let mut statement = database.connection.prepare(sql).map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    let mut digest = blake3::Hasher::new();
    while let Some(row) = rows.next().map_err(fail)? {
        for column in 0..5 {
            let (kind, bytes) = match row.get_ref(column).map_err(fail)? {
                ValueRef::Null => (0_u8, Vec::new()),
                ValueRef::Integer(n) => (1, n.to_le_bytes().to_vec()),
                ValueRef::Real(n) => (2, n.to_le_bytes().to_vec()),
                ValueRef::Text(text) => (3, text.to_vec()),
                ValueRef::Blob(bytes) => (4, bytes.to_vec()),
            };
            digest.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        }
    }
    Ok(digest.finalize().to_hex().to_string())
}

/// Tables in the order of their names. Virtual ones are named without rows: to count them would run their modules,
/// which may be missing; what they store lies in shadow tables, which are counted.
fn tables(database: &Database, view: &View, context: &Context) -> EngineResult<Vec<TableCount>> {
    let fail = |e| failed(&database.place.path, "read the schema of", e);
    let sql = "SELECT name, rootpage FROM main.sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut statement = database.connection.prepare(sql).map_err(fail)?;
    let listed = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(fail)?;
    let mut tables = Vec::with_capacity(listed.len());
    // A smallest index may need a collation that SQLite does not know; then the other way may do.
    let ways = if view.bytes() <= WALKED_WHOLE { [" NOT INDEXED", ""] } else { ["", " NOT INDEXED"] };
    for (name, root) in listed {
        let rows = if root.unwrap_or(0) == 0 { None } else { rows(database, &name, ways)? };
        context.cancel.check()?;
        tables.push(TableCount { name, rows });
    }
    Ok(tables)
}

/// The number of rows of a table; `None` if SQLite lacks something to count them, such as a program's own collation.
fn rows(database: &Database, table: &str, ways: [&str; 2]) -> EngineResult<Option<u64>> {
    let quoted = table.replace('"', "\"\"");
    for way in ways {
        let sql = format!("SELECT count(*) FROM main.\"{quoted}\"{way}");
        match database.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)) {
            Ok(rows) => return Ok(u64::try_from(rows).ok()),
            Err(error) => {
                let code = code_of(&error);
                let lacking = code & 0xff == rusqlite::ffi::SQLITE_ERROR;
                if is_damage(code) || is_busy(code) || !lacking {
                    let doing = format!("count the rows of table \"{table}\" in");
                    return Err(failed(&database.place.path, &doing, error));
                }
                tracing::debug!(table, %error, "a table cannot be counted this way");
            }
        }
    }
    Ok(None)
}
