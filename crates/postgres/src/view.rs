//! One consistent view of a database that several programs share, and the proof that a dump saw all of it.
//!
//! A snapshot alone is not enough: TRUNCATE and a rewriting ALTER TABLE that commit between the snapshot and the dump's own
//! locks leave a table empty in it, without an error. So while `pg_dump` runs, another session waits until it holds a lock
//! on every table, and then compares the files in which the tables are stored with those of the snapshot: a rewritten table
//! has a new one. As the dump keeps its locks to its end, one comparison proves all of it.
//!
//! No lock is taken in advance to keep others from rewriting: a TRUNCATE that waits for such a lock would make the dump wait
//! behind it, and both for ever.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use copal_core::{Context, EngineResult};
use serde::Deserialize;

use crate::address::Address;
use crate::programs::Installation;
use crate::quote::literal;
use crate::relations::{self, Relation};
use crate::session::Session;

/// How long the proof rests between two looks, at first and later.
const LOOK: Duration = Duration::from_millis(5);
const LATER_LOOK: Duration = Duration::from_millis(50);

/// A view that stays until it is dropped.
pub(crate) struct View {
    /// Holds the snapshot, and reads the catalog in it.
    pub(crate) session: Session,
    pub(crate) seen: Seen,
}

/// What a view shows, and how it is found by others.
pub(crate) struct Seen {
    /// The name by which others join it.
    pub(crate) snapshot: String,
    /// What is in it.
    pub(crate) relations: Vec<Relation>,
    /// What the dump's connections are called, so that the proof finds them.
    pub(crate) mark: String,
}

/// What the proof came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was rewritten before the dump had locked it.
    Proven,
    /// This table was: the dump may have found it empty.
    Rewritten(String),
}

impl View {
    /// Opens a view in which everything can be read.
    pub(crate) fn open(
        programs: &Installation,
        address: &Address,
        lock_wait: Duration,
        context: &Context,
    ) -> EngineResult<Self> {
        let mut session = Session::open(programs, address, context)?;
        session.run(&format!("SET lock_timeout = {}", milliseconds(lock_wait)))?;
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        // The first of its statements takes the snapshot.
        let relations = relations::of(&mut session)?;
        relations::require_readable(
            &relations,
            &format!("the database {:?} on {}", session.database, address.server()),
        )?;
        #[derive(Deserialize)]
        struct Exported {
            id: String,
        }
        let exported: Exported = session.row("SELECT pg_catalog.pg_export_snapshot() AS id")?;
        let mark = format!("copal_{:016x}", rand::random::<u64>());
        Ok(Self { session, seen: Seen { snapshot: exported.id, relations, mark } })
    }
}

impl Seen {
    /// Another session in the same view.
    pub(crate) fn join(&self, programs: &Installation, address: &Address, context: &Context) -> EngineResult<Session> {
        let mut session = Session::open(programs, address, context)?;
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        session.run(&format!("SET TRANSACTION SNAPSHOT {}", literal(&self.snapshot)))?;
        Ok(session)
    }

    /// Waits until the dump holds all its locks or `has_ended`, and compares. A dump that is worth nothing is ended.
    pub(crate) fn prove(
        &self,
        monitor: &mut Session,
        has_ended: &AtomicBool,
        context: &Context,
    ) -> EngineResult<Verdict> {
        #[derive(Deserialize)]
        struct Lock {
            oid: u32,
        }
        let held = format!(
            "SELECT l.relation::bigint AS oid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) \
             WHERE a.application_name = {} AND l.granted AND l.locktype = 'relation' AND l.mode = 'AccessShareLock' \
             AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
            literal(&self.mark)
        );
        let begun = Instant::now();
        loop {
            context.cancel.check()?;
            // First: what is locked after this look counts in the next one.
            let ended = has_ended.load(Ordering::SeqCst);
            let held: HashSet<u32> = monitor.rows::<Lock>(&held)?.into_iter().map(|lock| lock.oid).collect();
            if ended || self.relations.iter().all(|relation| !relation.is_locked() || held.contains(&relation.oid)) {
                break;
            }
            std::thread::sleep(if begun.elapsed() < Duration::from_secs(2) { LOOK } else { LATER_LOOK });
        }
        let verdict = self.compare(monitor, |relation| relation.is_locked())?;
        if verdict != Verdict::Proven {
            #[derive(Deserialize)]
            struct Ended {}
            let end = "SELECT count(pg_catalog.pg_terminate_backend(pid)) AS ended FROM pg_catalog.pg_stat_activity WHERE application_name = ";
            let _: Vec<Ended> = monitor.rows(&format!("{end}{}", literal(&self.mark)))?;
        }
        Ok(verdict)
    }

    /// The same for what a dump does not lock at its beginning; to be called when it has ended.
    pub(crate) fn prove_rest(&self, monitor: &mut Session) -> EngineResult<Verdict> {
        self.compare(monitor, |relation| relation.kind == 'r' && !relation.is_locked())
    }

    /// Compares the files of tables now with those in the view.
    fn compare(&self, monitor: &mut Session, which: impl Fn(&Relation) -> bool) -> EngineResult<Verdict> {
        #[derive(Deserialize)]
        struct Node {
            oid: u32,
            file: Option<u32>,
        }
        let tables: Vec<&Relation> = self.relations.iter().filter(|relation| which(relation)).collect();
        let oids: Vec<String> = tables.iter().map(|relation| relation.oid.to_string()).collect();
        // What the catalog says now, whatever the monitor's own snapshot; none of it waits for a lock.
        let found: Vec<Node> = monitor.rows(&format!(
            "SELECT c.oid::bigint AS oid, pg_catalog.pg_relation_filenode(c.oid)::bigint AS file \
             FROM pg_catalog.unnest('{{{}}}'::oid[]) AS c(oid)",
            oids.join(",")
        ))?;
        let found: HashMap<u32, Option<u32>> = found.into_iter().map(|node| (node.oid, node.file)).collect();
        let is_same = |relation: &&&Relation| {
            let now = found.get(&relation.oid).copied().flatten();
            // A partitioned table has no file, nor has one that is dropped; the dump fails at the latter by itself.
            relation.kind == 'p' || now == Some(relation.file)
        };
        Ok(match tables.iter().find(|relation| !is_same(relation)) {
            Some(relation) => Verdict::Rewritten(relation.name.clone()),
            None => Verdict::Proven,
        })
    }
}

/// A duration as PostgreSQL's settings take it; never 0, which means no limit.
pub(crate) fn milliseconds(duration: Duration) -> u128 {
    duration.as_millis().clamp(1, 2_000_000_000)
}
