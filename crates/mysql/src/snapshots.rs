//! Snapshots behind Copal's contract.

use std::time::{Duration, Instant};

use copal_core::{
    Context, EngineError, EngineErrorKind, EngineResult, Rewind, RewindOptions, SCHEMA_VERSION_QUERIES, Snapshot,
    SnapshotId, SnapshotNote, SnapshotRequest, Snapshots, Source, Taken,
};

use crate::address::Address;
use crate::catalogue::Schema;
use crate::copy::{self, Purpose};
use crate::engine::MysqlEngine;
use crate::names::{self, Kind, SNAPSHOT};
use crate::privileges::{self, Deed};
use crate::quote::{identifier, literal, table};
use crate::rewind;
use crate::session::Session;
use crate::settle::settle;
use crate::step::step;
use crate::stored::{self, Stored};

/// How often a copy is begun again because tables were altered meanwhile.
const ATTEMPTS: u32 = 3;

/// A session that holds the lock of a database.
pub(crate) struct Held {
    pub(crate) session: Session,
    pub(crate) database: String,
    pub(crate) key: String,
    /// What had been left by killed processes.
    pub(crate) notes: Vec<String>,
}

/// A session for a database, with its name as the server writes it, and its digits.
fn open(address: &Address, context: &Context) -> EngineResult<(Session, String, String)> {
    let mut session = Session::open(address, context)?;
    if address.is_whole_server() {
        let message = format!("{} names all databases of a server", address.shown());
        return Err(EngineError::new(EngineErrorKind::Unsupported, message).hint("name one database"));
    }
    if names::is_hidden(&address.database) {
        let message = format!("the database {:?} is the server's own, or Copal's", address.database);
        return Err(EngineError::new(EngineErrorKind::Unsupported, message).hint("name another database"));
    }
    let is_folded = session.number("SELECT @@lower_case_table_names")?.unwrap_or(0) != 0;
    let database = if is_folded { address.database.to_lowercase() } else { address.database.clone() };
    let key = names::key(&database);
    Ok((session, database, key))
}

impl Held {
    /// Takes the lock of a database, and puts right what killed processes left.
    fn new(engine: &MysqlEngine, address: &Address, context: &Context) -> EngineResult<Self> {
        let mut held = Self::locked(engine, address, context)?;
        held.notes = settle(&mut held.session, &held.database, &held.key, false, context)?;
        Ok(held)
    }

    fn locked(engine: &MysqlEngine, address: &Address, context: &Context) -> EngineResult<Self> {
        let (mut session, database, key) = open(address, context)?;
        let name = literal(&names::lock(&key));
        let end = Instant::now() + engine.lock_wait;
        loop {
            let wait = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(5));
            let taken = session.number(&format!("SELECT GET_LOCK({name}, {})", wait.as_secs_f32()))?;
            if taken == Some(1) {
                return Ok(Self { session, database, key, notes: Vec::new() });
            }
            if Instant::now() >= end {
                let message = format!("another snapshot or rewind of the database {database:?} is under way");
                return Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is done"));
            }
        }
    }
}

impl Snapshots for MysqlEngine {
    fn take(&self, source: &Source, request: &SnapshotRequest, context: &Context) -> EngineResult<Taken> {
        let address = Address::of(source)?;
        let mut held = Held::new(self, &address, context)?;
        let (database, key) = (held.database.clone(), held.key.clone());
        privileges::check(&mut held.session, &database, Deed::Take)?;
        let mut notes = std::mem::take(&mut held.notes);
        for _ in 0..ATTEMPTS {
            let name = Kind::Snapshot.new_name(&key);
            step("before the snapshot's schema")?;
            match take(&mut held, &address, &name, request, context) {
                Ok(Some((stored, schema))) => {
                    if request.spare {
                        context.phase("making a spare copy", stored.snapshot.bytes);
                        let made = rewind::make_spare(&mut held.session, &address, &stored, &schema);
                        notes.extend(made.err().map(|error| format!("no spare copy could be made: {error}")));
                    }
                    let stored = Stored::find(&mut held.session, &database, &key, &request.id)?;
                    return Ok(Taken { snapshot: stored.snapshot, notes });
                }
                Ok(None) => {
                    drop_schema(&mut held.session, &name)?;
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => {
                    drop_after_failure(&address, &name);
                    return Err(error);
                }
            }
        }
        let message = format!("tables of the database {database:?} are altered so often that it cannot be copied");
        Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when no migration is running"))
    }

    fn list(&self, source: &Source, context: &Context) -> EngineResult<Vec<Snapshot>> {
        let (mut session, database, key) = open(&Address::of(source)?, context)?;
        Ok(Stored::all(&mut session, &database, &key)?.into_iter().map(|stored| stored.snapshot).collect())
    }

    fn prepare(
        &self,
        source: &Source,
        id: &SnapshotId,
        options: RewindOptions,
        context: &Context,
    ) -> EngineResult<Box<dyn Rewind>> {
        let address = Address::of(source)?;
        rewind::prepare(Held::new(self, &address, context)?, &address, id, options, context)
    }

    fn describe(&self, source: &Source, id: &SnapshotId, note: &SnapshotNote, context: &Context) -> EngineResult<()> {
        let mut held = Held::new(self, &Address::of(source)?, context)?;
        let mut stored = Stored::find(&mut held.session, &held.database, &held.key, id)?;
        stored.snapshot.note = note.clone();
        stored.replace(&mut held.session)
    }

    fn remove(&self, source: &Source, id: &SnapshotId, context: &Context) -> EngineResult<()> {
        let mut held = Held::new(self, &Address::of(source)?, context)?;
        let stored = Stored::find(&mut held.session, &held.database, &held.key, id)?;
        let session = &mut held.session;
        step("before the spare's end")?;
        rewind::drop_spare(session, &stored)?;
        step("spare dropped")?;
        // Without its row it is no snapshot any more, however far the next statement gets.
        session.run(&format!("DELETE FROM {}", table(&stored.schema, SNAPSHOT)))?;
        step("row deleted")?;
        drop_schema(session, &stored.schema)?;
        step("snapshot dropped")
    }

    fn settle(&self, source: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
        let mut held = Held::locked(self, &Address::of(source)?, context)?;
        settle(&mut held.session, &held.database, &held.key, dry_run, context)
    }
}

/// Drops what a call had begun. A full disk has room again when the server has undone what filled it; what cannot be dropped
/// even then, the next call drops.
pub(crate) fn drop_after_failure(address: &Address, name: &str) {
    let try_to_drop = || {
        for _ in 0..10 {
            // A new session: the other may be the one that failed.
            let dropped =
                Session::open(address, &Context::silent()).and_then(|mut session| drop_schema(&mut session, name));
            if dropped.is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    // On a thread of its own: the caller may be dropped where nothing may wait, such as in an async function.
    std::thread::scope(|scope| drop(scope.spawn(try_to_drop).join()));
}

fn drop_schema(session: &mut Session, name: &str) -> EngineResult<()> {
    session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(name)))
}

/// Takes a snapshot in a new schema; `None`: something was altered meanwhile.
fn take(
    held: &mut Held,
    address: &Address,
    name: &str,
    request: &SnapshotRequest,
    context: &Context,
) -> EngineResult<Option<(Stored, Schema)>> {
    let (session, database) = (&mut held.session, held.database.clone());
    let Some(schema) = Schema::read(session, &database)? else {
        let message = format!("there is no database {database:?} on {}", address.server());
        return Err(EngineError::new(EngineErrorKind::NotFound, message));
    };
    if schema.is_blurred() {
        return Ok(None);
    }
    schema.refuse_what_cannot_be_carried(session, &database)?;
    let bytes = copy::bytes(session, &database)?;
    context.phase("copying", bytes);
    session.run(&format!("CREATE DATABASE {} {}", identifier(name), schema.options()))?;
    step("snapshot's schema made")?;
    copy::make_tables(session, &schema, name, Purpose::Keep)?;
    stored::prepare(session, name)?;
    step("snapshot's tables made")?;
    // The session with the lock looks on while another copies.
    let mut worker = session.another(address)?;
    let method = match copy::fill_in_one_view(&mut worker, &schema, &database, name)? {
        Ok(method) => method,
        Err(refusal) if refusal.is_change() => return Ok(None),
        Err(refusal) => return Err(worker.refused(&refusal)),
    };
    step("snapshot's tables filled")?;
    let schema_version = schema_version(session, &database, &schema)?;
    if !Schema::read(session, &database)?.is_some_and(|now| now.is_like(&schema)) {
        return Ok(None);
    }
    copy::end_view(&mut worker, name)?;
    drop(worker);
    copy::set_sequences(session, &schema, &database, name)?;
    step("view ended")?;
    let snapshot = Snapshot {
        id: request.id.clone(),
        note: request.note.clone(),
        engine_version: crate::engine::version_text(&session.version),
        schema_version,
        bytes,
        method: method.to_owned(),
        used_bytes: None,
        has_spare: false,
    };
    copy::analyze(session, &schema, name)?;
    let used_bytes = copy::bytes(session, name)?.unwrap_or_default();
    let stored = Stored { of: database, snapshot, schema: name.to_owned() };
    stored.write(session, &schema, used_bytes)?;
    step("snapshot complete")?;
    Ok(Some((stored, schema)))
}

/// What the migration tool of the application calls the schema.
fn schema_version(session: &mut Session, database: &str, schema: &Schema) -> EngineResult<Option<String>> {
    for (name, query) in SCHEMA_VERSION_QUERIES {
        if schema.tables.iter().any(|table| table.name == name) {
            session.run(&format!("USE {}", identifier(database)))?;
            // A table of that name may be something else.
            let rows = session.ask(query)?.unwrap_or_default();
            return Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()));
        }
    }
    Ok(None)
}
