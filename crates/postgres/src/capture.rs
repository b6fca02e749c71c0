//! A backup: one view, from which `pg_dump` streams into the sink while the inventory is counted beside it.

use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use copal_core::{
    AnyError, Capture, Context, EngineError, EngineErrorKind, EngineResult, FileHandle, Inventory, Sink, Source,
};

use crate::address::Address;
use crate::engine::PostgresEngine;
use crate::failure;
use crate::programs::{Installation, Programs, Running};
use crate::properties::Properties;
use crate::session::Session;
use crate::view::{Seen, Verdict, View, milliseconds};
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
    capture_as(engine, source, None, sink, context)
}

/// The same with the properties of the database of which `source` is a copy.
pub(crate) fn capture_as(
    engine: &PostgresEngine,
    source: &Source,
    original: Option<Properties>,
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
    let bytes = properties.bytes;
    properties = original.unwrap_or(properties);
    properties.dumped_by = programs.major;
    drop(first);
    let job = Job { engine, programs: &programs, address: &address, bytes, context };
    let mut jobs = engine.jobs;
    let (begun, mut tries) = (Instant::now(), 0);
    while tries < LEAST_TRIES || begun.elapsed() < engine.lock_wait {
        tries += 1;
        match job.attempt(jobs, sink)? {
            Attempt::Done(mut capture) => {
                capture.engine_version = version_text(version);
                give(sink, PROPERTIES, &properties.to_json())?;
                if let Some(refusal) = globals(engine, &programs, &address, sink, context)? {
                    context.warn(format!("roles and tablespaces are not in this backup: {refusal}"));
                    capture.notes.push("without roles and tablespaces: the role may not read them".to_owned());
                }
                return Ok(capture);
            }
            Attempt::Again(why) => context.note(format!("starting again: {why}")),
            Attempt::WithOneConnection => {
                context.note("starting again with one connection: a lock was asked for while several dumped");
                jobs = 1;
            }
        }
    }
    let message = format!("{}: tables are rewritten so often that no consistent dump was possible", job.place());
    Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when fewer tables are truncated or altered"))
}

/// How often a dump is begun, at least, because a table was rewritten just before it could be locked.
const LEAST_TRIES: u32 = 5;

/// A backup to be made.
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a PostgresEngine,
    pub(crate) programs: &'a Installation,
    pub(crate) address: &'a Address,
    /// Size of the database.
    pub(crate) bytes: u64,
    pub(crate) context: &'a Context,
}

enum Attempt {
    Done(Capture),
    /// A table was rewritten between the snapshot and the dump's lock.
    Again(String),
    /// Several connections would have waited for each other.
    WithOneConnection,
}

impl Job<'_> {
    /// The database in messages.
    pub(crate) fn place(&self) -> String {
        format!("the database {:?} on {}", self.address.database().unwrap_or_default(), self.address.server())
    }

    /// Opens a view and dumps it; of what is worth nothing the sink keeps nothing.
    fn attempt(&self, jobs: usize, sink: &mut dyn Sink) -> EngineResult<Attempt> {
        let Self { engine, programs, address, context, .. } = self;
        context.phase("opening a view", None);
        let mut view = View::open(programs, address, engine.lock_wait, context)?;
        let facts = inventory::facts(&mut view.session, &view.seen.relations)?;
        let mut notes = vec![format!("dumped by pg_dump {}", programs.major)];
        let extensions = inventory::extensions(&mut view.session)?;
        if !extensions.is_empty() {
            notes.push(format!("extensions: {extensions}"));
        }
        let position = position(&mut view.session)?;
        let monitor = Session::open(programs, address, context)?;
        let seen = &view.seen;
        let counting = seen.join(programs, address, context)?;
        context.phase("dumping", Some(self.bytes));
        let (has_ended, is_proven) = (AtomicBool::new(false), AtomicBool::new(false));
        let (dumped, proved) = std::thread::scope(|scope| {
            let (ended, proven) = (&has_ended, &is_proven);
            let (mut monitor, mut counting, mut facts) = (monitor, counting, facts);
            let proof = scope.spawn(move || -> EngineResult<(Verdict, Inventory, Session)> {
                let verdict = seen.prove(&mut monitor, ended, context)?;
                if verdict == Verdict::Proven {
                    proven.store(true, Ordering::SeqCst);
                    inventory::count(&mut counting, &seen.relations, engine.count, &mut facts, context)?;
                }
                Ok((verdict, facts, monitor))
            });
            let may_give = |is_last: bool| {
                has_ended.fetch_or(is_last, Ordering::SeqCst);
                while is_last && !is_proven.load(Ordering::SeqCst) && !proof.is_finished() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                is_proven.load(Ordering::SeqCst)
            };
            let dumped = match jobs {
                0 | 1 => self.dump(seen, sink),
                _ => folder_dump::dump(self, jobs, seen, &may_give, sink),
            };
            has_ended.store(true, Ordering::SeqCst);
            let lost = || Err(EngineError::new(EngineErrorKind::Other, "the proof of the dump ended early"));
            (dumped, proof.join().unwrap_or_else(|_| lost()))
        });
        let (verdict, inventory, mut monitor) = proved?;
        let verdict = match (&dumped, verdict) {
            (Ok(_), Verdict::Proven) => seen.prove_rest(&mut monitor)?,
            (_, verdict) => verdict,
        };
        match (dumped, verdict) {
            (Ok(stream), Verdict::Proven) => {
                if let Some(stream) = stream {
                    sink.finish_stream(stream).map_err(|e| refused_by_sink(e, context))?;
                }
                let engine_version = String::new();
                Ok(Attempt::Done(Capture { engine_version, inventory, position, notes }))
            }
            (dumped, Verdict::Rewritten(table)) => {
                if let Ok(Some(stream)) | Err(Dumped { stream: Some(stream), .. }) = dumped {
                    sink.withdraw(stream).map_err(|e| refused_by_sink(e, context))?;
                } else if jobs > 1 && dumped.is_ok() && is_proven.load(Ordering::SeqCst) {
                    // Its files are in the sink already.
                    let message = format!("{}: {table} was rewritten while it was dumped", self.place());
                    return Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again"));
                }
                context.cancel.check()?;
                Ok(Attempt::Again(format!("{table} was rewritten before it could be locked")))
            }
            (Err(Dumped { error, is_locked_out: true, .. }), Verdict::Proven) if jobs > 1 => {
                tracing::debug!(%error, "locked out");
                Ok(Attempt::WithOneConnection)
            }
            (Err(Dumped { error, .. }), Verdict::Proven) => Err(error),
        }
    }

    /// Streams an archive of the view into the sink; the stream, which is not finished yet.
    fn dump(&self, seen: &Seen, sink: &mut dyn Sink) -> Result<Option<FileHandle>, Dumped> {
        let context = self.context;
        let mut command = self.programs.streaming("pg_dump", self.address);
        self.put_options(&mut command, seen);
        command.arg("--format=custom").stdout(Stdio::piped());
        let mut running = Running::start(command)?;
        let stream = sink.begin_stream(ARCHIVE).map_err(|e| refused_by_sink(e, context))?;
        let mut output = running.output();
        let pumped = pump(
            &mut |buffer| match &mut output {
                Some(output) => wait_for(output, context).and_then(|()| output.read(buffer)),
                None => Ok(0),
            },
            &self.place(),
            context,
            &mut |bytes| sink.append(stream, bytes).map_err(|e| refused_by_sink(e, context)),
        );
        let believed = pumped.and_then(|()| believe("pg_dump", running, &self.place(), context));
        believed.map(|()| Some(stream)).map_err(|error| Dumped { stream: Some(stream), ..error.into() })
    }

    /// Options of a `pg_dump` in the view, all but its format and output.
    pub(crate) fn put_options(&self, command: &mut Command, seen: &Seen) {
        command.args(["--compress=0", "--no-sync"]).arg(format!("--snapshot={}", seen.snapshot)).stdin(Stdio::null());
        command
            .arg(format!("--lock-wait-timeout={}", milliseconds(self.engine.lock_wait)))
            .env("PGAPPNAME", &seen.mark);
    }
}

/// A dump that failed.
pub(crate) struct Dumped {
    pub(crate) error: EngineError,
    /// The stream that was begun and not finished.
    pub(crate) stream: Option<FileHandle>,
    /// One of several connections could not lock what another one had locked, since somebody asks for more in between.
    pub(crate) is_locked_out: bool,
}

impl From<EngineError> for Dumped {
    fn from(error: EngineError) -> Self {
        let said = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { is_locked_out: said.contains("could not obtain lock on relation"), error, stream: None }
    }
}

/// `150018` as people write it.
pub(crate) fn version_text(version: u32) -> String {
    format!("{}.{}", version / 10_000, version % 10_000)
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

/// Waits until there is something to read: a dump that waits for a lock says nothing for a long time.
fn wait_for(output: &ChildStdout, context: &Context) -> std::io::Result<()> {
    let tick = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let mut fds = [rustix::event::PollFd::new(output, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&tick)) {
            Ok(0) if context.cancel.is_cancelled() => return Err(std::io::Error::other(copal_core::Cancelled)),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
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
                    context.cancel.check()?;
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
