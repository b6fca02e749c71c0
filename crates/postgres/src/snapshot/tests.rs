//! Every operation on snapshots, killed at every step, and with its connections killed at any moment: the next call works.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use copal_core::{
    Context, EngineErrorKind, EngineResult, RewindOptions, SnapshotId, SnapshotNote, SnapshotRequest, Snapshots, Source,
};

use super::copying::FILE_COPY;
use super::operation::Operation;
use crate::PostgresEngine;
use crate::others::Ended;
use crate::step::testing::{abort_at, fail_at};
use crate::testing::Server;

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
}

/// Those that change something in several steps.
const CHANGES: [Call; 4] = [Call::Take, Call::Rewind, Call::RewindByCopy, Call::Remove];
const CALLS: [Call; 7] =
    [Call::Take, Call::Rewind, Call::RewindByCopy, Call::RewindOfGone, Call::Describe, Call::Remove, Call::Settle];

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
        }
    }
}

fn source(server: &Server) -> Source {
    Source::parse(&server.url("shop")).unwrap()
}

/// A server with a database of 5 rows, and a snapshot of it when it had 1000.
fn prepare(server: &Server, call: Call) {
    let source = source(server);
    let names =
        server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ '^copal_' OR datname = 'shop'");
    // In one session: connecting takes longer than all of it.
    let drops: String = names.lines().map(|name| format!("DROP DATABASE {name} WITH (FORCE);\n")).collect();
    let make = "CREATE DATABASE shop TEMPLATE template0; COMMENT ON DATABASE shop IS 'the shop'; \
                ALTER DATABASE shop SET work_mem = '7MB';\n\\c shop\nCREATE TABLE a AS SELECT generate_series(1, 1000) AS id;";
    server.psql("postgres", &format!("{drops}{make}"));
    let spare = matches!(call, Call::Rewind | Call::Remove);
    engine().take(&source, &SnapshotRequest { id: id(1), note: note("one"), spare }, &Context::silent()).unwrap();
    quiet(server);
    server.psql("shop", "DELETE FROM a WHERE id > 5");
    match call {
        Call::RewindOfGone => drop(server.psql("postgres", "DROP DATABASE shop")),
        Call::Settle => {
            for name in ["copal_new_0123456789ab", "copal_old_0123456789ab", "copal_restore_0123456789ab"] {
                server.create_database(name);
            }
        }
        _ => {}
    }
}

/// Waits until all sessions of Copal have ended.
fn quiet(server: &Server) {
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'copal'";
    while server.psql("template1", sessions) != "0" {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What must be true whatever was interrupted, before and after the next call.
fn assert_safe(server: &Server, call: Call, what: &str) {
    let listed = engine().list(&source(server), &Context::silent()).unwrap();
    let names: Vec<_> = listed.iter().map(|snapshot| snapshot.note.name.as_str()).collect();
    match call {
        Call::Take => assert!(matches!(names.as_slice(), ["one"] | ["one", "two"]), "{what}: {names:?}"),
        Call::Describe => assert!(matches!(names.as_slice(), ["one"] | ["renamed"]), "{what}: {names:?}"),
        Call::Remove => assert!(matches!(names.as_slice(), ["one"] | []), "{what}: {names:?}"),
        _ => assert_eq!(names, ["one"], "{what}"),
    }
    // The old content or the new one, each with all that belongs to it.
    let rows = server.try_psql("shop", "SELECT count(*) FROM a; SHOW work_mem");
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'";
    match (call, rows) {
        (Call::RewindOfGone, Err(error)) => assert!(error.contains("does not exist"), "{what}: {error}"),
        (Call::Rewind | Call::RewindByCopy, Ok(rows)) => {
            assert!(["5\n7MB", "1000\n7MB"].contains(&rows.as_str()), "{what}: {rows}")
        }
        (Call::RewindOfGone, Ok(rows)) => assert_eq!(rows, "1000\n7MB", "{what}"),
        (_, rows) => assert_eq!(rows.as_deref(), Ok("5\n7MB"), "{what}"),
    }
    if server.try_psql("shop", "").is_ok() {
        assert_eq!(server.psql("postgres", comment), "the shop", "{what}");
    }
}

/// The next call leaves no trace of what was interrupted, and what was wanted can be had.
fn assert_next_call_works(server: &Server, call: Call, what: &str) {
    let (source, context) = (source(server), Context::silent());
    quiet(server);
    engine().settle(&source, false, &context).unwrap();
    assert_safe(server, call, what);
    let passing = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ '^copal_(new|old|restore)_'";
    assert_eq!(server.psql("postgres", passing), "", "{what}");
    let listed = engine().list(&source, &context).unwrap();
    let is_done = match call {
        Call::Take => listed.len() == 2,
        Call::Remove => listed.is_empty(),
        _ => false,
    };
    if !is_done {
        call.run(&source).unwrap_or_else(|error| panic!("{what}, once more: {error} {:?}", error.source));
    }
    if matches!(call, Call::Rewind | Call::RewindByCopy | Call::RewindOfGone) {
        assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "1000", "{what}");
    }
    quiet(server);
    assert_eq!(server.psql("postgres", passing), "", "{what}");
    let expected = match call {
        Call::Take => ["2", "1"],
        Call::Rewind => ["1", "1"],
        Call::Remove => ["0", "0"],
        _ => ["1", "0"],
    };
    let kinds = "SELECT count(*) FILTER (WHERE datname ~ '^copal_snap_') || ' ' \
                 || count(*) FILTER (WHERE datname ~ '^copal_spare_') FROM pg_database";
    let found = server.psql("postgres", kinds);
    let found: Vec<&str> = found.split(' ').collect();
    // A spare copy that a kill kept from being made is made with the next snapshot or rewind.
    assert_eq!(found[0], expected[0], "{what}");
    assert!(found[1] == expected[1] || call == Call::Take && is_done, "{what}: {found:?}");
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
fn interrupted_at(server: &Server, call: usize, step: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshot::tests::interrupted", "--nocapture"]);
    command.env("COPAL_TEST_SNAPSHOTS", server.url("shop"));
    command.env("COPAL_TEST_CALL", call.to_string()).env("COPAL_TEST_STEP", step.to_string());
    command
}

#[test]
fn killed_amidst_a_copy_the_next_call_waits_for_its_end() {
    let server = Server::start(15);
    let source = source(&server);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT id, repeat('x', 500) AS t FROM generate_series(1, 200000) AS id");
    let mut child = interrupted_at(&server, 0, 1000).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
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
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "200000");
    Call::Take.run(&source).unwrap();
}

#[test]
fn killed_at_any_step_the_next_call_works() {
    let server = Server::start(15);
    for (n, call) in CALLS.into_iter().enumerate() {
        for step in 0.. {
            let what = format!("{call:?} killed at step {step}");
            prepare(&server, call);
            let done = interrupted_at(&server, n, step).output().unwrap();
            assert_safe(&server, call, &what);
            assert_next_call_works(&server, call, &what);
            if done.status.success() {
                assert!(
                    step >= if matches!(call, Call::Describe | Call::Settle) { 1 } else { 3 },
                    "{what}: steps are passed"
                );
                break;
            }
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&done.status), Some(6), "{what}: {done:?}");
        }
    }
}

#[test]
fn failing_at_any_step_leaves_nothing_behind() {
    let server = Server::start(15);
    for call in CHANGES {
        for step in 0.. {
            let what = format!("{call:?} failing at step {step}");
            prepare(&server, call);
            fail_at(Some(step));
            let done = call.run(&source(&server));
            fail_at(None);
            assert_safe(&server, call, &what);
            assert_next_call_works(&server, call, &what);
            if done.is_ok() {
                break;
            }
        }
    }
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
    let server = Server::start(15);
    for call in CHANGES {
        for wait in [30, 90, 200, 400] {
            let what = format!("{call:?}, connections killed after {wait} ms");
            prepare(&server, call);
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(wait));
                    // Those that go on behind a call that has ended, too.
                    for pid in programs_at(&server, "psql") {
                        let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
                    }
                    is_over.store(true, Ordering::SeqCst);
                });
                let _ = call.run(&source(&server));
                while !is_over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            assert_safe(&server, call, &what);
            assert_next_call_works(&server, call, &what);
        }
    }
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
