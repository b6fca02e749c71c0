//! Copies of tables within the server.
//!
//! A database is copied by one function with an `INSERT … SELECT` for each table. The statement that calls it locks the
//! definitions of all tables first and reads all of them in one view, so the copy is one moment of the database whatever its
//! clients write meanwhile, and they need not wait. (Statements one by one would not do: in a transaction, `INSERT … SELECT`
//! reads with locks, or each in a view of its own.) Where functions may not be made, tables are locked for the time.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use copal_core::{EngineError, EngineErrorKind, EngineResult};

use crate::address::Address;
use crate::catalogue::{Schema, Table};
use crate::failure::Refusal;
use crate::quote::{identifier, literal, table};
use crate::session::Session;

/// Connections that copy at the same time what nobody changes.
const WORKERS: usize = 4;
const FUNCTION: &str = "copal_copy";

/// What the copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It stays beside the database: it has no foreign keys, in which others could get caught, and outlives the server's memory.
    Keep,
    /// It becomes the database; foreign keys to other databases come when it does.
    Replace,
}

/// Makes empty tables like those of a database, in this schema.
pub(crate) fn make_tables(session: &mut Session, schema: &Schema, to: &str, purpose: Purpose) -> EngineResult<()> {
    session.run(&format!("USE {}", identifier(to)))?;
    // Sequences first: columns may have them as default.
    for found in schema.tables.iter().filter(|table| table.is_sequence) {
        session.run(&found.create)?;
    }
    for found in schema.tables.iter().filter(|table| !table.is_sequence) {
        let is_kept = purpose == Purpose::Replace;
        let text = found.definition()?.with_foreign_keys(|key| is_kept && !key.is_outward);
        session.try_run(&text)?.map_err(|refusal| match refusal.is_absence() && text.contains("nextval(") {
            // Its default names the sequence with its database, so only there can it be.
            true => {
                let message = format!("table {:?} draws its default from a sequence that is not there", found.name);
                let sequences = schema.tables.iter().filter(|table| table.is_sequence);
                let texts: Vec<_> = sequences.map(|sequence| sequence.create.clone()).collect();
                EngineError::new(EngineErrorKind::Unsupported, message)
                    .hint(format!("nothing was changed; make it in the database first: {}", texts.join("; ")))
                    .because(refusal.message)
            }
            false => session.refused(&refusal),
        })?;
        if purpose == Purpose::Keep && found.engine.eq_ignore_ascii_case("MEMORY") {
            session.run(&format!("ALTER TABLE {} ENGINE=InnoDB", identifier(&found.name)))?;
        }
    }
    Ok(())
}

fn fill(found: &Table, from: &str, to: &str) -> String {
    let columns: Vec<_> = found.columns.iter().map(|name| identifier(name)).collect();
    let columns = columns.join(", ");
    let history = if found.is_versioned { " FOR SYSTEM_TIME ALL" } else { "" };
    let (from, to) = (table(from, &found.name), table(to, &found.name));
    format!("INSERT INTO {to} ({columns}) SELECT {columns} FROM {from}{history}")
}

/// Copies all rows of a database that is in use, in a transaction that holds all definitions still and is left open. Says how.
pub(crate) fn fill_in_one_view(
    session: &mut Session,
    schema: &Schema,
    from: &str,
    to: &str,
) -> EngineResult<Result<&'static str, Refusal>> {
    let statements: Vec<_> =
        schema.tables.iter().filter(|table| !table.is_sequence).map(|table| fill(table, from, to)).collect();
    session.run(&format!("USE {}", identifier(to)))?;
    if statements.is_empty() {
        return Ok(Ok("insert select"));
    }
    let function = table(to, FUNCTION);
    let made = session.try_run(&format!(
        "CREATE FUNCTION {function}() RETURNS INT DETERMINISTIC MODIFIES SQL DATA SQL SECURITY INVOKER \
         BEGIN {}; RETURN 0; END",
        statements.join("; ")
    ))?;
    match made {
        Ok(()) => {
            session.run("START TRANSACTION")?;
            Ok(session.ask(&format!("SELECT {function}()"))?.map(|_| "insert select"))
        }
        Err(refusal) if refusal.is_about_functions() => {
            let locks: Vec<_> = schema
                .tables
                .iter()
                .filter(|found| !found.is_sequence)
                .map(|found| format!("{} READ, {} WRITE", table(from, &found.name), table(to, &found.name)))
                .collect();
            if let Err(refusal) = session.try_run(&format!("LOCK TABLES {}", locks.join(", ")))? {
                return Ok(Err(refusal));
            }
            for statement in &statements {
                if let Err(refusal) = session.try_run(statement)? {
                    return Ok(Err(refusal));
                }
            }
            Ok(Ok("locked tables"))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Ends what `fill_in_one_view` left open.
pub(crate) fn end_view(session: &mut Session, to: &str) -> EngineResult<()> {
    session.run("COMMIT")?;
    session.run("UNLOCK TABLES")?;
    session.run(&format!("DROP FUNCTION IF EXISTS {}", table(to, FUNCTION)))
}

/// Copies all rows of a schema that nobody changes.
pub(crate) fn fill_from_rest(
    session: &Session,
    address: &Address,
    schema: &Schema,
    from: &str,
    to: &str,
) -> EngineResult<()> {
    let statements: Vec<_> =
        schema.tables.iter().filter(|table| !table.is_sequence).map(|table| fill(table, from, to)).collect();
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let mut workers = Vec::new();
    for _ in 0..WORKERS.min(statements.len()) {
        let mut worker = session.another(address)?;
        // So that the next process can see what a killed one has left running.
        worker.run(&format!("USE {}", identifier(to)))?;
        workers.push(worker);
    }
    std::thread::scope(|scope| {
        for mut worker in workers {
            let (next, failure, statements) = (&next, &failure, &statements);
            scope.spawn(move || {
                while let Some(statement) = statements.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = worker.run(statement) {
                        next.store(statements.len(), Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Sets the sequences to where those of another schema are: a view does not hold them still, so this may be a little ahead.
pub(crate) fn set_sequences(session: &mut Session, schema: &Schema, from: &str, to: &str) -> EngineResult<()> {
    for found in schema.tables.iter().filter(|table| table.is_sequence) {
        let from = table(from, &found.name);
        let rows = session.rows(&format!("SELECT next_not_cached_value, cycle_count FROM {from}"))?;
        if let Some([Some(next), Some(round)]) = rows.first().map(Vec::as_slice) {
            session.run(&format!("SELECT SETVAL({}, {next}, 0, {round})", table(to, &found.name)))?;
        }
    }
    Ok(())
}

/// Has the server look at what it has copied: else it takes the tables for empty for some seconds, in plans and in sizes.
pub(crate) fn analyze(session: &mut Session, schema: &Schema, to: &str) -> EngineResult<()> {
    let names: Vec<_> =
        schema.tables.iter().filter(|found| !found.is_sequence).map(|found| table(to, &found.name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    session.run(&format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", names.join(", ")))
}

/// The bytes of data and indexes in a schema, as the server estimates them.
pub(crate) fn bytes(session: &mut Session, schema: &str) -> EngineResult<Option<u64>> {
    session.number(&format!(
        "SELECT cast(coalesce(sum(data_length + index_length), 0) AS unsigned) FROM information_schema.tables \
         WHERE table_schema = {}",
        literal(schema)
    ))
}
