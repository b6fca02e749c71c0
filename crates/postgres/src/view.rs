//! One consistent view of a database that several programs share, and the proof that it is one.
//!
//! A snapshot alone is not enough: TRUNCATE and a rewriting ALTER TABLE that commit between the snapshot and the dump's own
//! locks leave a table empty in it, without an error. So everything is locked in one session *before* the snapshot is taken
//! in another; then the catalog as the snapshot shows it is compared with the locks that are really held, by oid. What is
//! in the one and not in the other came meanwhile: its locks are added, and a new snapshot is taken.

use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use serde::Deserialize;

use crate::address::Address;
use crate::programs::Installation;
use crate::relations::{self, Relation};
use crate::session::Session;

/// How often tables may appear or go while the view is opened.
const MOST_TRIES: u32 = 20;
/// Tables that are locked by one statement.
const AT_ONCE: usize = 200;

/// A view that stays until it is dropped.
pub(crate) struct View {
    /// Holds the locks.
    keeper: Session,
    /// Holds the snapshot, and reads in it.
    pub(crate) session: Session,
    /// The name by which others join it.
    pub(crate) snapshot: String,
    /// What is in it.
    pub(crate) relations: Vec<Relation>,
}

impl View {
    /// Opens a view in which everything can be read, and nothing is rewritten as long as it is open.
    pub(crate) fn open(
        programs: &Installation,
        address: &Address,
        lock_wait: Duration,
        context: &Context,
    ) -> EngineResult<Self> {
        let mut keeper = Session::open(programs, address, context)?;
        let mut session = Session::open(programs, address, context)?;
        keeper.run("BEGIN ISOLATION LEVEL READ COMMITTED")?;
        keeper.run(&format!("SET LOCAL lock_timeout = {}", lock_wait.as_millis().clamp(1, 2_000_000_000)))?;
        let place = format!("the database {:?} on {}", session.database, address.server());
        for _ in 0..MOST_TRIES {
            context.cancel.check()?;
            let wanted = relations::of(&mut keeper)?;
            relations::require_readable(&wanted, &place)?;
            if !lock(&mut keeper, &wanted)? {
                continue;
            }
            session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
            // The first of its statements takes the snapshot.
            let relations = relations::of(&mut session)?;
            if unlocked(&mut keeper, &relations)?.is_empty() {
                relations::require_readable(&relations, &place)?;
                #[derive(Deserialize)]
                struct Exported {
                    id: String,
                }
                let exported: Exported = session.row("SELECT pg_catalog.pg_export_snapshot() AS id")?;
                return Ok(Self { keeper, session, snapshot: exported.id, relations });
            }
            session.run("ROLLBACK")?;
        }
        let message = format!("{place}: tables come and go so fast that no consistent view could be opened");
        Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when no schema changes are under way"))
    }

    /// Another session in the same view.
    pub(crate) fn join(&self, programs: &Installation, address: &Address, context: &Context) -> EngineResult<Session> {
        let mut session = Session::open(programs, address, context)?;
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        session.run(&format!("SET TRANSACTION SNAPSHOT {}", crate::quote::literal(&self.snapshot)))?;
        Ok(session)
    }

    /// Proves once more that all locks are held, after everything was read: the session that holds them is still there, and
    /// so is the snapshot.
    pub(crate) fn close(mut self) -> EngineResult<()> {
        let missing = unlocked(&mut self.keeper, &self.relations)?;
        if let Some(first) = missing.first() {
            let message = format!("the lock of {} was lost while the database was dumped", first.name);
            return Err(EngineError::new(EngineErrorKind::Other, message).hint("try again"));
        }
        self.session.run("COMMIT")?;
        self.keeper.run("COMMIT")
    }
}

/// Locks the tables against being rewritten, dropped or truncated; false if one of them is gone.
fn lock(keeper: &mut Session, relations: &[Relation]) -> EngineResult<bool> {
    let names: Vec<_> = relations.iter().filter(|r| r.is_locked()).map(|r| format!("ONLY {}", r.name)).collect();
    for names in names.chunks(AT_ONCE) {
        keeper.run("SAVEPOINT locked")?;
        if let Err(refusal) = keeper.try_run(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")))? {
            match refusal.state.as_str() {
                // undefined_table, invalid_schema_name, wrong_object_type
                "42P01" | "3F000" | "42809" => {
                    keeper.run("ROLLBACK TO SAVEPOINT locked")?;
                    return Ok(false);
                }
                _ => return Err(keeper.refused(&refusal)),
            }
        }
    }
    Ok(true)
}

/// The relations that should be locked and are not.
fn unlocked<'a>(keeper: &mut Session, relations: &'a [Relation]) -> EngineResult<Vec<&'a Relation>> {
    #[derive(Deserialize)]
    struct Lock {
        oid: u32,
    }
    let held: Vec<Lock> = keeper.rows(
        "SELECT relation::bigint AS oid FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND granted \
         AND locktype = 'relation' AND mode = 'AccessShareLock' \
         AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
    )?;
    let held: std::collections::HashSet<u32> = held.into_iter().map(|lock| lock.oid).collect();
    Ok(relations.iter().filter(|relation| relation.is_locked() && !held.contains(&relation.oid)).collect())
}
