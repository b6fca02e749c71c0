//! A backup: one view, from which `pg_dump` streams into the sink while the inventory is counted beside it.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use copal_core::{AnyError, Capture, Context, EngineError, EngineErrorKind, EngineResult, Inventory, Sink, Source};

use crate::address::Address;
use crate::engine::PostgresEngine;
use crate::failure;
use crate::programs::{Installation, Programs, Running};
use crate::properties::Properties;
use crate::session::Session;
use crate::view::View;
use crate::{ARCHIVE, GLOBALS, PROPERTIES, folder_dump, inventory};

/// Bytes that are read of a dump at a time.
const RUN: usize = 256 << 10;
/// The first server that is supported: `pg_dump` of today still reads it, and views can be shared.
const OLDEST: u32 = 12;

/// Backs up the database into `sink`.
pub(crate) fn capture(
    engine: &PostgresEngine,
    source: &Source,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Capture> {
    let address = Address::of(source)?;
    if address.is_whole_server() {
        let message = format!("{source} names a whole server, not one database");
        return Err(EngineError::new(EngineErrorKind::Unsupported, message));
    }
    let found = Programs::find(engine.bin.as_deref())?;
    context.phase("opening a view", None);
    let mut first = Session::open(&found.newest()?, &address, context)?;
    let (major, version) = (first.major(), first.version);
    if major < OLDEST {
        let message = format!("{source} is PostgreSQL {major}; {OLDEST} and later can be backed up");
        return Err(EngineError::new(EngineErrorKind::Unsupported, message));
    }
    let programs = found.for_dump(major)?;
    // The name is asked for once: `PGDATABASE` and services may say it in several ways.
    let address = address.with_database(&first.database);
    let mut properties = Properties::of(&mut first)?;
    properties.dumped_by = programs.major;
    let bytes = properties.bytes;
    drop(first);
    let mut view = View::open(&programs, &address, engine.lock_wait, context)?;
    let place = format!("the database {:?} on {}", view.session.database, address.server());
    let mut facts = inventory::facts(&mut view.session, &view.relations)?;
    let mut notes = vec![format!("dumped by pg_dump {}", programs.major)];
    let extensions = inventory::extensions(&mut view.session)?;
    if !extensions.is_empty() {
        notes.push(format!("extensions: {extensions}"));
    }
    let position = position(&mut view.session)?;
    context.phase("dumping", Some(bytes));
    let mut counting = view.join(&programs, &address, context)?;
    let counted = std::thread::scope(|scope| -> EngineResult<Inventory> {
        let relations = &view.relations;
        let counter = scope.spawn(move || -> EngineResult<Inventory> {
            inventory::count(&mut counting, relations, engine.count, &mut facts, context)?;
            Ok(facts)
        });
        let dumped = match engine.jobs {
            0 | 1 => dump(&programs, &address, &view, engine.lock_wait, &place, sink, context),
            _ => folder_dump::dump(engine, &programs, &address, &view, bytes, &place, sink, context),
        };
        let counted =
            counter.join().unwrap_or_else(|_| Err(EngineError::new(EngineErrorKind::Other, "counting ended early")));
        dumped.and(counted)
    })?;
    view.close()?;
    give(sink, PROPERTIES, &properties.to_json())?;
    if let Some(refusal) = globals(engine, &programs, &address, sink, context)? {
        context.warn(format!("roles and tablespaces are not in this backup: {refusal}"));
        notes.push("without roles and tablespaces: the role may not read them".to_owned());
    }
    Ok(Capture { engine_version: version_text(version), inventory: counted, position, notes })
}

/// `150018` as people write it.
pub(crate) fn version_text(version: u32) -> String {
    format!("{}.{}", version / 10_000, version % 10_000)
}

/// Streams an archive of the view into the sink.
fn dump(
    programs: &Installation,
    address: &Address,
    view: &View,
    lock_wait: Duration,
    place: &str,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<()> {
    let mut command = dump_command(programs, address, view, lock_wait);
    command.arg("--format=custom").stdout(Stdio::piped());
    let mut running = Running::start(command)?;
    let stream = sink.begin_stream(ARCHIVE).map_err(|e| refused_by_sink(e, context))?;
    let mut output = running.output();
    pump(&mut |buffer| output.as_mut().map_or(Ok(0), |output| output.read(buffer)), place, context, &mut |bytes| {
        sink.append(stream, bytes).map_err(|e| refused_by_sink(e, context))
    })?;
    believe("pg_dump", running, place, context)?;
    sink.finish_stream(stream).map_err(|e| refused_by_sink(e, context))
}

/// `pg_dump` in the view, all but its format and output.
pub(crate) fn dump_command(
    programs: &Installation,
    address: &Address,
    view: &View,
    lock_wait: Duration,
) -> std::process::Command {
    let mut command = programs.command("pg_dump", address);
    command.args(["--compress=0", "--no-sync"]).arg(format!("--snapshot={}", view.snapshot));
    command.arg(format!("--lock-wait-timeout={}", lock_wait.as_millis().clamp(1, 2_000_000_000))).stdin(Stdio::null());
    command
}

/// Waits for a program; what it says besides is a warning if it went well, else the reason.
pub(crate) fn believe(program: &str, running: Running, place: &str, context: &Context) -> EngineResult<()> {
    let (status, words) = running.wait()?;
    context.cancel.check()?;
    if !status.success() {
        return Err(failure::program_failed(program, place, &words));
    }
    if !words.trim().is_empty() {
        context.warn(format!("{program}: {}", failure::told(&words)));
    }
    Ok(())
}

/// Reads until the end, and hands on.
pub(crate) fn pump(
    read: &mut dyn FnMut(&mut [u8]) -> std::io::Result<usize>,
    place: &str,
    context: &Context,
    give: &mut dyn FnMut(&[u8]) -> EngineResult<()>,
) -> EngineResult<()> {
    let mut buffer = vec![0; RUN];
    loop {
        context.cancel.check()?;
        let mut filled = 0;
        // A pipe gives 64 KiB at a time; the sink takes them better in larger runs.
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let message = format!("the dump of {place} could not be read");
                    return Err(EngineError::new(EngineErrorKind::Other, message).because(e));
                }
            }
        }
        if filled == 0 {
            return Ok(());
        }
        give(buffer.get(..filled).unwrap_or_default())?;
    }
}

/// Roles and tablespaces of the server; what was said if the role may not read them.
fn globals(
    engine: &PostgresEngine,
    programs: &Installation,
    address: &Address,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Option<String>> {
    context.phase("dumping roles", None);
    let mut command = programs.command("pg_dumpall", address);
    command.args(["--globals-only", "--no-sync"]).stdin(Stdio::null()).stdout(Stdio::piped());
    if !engine.role_passwords {
        command.arg("--no-role-passwords");
    }
    let mut running = Running::start(command)?;
    let mut text = Vec::new();
    if let Some(mut output) = running.output() {
        // As large as there are roles; one in a backup has some hundred bytes.
        output
            .read_to_end(&mut text)
            .map_err(|e| EngineError::new(EngineErrorKind::Other, "pg_dumpall could not be read").because(e))?;
    }
    let (status, words) = running.wait()?;
    context.cancel.check()?;
    if !status.success() {
        return Ok(Some(failure::told(&words)));
    }
    give(sink, GLOBALS, &text).map(|()| None)
}

/// Gives a small stream.
pub(crate) fn give(sink: &mut dyn Sink, name: &str, bytes: &[u8]) -> EngineResult<()> {
    let stream = sink.begin_stream(name).map_err(EngineError::repository)?;
    sink.append(stream, bytes).map_err(EngineError::repository)?;
    sink.finish_stream(stream).map_err(EngineError::repository)
}

pub(crate) fn refused_by_sink(error: AnyError, context: &Context) -> EngineError {
    if context.cancel.is_cancelled() { copal_core::Cancelled.into() } else { EngineError::repository(error) }
}

/// Where the server's log stood, if the role may see it.
fn position(session: &mut Session) -> EngineResult<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Position {
        lsn: Option<String>,
    }
    let query = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
                 ELSE pg_catalog.pg_current_wal_insert_lsn() END::text AS lsn";
    let position: Position = session.row(query)?;
    Ok(position.lsn.map(|lsn| format!("lsn={lsn}")))
}
