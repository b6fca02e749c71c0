//! Sessions that hold what a rewind needs: a transaction that was left open keeps the definitions of its tables.

use copal_core::{EngineError, EngineErrorKind, EngineResult};

use crate::failure::Refusal;
use crate::quote::literal;
use crate::session::Session;

/// Seconds until those that hold a lock are ended.
const SHORT: u32 = 2;
const ATTEMPTS: u32 = 5;

/// Runs a statement that changes definitions in a database; who keeps it from that is ended after a short wait, and named.
pub(crate) fn insist(
    session: &mut Session,
    database: &str,
    statement: &str,
    notes: &mut Vec<String>,
) -> EngineResult<()> {
    try_to_insist(session, database, statement, notes)?.map_err(|refusal| match refusal.is_lock() {
        true => {
            let message = format!("the database {database:?}: its tables are locked by other sessions");
            EngineError::new(EngineErrorKind::Busy, message)
                .hint("end their transactions (SHOW PROCESSLIST), or let Copal do so: GRANT PROCESS, CONNECTION ADMIN ON *.*")
                .because(refusal.message)
        }
        false => session.refused(&refusal),
    })
}

/// The same, but the caller looks at a refusal.
pub(crate) fn try_to_insist(
    session: &mut Session,
    database: &str,
    statement: &str,
    notes: &mut Vec<String>,
) -> EngineResult<Result<(), Refusal>> {
    session.wait_for_locks(SHORT)?;
    let mut done = session.try_run(statement)?;
    for attempt in 0..ATTEMPTS {
        if !done.as_ref().is_err_and(Refusal::is_lock) {
            break;
        }
        for (id, who) in holders(session, database, attempt >= 2)? {
            if session.try_run(&format!("KILL {id}"))?.is_ok() {
                notes.push(format!("ended session {id} of {who}, which held locks in the database {database:?}"));
            }
        }
        done = session.try_run(statement)?;
    }
    session.wait_for_locks(30)?;
    Ok(done)
}

/// Sessions that hold definitions in a database, by the best that the server can tell: the locks themselves, else open
/// transactions, and at last whoever idles in the database.
fn holders(session: &mut Session, database: &str, is_last_resort: bool) -> EngineResult<Vec<(String, String)>> {
    let this = literal(database);
    let who = "concat(p.user, '@', p.host)";
    let mut queries = vec![
        format!(
            "SELECT DISTINCT t.processlist_id, concat(t.processlist_user, '@', t.processlist_host) \
             FROM performance_schema.metadata_locks m JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id \
             WHERE m.object_type = 'TABLE' AND m.object_schema = {this} AND m.lock_status = 'GRANTED' \
             AND t.processlist_id <> connection_id()"
        ),
        format!(
            "SELECT DISTINCT p.id, {who} FROM information_schema.metadata_lock_info m \
             JOIN information_schema.processlist p ON p.id = m.thread_id \
             WHERE m.table_schema = {this} AND p.id <> connection_id()"
        ),
        format!(
            "SELECT p.id, {who} FROM information_schema.innodb_trx x \
             JOIN information_schema.processlist p ON p.id = x.trx_mysql_thread_id \
             WHERE p.db = {this} AND p.id <> connection_id()"
        ),
    ];
    if is_last_resort {
        queries.push(format!(
            "SELECT p.id, {who} FROM information_schema.processlist p WHERE p.db = {this} AND p.command = 'Sleep' \
             AND p.id <> connection_id()"
        ));
    }
    for query in queries {
        // A server knows some of these, and a user may see some.
        let rows = session.ask(&query)?.unwrap_or_default();
        if !rows.is_empty() {
            let pair = |row: Vec<Option<String>>| {
                let mut cells = row.into_iter().flatten();
                Some((cells.next()?, cells.next().unwrap_or_default()))
            };
            return Ok(rows.into_iter().filter_map(pair).collect());
        }
    }
    Ok(Vec::new())
}
