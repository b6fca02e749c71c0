//! Every operation on snapshots, killed at every step, and with its connections killed at any moment: the next call works.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{
    AnyError, Context, EngineErrorKind, EngineResult, Event, FileHandle, PageFileSpec, Progress, RewindOptions, Sink,
    Snapshot, SnapshotId, SnapshotNote, SnapshotRequest, Snapshots, Source,
};

use super::copying::FILE_COPY;
use super::kept::Description;
use super::operation::Operation;
use crate::PostgresEngine;
use crate::others::Ended;
use crate::properties::Properties;
use crate::step::testing::{abort_at, fail_at};
use crate::testing::{Server, Stop};

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Take,
    /// With a spare copy there.
    Rewind,
    /// Without one.
    RewindByCopy,
    /// The database is gone.
    RewindOfGone,
    Describe,
    Remove,
    Settle,
    BackUp,
}

/// Those that change something in several steps.
const CHANGES: [Call; 4] = [Call::Take, Call::Rewind, Call::RewindByCopy, Call::Remove];
const CALLS: [Call; 8] = [
    Call::Take,
    Call::Rewind,
    Call::RewindByCopy,
    Call::RewindOfGone,
    Call::Describe,
    Call::Remove,
    Call::Settle,
    Call::BackUp,
];
/// Servers of one test at the same time: much of it is waiting.
const SERVERS: usize = 3;

fn id(n: u32) -> SnapshotId {
    format!("20261121-1200{n:02}Z-7f3a").parse().unwrap()
}

fn note(name: &str) -> SnapshotNote {
    SnapshotNote { name: name.to_owned(), ..SnapshotNote::default() }
}

fn engine() -> PostgresEngine {
    PostgresEngine { lock_wait: Duration::from_secs(30), ..PostgresEngine::default() }
}

impl Call {
    fn run(self, source: &Source) -> EngineResult<()> {
        let (engine, context) = (engine(), Context::silent());
        match self {
            Self::Take => {
                let request = SnapshotRequest { id: id(2), note: note("two"), spare: true };
                engine.take(source, &request, &context).map(|_| ())
            }
            Self::Rewind | Self::RewindByCopy | Self::RewindOfGone => {
                let options = RewindOptions { spare: self == Self::Rewind, ..RewindOptions::default() };
                engine.prepare(source, &id(1), options, &context)?.finish(&context).map(|_| ())
            }
            Self::Describe => engine.describe(source, &id(1), &note("renamed"), &context),
            Self::Remove => engine.remove(source, &id(1), &context),
            Self::Settle => engine.settle(source, false, &context).map(|_| ()),
            Self::BackUp => Snapshots::capture(&engine, source, &id(1), &mut Nowhere, &context).map(|_| ()),
        }
    }
}

/// Forgets a backup.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: &PageFileSpec) -> Result<FileHandle, AnyError> {
        Err("no page files".into())
    }

    fn pages(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no page files".into())
    }

    fn finish(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no page files".into())
    }

    fn withdraw(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }

    fn begin_stream(&mut self, _: &str) -> Result<FileHandle, AnyError> {
        Ok(FileHandle(0))
    }

    fn append(&mut self, _: FileHandle, _: &[u8]) -> Result<(), AnyError> {
        Ok(())
    }

    fn finish_stream(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }
}

/// A server, and one psql that stays: to start one takes longer than most of what is asked.
struct Bench {
    server: Server,
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What was prepared last, and the snapshot's database.
    prepared: Option<(Call, String)>,
}

impl Bench {
    fn start() -> Self {
        let server = Server::start(15);
        let mut psql = server.command("psql", "postgres");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().unwrap();
        let (input, output) = (psql.stdin.take().unwrap(), BufReader::new(psql.stdout.take().unwrap()));
        Self { server, psql, input, output, prepared: None }
    }

    /// What statements answer, in `postgres` if they do not connect to another database.
    fn ask(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql};\n\\echo :DBNAME is asked").unwrap();
        let mut answer = String::new();
        loop {
            let before = answer.len();
            assert_ne!(self.output.read_line(&mut answer).unwrap(), 0, "psql has ended at: {sql}");
            if answer[before..].ends_with(" is asked\n") {
                answer.truncate(before);
                return answer.trim_end().to_owned();
            }
        }
    }

    fn source(&self) -> Source {
        source(&self.server)
    }

    /// A database of 5 rows, and a snapshot of it when it had 1000.
    fn prepare(&mut self, call: Call) {
        // Copying takes most of the time: what the last call has left, which was looked at, serves once more.
        let is_left = !matches!(call, Call::Remove | Call::Describe);
        let snapshot = self.prepared.take().filter(|(last, _)| is_left && *last == call).map(|(_, snapshot)| snapshot);
        let names = self.ask("SELECT datname FROM pg_database WHERE datname ~ '^copal_' OR datname = 'shop'");
        let stays = |name: &str| {
            let is_spare = call == Call::Rewind && name.starts_with("copal_spare_");
            snapshot.as_ref().is_some_and(|snapshot| name == snapshot || name == "shop" || is_spare)
        };
        let gone = names.lines().filter(|name| !stays(name));
        let drops: String = gone.map(|name| format!("DROP DATABASE {name} WITH (FORCE);\n")).collect();
        self.ask(&drops);
        let snapshot = snapshot.unwrap_or_else(|| self.make(call));
        self.prepared = Some((call, snapshot));
        self.ask("\\c shop\nDELETE FROM a WHERE id > 5;\n\\c postgres\n");
        match call {
            Call::RewindOfGone => drop(self.ask("DROP DATABASE shop")),
            Call::Settle => drop(self.ask(
                "CREATE DATABASE copal_new_0123456789ab; CREATE DATABASE copal_old_0123456789ab; \
                 CREATE DATABASE copal_restore_0123456789ab",
            )),
            _ => {}
        }
    }

    /// The database of 1000 rows and its snapshot, whose database's name it gives.
    fn make(&mut self, call: Call) -> String {
        self.ask(
            "CREATE DATABASE shop TEMPLATE template0; COMMENT ON DATABASE shop IS 'the shop'; \
             ALTER DATABASE shop SET work_mem = '7MB';\n\\c shop\n\
             CREATE TABLE a AS SELECT generate_series(1, 1000) AS id;\n\\c postgres\n",
        );
        let request =
            SnapshotRequest { id: id(1), note: note("one"), spare: matches!(call, Call::Rewind | Call::Remove) };
        engine().take(&self.source(), &request, &Context::silent()).unwrap();
        self.quiet();
        self.ask("SELECT datname FROM pg_database WHERE datname ~ '^copal_snap_'")
    }

    /// Waits until all sessions of Copal have ended.
    fn quiet(&mut self) {
        while self.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'copal'") != "0" {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What must be true whatever was interrupted, before and after the next call; how many snapshots there are.
    fn assert_safe(&mut self, call: Call, what: &str) -> usize {
        let listed = engine().list(&self.source(), &Context::silent()).unwrap();
        let names: Vec<_> = listed.iter().map(|snapshot| snapshot.note.name.as_str()).collect();
        match call {
            Call::Take => assert!(matches!(names.as_slice(), ["one"] | ["one", "two"]), "{what}: {names:?}"),
            Call::Describe => assert!(matches!(names.as_slice(), ["one"] | ["renamed"]), "{what}: {names:?}"),
            Call::Remove => assert!(matches!(names.as_slice(), ["one"] | []), "{what}: {names:?}"),
            _ => assert_eq!(names, ["one"], "{what}"),
        }
        // The old content or the new one, each with all that belongs to it.
        let is_there = self.ask("SELECT count(*) FROM pg_database WHERE datname = 'shop'") == "1";
        assert!(is_there || call == Call::RewindOfGone, "{what}");
        if is_there {
            let found = self.ask(
                "\\c shop\nSELECT count(*) FROM a; SHOW work_mem; \
                 SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop';\n\\c postgres\n",
            );
            let (old, new) = ("5\n7MB\nthe shop", "1000\n7MB\nthe shop");
            match call {
                Call::Rewind | Call::RewindByCopy => assert!([old, new].contains(&found.as_str()), "{what}: {found}"),
                Call::RewindOfGone => assert_eq!(found, new, "{what}"),
                _ => assert_eq!(found, old, "{what}"),
            }
        }
        names.len()
    }

    /// The next call leaves no trace of what was interrupted, and what was wanted can be had.
    fn assert_next_call_works(&mut self, call: Call, what: &str) {
        self.quiet();
        let source = self.source();
        engine().settle(&source, false, &Context::silent()).unwrap();
        let snapshots = self.assert_safe(call, what);
        // Nothing that has to go, and nothing that lets anybody in.
        let left = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ '^copal_(new|old|restore)_' \
                    OR datname ~ '^copal_' AND datallowconn";
        assert_eq!(self.ask(left), "", "{what}");
        let is_done = match call {
            Call::Take => snapshots == 2,
            Call::Remove => snapshots == 0,
            _ => false,
        };
        if !is_done {
            call.run(&source).unwrap_or_else(|error| panic!("{what}, once more: {error} {:?}", error.source));
        }
        if matches!(call, Call::Rewind | Call::RewindByCopy | Call::RewindOfGone) {
            assert_eq!(self.ask("\\c shop\nSELECT count(*) FROM a;\n\\c postgres\n"), "1000", "{what}");
        }
        self.quiet();
        assert_eq!(self.ask(left), "", "{what}");
        let expected = match call {
            Call::Take => ["2", "1"],
            Call::Rewind => ["1", "1"],
            Call::Remove => ["0", "0"],
            _ => ["1", "0"],
        };
        let found = self.ask(
            "SELECT count(*) FILTER (WHERE datname ~ '^copal_snap_') || ' ' \
             || count(*) FILTER (WHERE datname ~ '^copal_spare_') FROM pg_database",
        );
        let found: Vec<&str> = found.split(' ').collect();
        // A spare copy that a kill kept from being made is made with the next snapshot or rewind.
        assert_eq!(found[0], expected[0], "{what}");
        assert!(found[1] == expected[1] || call == Call::Take && is_done, "{what}: {found:?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// Tests these calls on a few servers.
fn each_of(calls: &[Call], test: impl Fn(&mut Bench, Call) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SERVERS.min(calls.len()) {
            scope.spawn(|| {
                let mut bench = Bench::start();
                while let Some(call) = calls.get(next.fetch_add(1, Ordering::SeqCst)) {
                    test(&mut bench, *call);
                }
            });
        }
    });
}

fn source(server: &Server) -> Source {
    Source::parse(&server.socket_url("shop")).unwrap()
}

/// The test process that is killed; does nothing unless another test asks for it.
#[test]
fn interrupted() {
    let Ok(url) = std::env::var("COPAL_TEST_SNAPSHOTS") else { return };
    let read = |name: &str| std::env::var(name).unwrap().parse::<u32>().unwrap();
    abort_at(Some(read("COPAL_TEST_STEP")));
    CALLS[read("COPAL_TEST_CALL") as usize].run(&Source::parse(&url).unwrap()).unwrap();
}

/// The process that makes this call and aborts at this step.
fn interrupted_at(server: &Server, call: Call, step: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshot::tests::interrupted", "--nocapture"]);
    command.env("COPAL_TEST_SNAPSHOTS", server.socket_url("shop"));
    command.env("COPAL_TEST_CALL", (call as usize).to_string()).env("COPAL_TEST_STEP", step.to_string());
    command
}

#[test]
fn killed_amidst_a_copy_the_next_call_waits_for_its_end() {
    let server = Server::start(15);
    let source = source(&server);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT id, repeat('x', 500) AS t FROM generate_series(1, 100000) AS id");
    let mut child =
        interrupted_at(&server, Call::Take, 1000).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ '^CREATE DATABASE'";
    while server.psql("postgres", copying) == "0" {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(engine().list(&source, &Context::silent()).unwrap(), []);
    let notes = engine().settle(&source, false, &Context::silent()).unwrap();
    assert!(notes.iter().all(|note| note.contains("copal_new_")), "{notes:?}");
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '^copal_'"), "0", "{notes:?}");
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "100000");
    Call::Take.run(&source).unwrap();
}

#[test]
fn killed_at_any_step_the_next_call_works() {
    each_of(&CALLS, |bench, call| {
        for step in 0.. {
            let what = format!("{call:?} killed at step {step}");
            bench.prepare(call);
            let done = interrupted_at(&bench.server, call, step).output().unwrap();
            bench.assert_safe(call, &what);
            bench.assert_next_call_works(call, &what);
            if done.status.success() {
                let least = if matches!(call, Call::Describe | Call::Settle | Call::BackUp) { 1 } else { 3 };
                assert!(step >= least, "{what}: steps are passed");
                break;
            }
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&done.status), Some(6), "{what}: {done:?}");
        }
    });
}

#[test]
fn failing_at_any_step_leaves_nothing_behind() {
    each_of(&CHANGES, |bench, call| {
        for step in 0.. {
            let what = format!("{call:?} failing at step {step}");
            bench.prepare(call);
            fail_at(Some(step));
            let done = call.run(&bench.source());
            fail_at(None);
            bench.assert_safe(call, &what);
            bench.assert_next_call_works(call, &what);
            if done.is_ok() {
                break;
            }
        }
    });
}

/// Programs of this name that work for a server: other tests have theirs.
fn programs_at(server: &Server, name: &str) -> Vec<u32> {
    let port = format!("port='{}'", server.port());
    let is_it = |pid: u32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        read("comm").trim() == name && read("cmdline").contains(&port)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| is_it(*pid)).collect()
}

#[test]
fn connections_may_be_killed_at_any_moment() {
    let killed = AtomicUsize::new(0);
    each_of(&CHANGES, |bench, call| {
        for wait in [30, 90, 200, 400] {
            let what = format!("{call:?}, connections killed after {wait} ms");
            bench.prepare(call);
            let (server, is_over) = (&bench.server, AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(wait));
                    // Those that go on behind a call that has ended, too.
                    for pid in programs_at(server, "psql") {
                        let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
                        killed.fetch_add(1, Ordering::SeqCst);
                    }
                    is_over.store(true, Ordering::SeqCst);
                });
                let _ = call.run(&source(server));
                while !is_over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            bench.assert_safe(call, &what);
            bench.assert_next_call_works(call, &what);
        }
    });
    assert!(killed.into_inner() > 0);
}

/// Keeps warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[test]
fn what_may_be_a_complete_snapshot_is_not_said_to_be_dropped_later() {
    let mut server = Server::start(15);
    server.create_database("shop");
    let warnings = Arc::new(Warnings::default());
    let context = Context { progress: warnings.clone(), ..Context::silent() };
    let mut operation = Operation::begin(&engine(), &source(&server), false, &context).unwrap();
    let properties = Properties::of_other(&mut operation.server, "shop").unwrap();
    let snapshot = Snapshot {
        id: id(1),
        note: note("one"),
        engine_version: String::new(),
        schema_version: None,
        bytes: None,
        method: "file_copy".to_owned(),
        used_bytes: None,
        has_spare: false,
    };
    server.stop(Stop::Immediate);
    let description = Description { of: "shop".to_owned(), snapshot, properties };
    operation.complete("copal_new_0123456789ab", &description).unwrap_err();
    let warnings = warnings.0.lock().unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("copal_snap_"), "{warnings:?}");
    assert!(warnings[0].contains("copal snaps lists") && !warnings[0].contains("next"), "{warnings:?}");
}

#[test]
fn a_disk_that_fills_during_a_copy_leaves_nothing() {
    let server = Server::start(15);
    if server.small_tablespace("small", 30).is_none() {
        return;
    }
    let source = source(&server);
    server.create_database_with("shop", "TABLESPACE small");
    server.psql("shop", "CREATE TABLE a AS SELECT id, repeat('x', 200) AS t FROM generate_series(1, 50000) AS id");
    let mut operation = Operation::begin(&engine(), &source, false, &Context::silent()).unwrap();
    // As if there had been room when it was looked for.
    let error = operation.copy("shop", "copal_new_0123456789ab", FILE_COPY, &mut Ended::default()).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NoSpace, "{error} {:?}", error.source);
    drop(operation);
    assert_eq!(engine().settle(&source, false, &Context::silent()).unwrap(), Vec::<String>::new());
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '^copal_'"), "0");
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "50000");
    server.psql("postgres", "CHECKPOINT");
}
