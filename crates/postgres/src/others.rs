//! Sessions of others that are in the way of a statement which wants a database for itself: who they are, and their end.
//!
//! Such a statement (CREATE DATABASE with a template, ALTER DATABASE RENAME) first takes a lock on which new connections wait,
//! and then waits up to five seconds for those that are there. They are ended from a second session once that lock is held,
//! so that nobody is ended twice for one statement.

use std::collections::{BTreeMap, BTreeSet};

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use serde::Deserialize;

use crate::quote::{identifier, literal};
use crate::session::Session;

/// How many are named in a remark.
const MOST_NAMED: usize = 8;

/// The sessions that were ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    found: BTreeMap<u32, String>,
    /// Our own, which are not told.
    pub(crate) ours: BTreeSet<u32>,
}

impl Ended {
    /// A remark for the user.
    pub(crate) fn note(&self, database: &str) -> Option<String> {
        let who: Vec<&str> = self.found.values().map(String::as_str).collect();
        let sessions = if who.len() == 1 { "session" } else { "sessions" };
        (!who.is_empty()).then(|| format!("ended {} {sessions} of {database:?}: {}", who.len(), listed(&who)))
    }
}

#[derive(Deserialize)]
struct Other {
    pid: u32,
    role: Option<String>,
    host: Option<String>,
    program: Option<String>,
    may_end: bool,
}

impl Other {
    fn told(&self) -> String {
        let role = self.role.as_deref().unwrap_or("a process of the server");
        let host = self.host.as_ref().map(|host| format!("@{host}")).unwrap_or_default();
        let program = self.program.as_deref().filter(|program| !program.is_empty());
        format!("{role}{host}{}", program.map(|program| format!(" ({program})")).unwrap_or_default())
    }
}

/// Ends those in a database for which the session of process `holder` holds the lock already.
pub(crate) fn end(second: &mut Session, database: &str, holder: u32, ended: &mut Ended) {
    let locked = format!(
        " AND EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = {holder} AND l.locktype = 'object' AND l.granted \
         AND l.mode IN ('ShareLock', 'AccessExclusiveLock') AND l.classid = 'pg_catalog.pg_database'::regclass AND l.objid = a.datid)"
    );
    let ending = "CASE WHEN may_end THEN pg_catalog.pg_terminate_backend(pid) END AS is_ended";
    let query = format!("SELECT *, {ending} FROM ({}) AS other", query(database, &locked));
    // What keeps the second session from it is said by the statement that waits, which then fails.
    if let Ok(Ok(found)) = second.try_rows::<Other>(&query) {
        for other in found.iter().filter(|other| other.may_end && !ended.ours.contains(&other.pid)) {
            ended.found.entry(other.pid).or_insert_with(|| other.told());
        }
    }
}

/// Refuses if there are some that this role may not end.
pub(crate) fn require_endable(server: &mut Session, database: &str, shown: &str) -> EngineResult<()> {
    let found: Vec<Other> = server.rows(&query(database, ""))?;
    let others: Vec<String> = found.iter().filter(|other| !other.may_end).map(Other::told).collect();
    if others.is_empty() {
        return Ok(());
    }
    #[derive(Deserialize)]
    struct Me {
        role: String,
    }
    let me: Me = server.row("SELECT current_user::text AS role")?;
    let told = listed(&others.iter().map(String::as_str).collect::<Vec<_>>());
    let message = format!("{shown}: the role {:?} may not end the sessions that are in it: {told}", me.role);
    let hint =
        format!("end them, or GRANT pg_signal_backend TO {}; a superuser's need a superuser", identifier(&me.role));
    Err(EngineError::new(EngineErrorKind::PermissionDenied, message).hint(hint))
}

/// Those in a database, but for workers that the server ends itself. Of a stranger's session not everything may be seen.
fn query(database: &str, more: &str) -> String {
    format!(
        "SELECT a.pid, a.usename AS role, pg_catalog.host(a.client_addr) AS host, a.application_name AS program, \
           coalesce((SELECT me.rolsuper OR NOT r.rolsuper AND (pg_catalog.pg_has_role(r.oid, 'USAGE') \
               OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')) \
             FROM pg_catalog.pg_roles me LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid \
             WHERE me.rolname = current_user), false) AS may_end \
         FROM pg_catalog.pg_stat_activity a WHERE a.datname = {} AND a.pid <> pg_catalog.pg_backend_pid() \
           AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker'){more}",
        literal(database)
    )
}

fn listed(who: &[&str]) -> String {
    let named = who.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
    match who.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
