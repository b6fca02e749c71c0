//! One operation on the snapshots of one database: excludes others, finds what there is, and puts right what was left.

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, SnapshotId, Source};
use serde::Deserialize;

use super::copying::Copying;
use super::kept::{Description, Kept, KeptSnapshot, spare_comment};
use super::locks::{backup_of, is_held, lock, operations_on, spare_of, try_lock};
use crate::address::Address;
use crate::engine::PostgresEngine;
use crate::others::{self, Ended};
use crate::programs::Programs;
use crate::quote::{identifier, literal};
use crate::restore::{self, Target, drop_passing, lock_of, passing_name};
use crate::session::{Refusal, Session};
use crate::step::step;
use crate::view::milliseconds;

/// How often a copy is tried while others come in between.
const TRIES: u32 = 3;
/// Why a snapshot cannot be had for oneself.
pub(super) const BACKED_UP: &str = "the snapshot is being backed up";

/// The database in question.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) engine: PostgresEngine,
    pub(super) programs: Programs,
    pub(super) address: Address,
    pub(super) name: String,
    pub(super) shown: String,
    pub(super) context: Context,
}

impl Place {
    pub(super) fn of(engine: &PostgresEngine, source: &Source, context: &Context) -> EngineResult<Self> {
        let address = Address::of(source)?;
        if address.is_whole_server() {
            let message = format!("{source} names a whole server, not one database");
            return Err(EngineError::new(EngineErrorKind::Unsupported, message));
        }
        let name = match address.database() {
            Some(name) => name.to_owned(),
            // libpq knows where it would go.
            None => engine.connect(&address, context)?.database.clone(),
        };
        let address = address.with_database(&name);
        let programs = Programs::find(engine.bin.as_deref())?;
        let shown = address.source()?.redacted();
        Ok(Self { engine: engine.clone(), programs, address, name, shown, context: context.clone() })
    }

    /// The same for the parts of a restore.
    pub(super) fn target(&self) -> Target<'_> {
        Target {
            engine: &self.engine,
            programs: self.programs.clone(),
            address: self.address.clone(),
            name: self.name.clone(),
            shown: self.shown.clone(),
            context: &self.context,
        }
    }

    pub(super) fn busy(&self, what: &str, refusal: &Refusal, hint: &str) -> EngineError {
        let message = format!("{}: {what}", self.shown);
        EngineError::new(EngineErrorKind::Busy, message).because(refusal.message.trim().to_owned()).hint(hint)
    }
}

/// What the server goes on with when the operation has ended.
pub(super) struct Work {
    /// What is locked meanwhile.
    pub(super) held: Vec<String>,
    pub(super) statements: Vec<String>,
}

/// An operation that is alone; others may begin when it is dropped.
pub(super) struct Operation {
    pub(super) place: Place,
    /// Holds the lock, and does the work.
    pub(super) server: Session,
    /// Ends sessions that the other one waits for.
    pub(super) second: Session,
    pub(super) kept: Kept,
    /// What was put right.
    pub(super) notes: Vec<String>,
}

impl Operation {
    /// Waits until it is alone, and puts right what killed processes left; with `dry_run` only says what that is.
    pub(super) fn begin(
        engine: &PostgresEngine,
        source: &Source,
        dry_run: bool,
        context: &Context,
    ) -> EngineResult<Self> {
        let place = Place::of(engine, source, context)?;
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| engine.connect_to_server(&place.address, context));
            (engine.connect_to_server(&place.address, context), second.join())
        });
        let mut server = first?;
        let second = second.unwrap_or_else(|_| engine.connect_to_server(&place.address, context))?;
        // For locks of all kinds.
        server.run(&set_lock_timeout(engine))?;
        // A copy ends soon if nobody waits for it any more; servers before 14 finish it.
        let _ = server.try_run("SET client_connection_check_interval = '500ms'")?;
        let what = "another snapshot or rewind of this database is under way";
        lock(&mut server, &operations_on(&place.name), &place, what)?;
        let mut operation = Self { place, server, second, kept: Kept::default(), notes: Vec::new() };
        operation.settle(dry_run)?;
        Ok(operation)
    }

    fn settle(&mut self, dry_run: bool) -> EngineResult<()> {
        step("before settling")?;
        let place = &self.place;
        self.notes = restore::sweep(&place.engine, &place.address, &mut self.server, dry_run)?;
        self.kept = Kept::read(&mut self.server, &place.name)?;
        for orphan in &self.kept.orphans {
            if dry_run {
                self.notes.push(format!("{orphan}, a spare copy of a snapshot that is gone, would be dropped"));
            } else if drop_passing(&place.engine, &place.address, orphan).is_ok() {
                self.notes.push(format!("dropped {orphan}, a spare copy of a snapshot that is gone"));
            }
        }
        // As a backup of it that was killed has left it; one that is alive has the lock.
        for open in self.kept.snapshots.iter().filter(|kept| kept.is_open && !dry_run) {
            if !is_held(&mut self.server, &backup_of(&open.database))? {
                let _ = self.server.try_run(&allow(&open.database, false))?;
            }
        }
        Ok(())
    }

    /// Refuses what would be found out too late. `is_rewind`: the database is going to be replaced.
    pub(super) fn require_free(&mut self, is_rewind: bool) -> EngineResult<()> {
        #[derive(Deserialize)]
        struct Found {
            prepared: Vec<String>,
            subscriptions: Vec<String>,
            slots: Vec<String>,
        }
        let place = &self.place;
        let found: Found = self.server.row(&format!(
            "SELECT (SELECT coalesce(json_agg(gid), '[]') FROM pg_catalog.pg_prepared_xacts WHERE database = d.name) AS prepared, \
             (SELECT coalesce(json_agg(subname), '[]') FROM pg_catalog.pg_subscription WHERE subdbid = \
                (SELECT oid FROM pg_catalog.pg_database WHERE datname = d.name)) AS subscriptions, \
             (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_catalog.pg_replication_slots WHERE database = d.name) AS slots \
             FROM (SELECT {}::text AS name) AS d",
            literal(&place.name)
        ))?;
        let refuse = |what: String, hint: &str| {
            Err(EngineError::new(EngineErrorKind::Busy, format!("{}: {what}", place.shown)).hint(hint))
        };
        if !found.prepared.is_empty() {
            let what = format!("prepared transactions are open in it: {}", found.prepared.join(", "));
            return refuse(what, "end them with COMMIT PREPARED or ROLLBACK PREPARED and try again");
        }
        if is_rewind && !found.subscriptions.is_empty() {
            let what = format!("it has subscriptions, which no snapshot holds: {}", found.subscriptions.join(", "));
            return refuse(what, "DROP SUBSCRIPTION, rewind, and create them again");
        }
        if is_rewind && !found.slots.is_empty() {
            let what = format!("logical replication slots follow it, which cannot go back: {}", found.slots.join(", "));
            return refuse(what, "drop them with pg_drop_replication_slot, rewind, and set up what follows them again");
        }
        others::require_endable(&mut self.server, &place.name, &place.shown)
    }

    /// Copies a database, in which nobody is while that lasts: who is there is ended, who comes waits.
    pub(super) fn copy(&mut self, template: &str, copy: &str, copying: Copying, ended: &mut Ended) -> EngineResult<()> {
        restore::hold(&mut self.server, copy)?;
        let (statement, pid) = (copying.statement(template, copy), self.server.pid);
        let mut tries = 0;
        loop {
            tries += 1;
            step("before a copy")?;
            let second = &mut self.second;
            let Err(refusal) = self.server.run_while(&statement, &mut || others::end(second, template, pid, ended))?
            else {
                return step("after a copy");
            };
            match refusal.state.as_str() {
                // object_in_use
                "55006" if tries < TRIES => {}
                "55006" | "55P03" => {
                    let hint =
                        "end what uses it (other sessions, prepared transactions, CREATE DATABASE) and try again";
                    return Err(self.place.busy("it could not be copied", &refusal, hint));
                }
                _ => return Err(self.server.refused(&refusal)),
            }
        }
    }

    /// Makes a copy that is whole a snapshot, in one step; its database's name.
    pub(super) fn complete(&mut self, passing: &str, description: &Description) -> EngineResult<String> {
        let snapshot = passing_name("snap");
        let place = self.place.clone();
        step("before the snapshot is complete")?;
        let named = [
            rename(passing, &snapshot),
            allow(&snapshot, false),
            // For the time when it is open: its owner and superusers only. Copies of it do not inherit that.
            format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", identifier(&snapshot)),
            comment(&snapshot, &description.comment()),
        ];
        self.transaction(&named).inspect_err(|_| {
            // The answer to the commit may be what was lost; then it is a snapshot as any other.
            if let Err(left) = drop_passing(&place.engine, &place.address, &snapshot) {
                place.context.warn(format!(
                    "{snapshot} could not be dropped ({left}); if it is there it is a complete snapshot, \
                     which copal snaps lists and copal snaps remove drops"
                ));
            }
        })?;
        step("when the snapshot is complete")?;
        Ok(snapshot)
    }

    /// All of these statements or none.
    pub(super) fn transaction(&mut self, statements: &[String]) -> EngineResult<()> {
        self.server.run("BEGIN")?;
        let mut done = statements.iter().try_for_each(|statement| self.server.run(statement));
        done = done.and_then(|()| step("before the commit"));
        if done.is_err() {
            let _ = self.server.try_run("ROLLBACK");
        }
        done.and_then(|()| self.server.run("COMMIT"))
    }

    /// Waits for a spare copy of a snapshot that is being made, and looks again.
    pub(super) fn wait_for_spare(&mut self, snapshot: &str) -> EngineResult<()> {
        wait_for_spare(&mut self.server, &self.place, snapshot)?;
        self.kept = Kept::read(&mut self.server, &self.place.name)?;
        Ok(())
    }

    /// Whether a snapshot is being backed up; no such backup begins before this operation ends.
    pub(super) fn is_backed_up(&mut self, snapshot: &str) -> EngineResult<bool> {
        is_held(&mut self.server, &backup_of(snapshot))
    }

    /// Drops what was made so far; the error that led here is what counts.
    pub(super) fn give_up(&self, passing: &str, error: EngineError) -> EngineError {
        let place = &self.place;
        // With a connection of its own: the other may be lost, or its operation cancelled.
        if let Err(left) = drop_passing(&place.engine, &place.address, passing) {
            let text = format!("{passing} could not be dropped ({left}); the next snapshot or rewind drops it");
            place.context.warn(text);
        }
        error
    }

    /// What makes a spare copy of a snapshot: a rewind waits for it.
    pub(super) fn spare(&self, snapshot: &str, copying: Copying) -> Work {
        let passing = passing_name("new");
        let mut statements = vec![copying.statement(snapshot, &passing)];
        statements.extend(spare_of_passing(&passing, &self.place.name, snapshot));
        Work { held: vec![spare_of(snapshot), passing], statements }
    }

    /// Ends, and lets the server do some work without us. Another operation may begin once this one holds what it needs.
    pub(super) fn leave(self, works: impl IntoIterator<Item = Work>) {
        let call = |function: &str, held: &str| format!("SELECT pg_catalog.{function}({})", lock_of(held));
        let (mut locks, mut statements) = (Vec::new(), Vec::new());
        for work in works {
            locks.extend(work.held.iter().map(|held| call("pg_advisory_lock", held)));
            statements.extend(work.statements);
        }
        if !statements.is_empty() {
            let unlock = call("pg_advisory_unlock", &operations_on(&self.place.name));
            let script = locks.into_iter().chain([unlock]).chain(statements);
            self.server.leave(&script.map(|statement| format!("{statement};\n")).collect::<String>());
        }
    }

    /// The snapshot of this id.
    pub(super) fn find(&self, id: &SnapshotId) -> EngineResult<KeptSnapshot> {
        let found = self.kept.snapshots.iter().find(|kept| kept.description.snapshot.id == *id);
        found.cloned().ok_or_else(|| {
            EngineError::new(EngineErrorKind::NotFound, format!("{} has no snapshot {id}", self.place.shown))
                .hint("copal snaps lists those that there are")
        })
    }
}

/// Waits for a spare copy of a snapshot that is being made, as long as that takes: a minute for some gigabytes. The session holds
/// its lock then.
pub(super) fn wait_for_spare(server: &mut Session, place: &Place, snapshot: &str) -> EngineResult<()> {
    let name = spare_of(snapshot);
    if try_lock(server, &name)? {
        return Ok(());
    }
    place.context.phase("waiting for the spare copy", None);
    server.run("SET lock_timeout = 0")?;
    lock(server, &name, place, "a spare copy of the snapshot is being made")?;
    server.run(&set_lock_timeout(&place.engine))
}

fn set_lock_timeout(engine: &PostgresEngine) -> String {
    format!("SET lock_timeout = {}", milliseconds(engine.lock_wait))
}

pub(super) fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to))
}

pub(super) fn allow(database: &str, is_open: bool) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS {is_open}", identifier(database))
}

pub(super) fn comment(database: &str, text: &str) -> String {
    format!("COMMENT ON DATABASE {} IS {}", identifier(database), literal(text))
}

/// Statements that make a copy that is whole a spare one, in one step.
pub(super) fn spare_of_passing(passing: &str, of: &str, snapshot: &str) -> [String; 4] {
    let spare = passing_name("spare");
    let comment = comment(&spare, &spare_comment(of, snapshot));
    ["BEGIN".to_owned(), rename(passing, &spare), comment, "COMMIT".to_owned()]
}
