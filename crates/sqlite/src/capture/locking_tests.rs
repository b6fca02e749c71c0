//! Captures of databases that others hold, or that we may hardly touch; other processes are real ones.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use copal_core::{Context, Engine, EngineErrorKind, Source};

use crate::place::beside;
use crate::testing::{MemoryBackup, Scratch, capture, capture_both, child, engine, holder, shell};
use crate::{Reader, SqliteEngine};

const TABLE: &str = "CREATE TABLE t (x); INSERT INTO t VALUES (1);";

#[test]
fn an_exclusive_holder_is_waited_for_and_then_named() {
    for script in [
        "BEGIN EXCLUSIVE;",
        "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (2);",
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = wal; INSERT INTO t VALUES (2);",
    ] {
        let scratch = Scratch::new(TABLE);
        let program = holder(&scratch, script);
        let started = Instant::now();
        let error = capture(&scratch, Reader::Auto).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Busy, "{script}: {error}");
        assert!(error.is_retryable() && error.hint.is_some());
        assert!(error.message.contains("sqlite3 with process id"), "{error}");
        assert!((300..5_000).contains(&started.elapsed().as_millis()), "it waited");
        // Given up while the engine waits.
        let engine = SqliteEngine { wait: Duration::from_secs(20), reader: Reader::Auto };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(150));
                drop(program);
            });
            let mut sink = MemoryBackup::default();
            engine.capture(&Source::path(&scratch.path), &mut sink, &Context::silent()).unwrap();
        });
    }
}

#[test]
fn waiting_can_be_cancelled() {
    let scratch = Scratch::new(TABLE);
    let _program = holder(&scratch, "BEGIN EXCLUSIVE;");
    let context = Context::silent();
    let engine = SqliteEngine { wait: Duration::from_secs(60), reader: Reader::Auto };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            context.cancel.cancel();
        });
        let error = engine.capture(&Source::path(&scratch.path), &mut MemoryBackup::default(), &context).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Cancelled);
    });
}

#[test]
fn a_program_that_has_it_open_keeps_its_log() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {TABLE}"));
    let program = holder(&scratch, "SELECT * FROM t;");
    capture_both(&scratch);
    assert!(beside(&scratch.path, "-shm").exists());
    drop(program);
}

/// The program's own connections keep their locks, whatever the engine opens and closes beside them.
#[test]
fn locks_of_the_same_process_survive() {
    let scratch = Scratch::new(TABLE);
    let own = scratch.connect();
    own.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").unwrap();
    capture_both(&scratch);
    engine(Reader::Auto).identify(&Source::path(&scratch.path)).unwrap();
    assert!(shell(&scratch, "INSERT INTO t VALUES (3)").contains("locked"));
    own.execute_batch("COMMIT").unwrap();
    assert_eq!(shell(&scratch, "SELECT x FROM t"), "1\n2\n");
}

const CHILD: &str = "capture::locking_tests::unprivileged_capture";

/// Not a test by itself: a capture by somebody with fewer rights. Ends with the kind of the error.
#[test]
fn unprivileged_capture() {
    let Ok(path) = std::env::var("COPAL_TEST_CAPTURE") else { return };
    let reader = if std::env::var("COPAL_TEST_READER").unwrap() == "Raw" { Reader::Raw } else { Reader::DbPage };
    let code = match capture(Path::new(&path), reader) {
        Ok((backup, capture)) => {
            let rows = capture.inventory.tables.iter().find(|t| t.name == "t").and_then(|t| t.rows);
            assert_eq!(backup.bytes.len() as u64 / 4096, capture.inventory.facts["page_count"].parse::<u64>().unwrap());
            10 + i32::try_from(rows.unwrap()).unwrap()
        }
        Err(error) => match error.kind {
            EngineErrorKind::PermissionDenied => 100,
            EngineErrorKind::Busy => 101,
            _ => 102,
        },
    };
    std::process::exit(code);
}

/// A copy of the test program where anybody can reach it, to run captures as somebody else (if we are root).
struct Nobody {
    dir: tempfile::TempDir,
}

impl Nobody {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(std::env::current_exe().unwrap(), dir.path().join("tests")).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// The exit code of `unprivileged_capture`.
    fn captures(&self, path: &Path, reader: Reader) -> i32 {
        let mut command = std::process::Command::new(self.dir.path().join("tests"));
        command.args(child(CHILD, &[]).get_args());
        command.envs([("COPAL_TEST_CAPTURE", path.to_str().unwrap()), ("COPAL_TEST_READER", &format!("{reader:?}"))]);
        command.stdout(std::process::Stdio::null()).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        command.status().unwrap().code().unwrap()
    }
}

struct ReadOnly<'a>(&'a Scratch);

impl<'a> ReadOnly<'a> {
    fn new(scratch: &'a Scratch) -> Self {
        for name in scratch.dir.path().read_dir().unwrap() {
            std::fs::set_permissions(name.unwrap().path(), std::fs::Permissions::from_mode(0o444)).unwrap();
        }
        std::fs::set_permissions(scratch.dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
        Self(scratch)
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        std::fs::set_permissions(self.0.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn what_may_only_be_read() {
    let nobody = Nobody::new();
    let mut wal = Vec::new();
    for reader in [Reader::Raw, Reader::DbPage] {
        let rollback = Scratch::new(TABLE);
        let _read_only = ReadOnly::new(&rollback);
        assert_eq!(nobody.captures(&rollback, reader), 11, "rollback mode");

        let logged = Scratch::new(&format!("PRAGMA journal_mode = wal; {TABLE}"));
        let program = logged.connect();
        program.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        let crashed = logged.crashed_copy();
        {
            let _read_only = ReadOnly::new(&crashed);
            assert_eq!(nobody.captures(&crashed, reader), 100, "a log that cannot be recovered");
        }
        {
            let _read_only = ReadOnly::new(&logged);
            // The running program's log, through a wal-index that may only be read.
            assert_eq!(nobody.captures(&logged, reader), 12, "{reader:?}");
        }
        // The same after a crash: SQLite makes an index of its own, of which we know nothing.
        std::fs::copy(beside(&logged.path, "-shm"), beside(&crashed.path, "-shm")).unwrap();
        {
            let _read_only = ReadOnly::new(&crashed);
            assert_eq!(nobody.captures(&crashed, reader), if reader == Reader::Raw { 101 } else { 12 }, "{reader:?}");
        }
        drop(program);

        let alone = Scratch::new(&format!("PRAGMA journal_mode = wal; {TABLE}"));
        assert_eq!(alone.names(), ["app.db"]);
        wal.push(alone);
    }
    // A database in WAL mode without its other files is read as immutable, once it is old enough to be sure.
    for (alone, reader) in wal.iter().zip([Reader::Raw, Reader::DbPage]) {
        let _read_only = ReadOnly::new(alone);
        let kind = nobody.captures(alone, reader);
        assert!(kind == 101 || kind == 11, "young: {kind}");
    }
    std::thread::sleep(Duration::from_millis(4_200));
    for (alone, reader) in wal.iter().zip([Reader::Raw, Reader::DbPage]) {
        std::fs::set_permissions(alone.dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
        assert_eq!(nobody.captures(alone, reader), 11);
        assert_eq!(alone.names(), ["app.db"]);
        std::fs::set_permissions(alone.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&wal[0].path, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(wal[0].dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(nobody.captures(&wal[0], Reader::Raw), 100, "may not even be read");
}
