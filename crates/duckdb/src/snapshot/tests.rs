//! Snapshots of databases that a DuckDB owns and writes to, and calls that are killed at each of their steps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use copal_core::{
    Context, Engine, EngineErrorKind, EngineResult, RewindOptions, Rewound, Snapshot, SnapshotId, SnapshotNote,
    SnapshotRequest, Snapshots, Source, Taken,
};
use copal_file_engine::testing::{Reflinks, abort_at};

use crate::DuckDbEngine;
use crate::testing::{FolderSink, Python};

const VERSION: &str = "1.4.5";
/// More steps than any call has.
const STEPS: u32 = 60;

fn with<T>(act: impl FnOnce(&dyn Snapshots) -> T) -> T {
    act(Engine::snapshots(&DuckDbEngine::default()).unwrap())
}

fn id(n: u32) -> SnapshotId {
    format!("20261120-153000Z-{n:04x}").parse().unwrap()
}

fn take(path: &Path, n: u32) -> EngineResult<Taken> {
    let request = SnapshotRequest { id: id(n), note: SnapshotNote::default(), spare: false };
    with(|snapshots| snapshots.take(&Source::path(path), &request, &Context::silent()))
}

fn list(path: &Path) -> Vec<Snapshot> {
    with(|snapshots| snapshots.list(&Source::path(path), &Context::silent())).unwrap()
}

fn rewind(path: &Path, n: u32, force: bool) -> EngineResult<Rewound> {
    let options = RewindOptions { force, spare: false };
    let context = Context::silent();
    with(|snapshots| snapshots.prepare(&Source::path(path), &id(n), options, &context)?.finish(&context))
}

fn remove(path: &Path, n: u32) -> EngineResult<()> {
    with(|snapshots| snapshots.remove(&Source::path(path), &id(n), &Context::silent()))
}

fn settle(path: &Path) -> Vec<String> {
    with(|snapshots| snapshots.settle(&Source::path(path), false, &Context::silent())).unwrap()
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap().join(".copal/snapshots").join(path.file_name().unwrap())
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn places(reflinks: Option<&Reflinks>) -> Vec<(tempfile::TempDir, &'static str)> {
    let clones = reflinks.map(|reflinks| (tempfile::tempdir_in(reflinks.path()).unwrap(), "reflink"));
    [(tempfile::tempdir().unwrap(), "live copy")].into_iter().chain(clones).collect()
}

/// The values at a path, asked of a copy so that nothing changes.
fn values(path: &Path) -> String {
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", ".wal"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        if from.exists() {
            std::fs::copy(from, copy.path().join(format!("copy.duckdb{suffix}"))).unwrap();
        }
    }
    Python::owning(VERSION, &copy.path().join("copy.duckdb")).ask("SELECT DISTINCT v FROM t ORDER BY v")
}

/// A database that says `1`, and in its log, as a crash leaves it, whatever is to be added.
fn database(path: &Path, in_log: &[i32]) {
    for suffix in ["", ".wal"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    let mut owner = Python::owning(VERSION, path);
    owner.run("CREATE TABLE t AS SELECT 1 v, range n FROM range(1000); CHECKPOINT");
    for value in in_log {
        owner.run(&format!("INSERT INTO t VALUES ({value}, 0)"));
    }
    owner.kill();
}

/// What DuckDB says of databases, by their bytes: it need not be asked twice about the same.
#[derive(Default)]
struct Known(HashMap<[Option<Vec<u8>>; 2], String>);

impl Known {
    fn values(&mut self, path: &Path) -> String {
        let bytes = ["", ".wal"].map(|suffix| std::fs::read(format!("{}{suffix}", path.display())).ok());
        self.0.entry(bytes).or_insert_with(|| values(path)).clone()
    }
}

/// Main file and log.
fn files(path: &Path) -> [Vec<u8>; 2] {
    ["", ".wal"].map(|suffix| std::fs::read(format!("{}{suffix}", path.display())).unwrap())
}

fn place(path: &Path, files: &[Vec<u8>; 2]) {
    for (suffix, bytes) in ["", ".wal"].iter().zip(files) {
        std::fs::write(format!("{}{suffix}", path.display()), bytes).unwrap();
    }
}

#[test]
fn there_and_back_again() {
    let reflinks = Reflinks::find();
    for (folder, method) in places(reflinks.as_ref()) {
        for name in ["a 'b\" ü 雪.duckdb", "a?b.db"] {
            let path = folder.path().join(name);
            let mut owner = Python::owning(VERSION, &path);
            owner.run("CREATE TABLE t AS SELECT 1 v, range n FROM range(1000); CHECKPOINT");
            assert_eq!(take(&path, 1).unwrap().snapshot.method, method, "{name}");
            owner.run("INSERT INTO t VALUES (2, 0)");
            let taken = take(&path, 2).unwrap().snapshot;
            assert!(taken.engine_version.contains(VERSION), "{taken:?}");
            owner.run("UPDATE t SET v = 3; CHECKPOINT; INSERT INTO t VALUES (4, 0)");
            owner.kill();
            rewind(&path, 2, false).unwrap();
            assert_eq!(Python::owning(VERSION, &path).ask("SELECT DISTINCT v FROM t ORDER BY v"), "[(1,), (2,)]");
            rewind(&path, 1, false).unwrap();
            assert_eq!(Python::owning(VERSION, &path).ask("SELECT DISTINCT v FROM t"), "[(1,)]");
            let listed = list(&path);
            assert_eq!(listed.iter().map(|s| s.used_bytes.is_some()).collect::<Vec<_>>(), [method != "reflink"; 2]);
            let mut sink = FolderSink::new(&folder.path().join("captured"));
            let (source, context) = (Source::path(&path), Context::silent());
            let captured = with(|snapshots| snapshots.capture(&source, &id(2), &mut sink, &context)).unwrap();
            assert_eq!(captured.inventory.facts["log_transactions"], "1");
            remove(&path, 1).unwrap();
            remove(&path, 2).unwrap();
            assert!(names_in(&folder_of(Path::new(&path.to_str().unwrap().replace('?', "%3F")))).is_empty());
        }
    }
}

#[test]
fn under_fire_every_snapshot_is_one_state() {
    let reflinks = Reflinks::find();
    for (folder, method) in places(reflinks.as_ref()) {
        for ends in ["CHECKPOINT", "SELECT 1"] {
            let path = folder.path().join(format!("{}.duckdb", ends.len()));
            let mut owner = Python::owning(VERSION, &path);
            owner.run("CREATE TABLE account AS SELECT range id, 1000 b, 'x' || hash(range) filler FROM range(20000)");
            owner.run("CREATE TABLE log (n BIGINT); CHECKPOINT");
            owner.start(&format!(
                "FOR EVER BEGIN; UPDATE account SET b = b + CASE id % 2 WHEN 0 THEN 1 ELSE -1 END WHERE id < 1000; \
                 INSERT INTO log SELECT count(*) FROM log; COMMIT; {ends}"
            ));
            let (mut last, mut with_log) = (String::new(), 0);
            for round in 0..4 {
                let what = format!("{method}, {ends}, round {round}");
                let snapshot = take(&path, round).unwrap().snapshot;
                assert_eq!(snapshot.method, method, "{what}");
                let file = folder_of(&path).join(format!("{}.duckdb", id(round)));
                let copy = folder.path().join("copy.duckdb");
                for suffix in ["", ".wal"] {
                    let from = format!("{}{suffix}", file.display());
                    let to = format!("{}{suffix}", copy.display());
                    let _ = std::fs::remove_file(&to);
                    if Path::new(&from).exists() {
                        with_log += usize::from(!suffix.is_empty());
                        std::fs::copy(from, to).unwrap();
                    }
                }
                let mut found = Python::owning(VERSION, &copy);
                assert_eq!(found.ask("SELECT sum(b), count(*) FROM account"), "[(20000000, 20000)]", "{what}");
                assert_eq!(
                    found
                        .ask("SELECT count(*) - 1 - max(n) FROM log WHERE n >= 0 HAVING count(*) > 0")
                        .replace("[]", "[(0,)]"),
                    "[(0,)]",
                    "{what}"
                );
                let now = found.ask("SELECT lpad(count(*)::VARCHAR, 9, '0') FROM log");
                assert!(now >= last, "{what}: back in time");
                last = now;
                remove(&path, round).unwrap();
            }
            owner.kill();
            assert!(ends == "CHECKPOINT" || with_log > 0, "{method}: no snapshot had a log");
            assert!(settle(&path).is_empty());
        }
    }
}

#[test]
fn a_file_in_use_is_replaced_by_force_only() {
    let folder = tempfile::tempdir().unwrap();
    for in_log in [&[][..], &[2]] {
        let path = folder.path().join("a.duckdb");
        database(&path, in_log);
        let _ = remove(&path, 1);
        take(&path, 1).unwrap();
        let mut owner = Python::owning(VERSION, &path);
        owner.run("INSERT INTO t VALUES (3, 0)");
        if in_log.is_empty() {
            // Only once: it waits some seconds for the owner to go.
            let error = rewind(&path, 1, false).unwrap_err();
            assert_eq!(error.kind, EngineErrorKind::Busy);
            assert!(error.message.contains("python"), "{error}");
            assert!(error.hint.unwrap().contains("--force"));
        }
        let notes = rewind(&path, 1, true).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains("python")), "{notes:?}");
        owner.kill();
        assert_eq!(values(&path), if in_log.is_empty() { "[(1,)]" } else { "[(1,), (2,)]" });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Take,
    Rewind,
    Remove,
}

impl Call {
    fn run(self, path: &Path) -> EngineResult<()> {
        match self {
            Self::Take => take(path, 2).map(drop),
            Self::Rewind => rewind(path, 1, false).map(drop),
            Self::Remove => remove(path, 1),
        }
    }
}

const CALLS: [Call; 3] = [Call::Take, Call::Rewind, Call::Remove];

#[test]
#[ignore = "another test runs it as a process of its own"]
fn call_until_killed() {
    let Ok(call) = std::env::var("COPAL_TEST_CALL") else { return };
    abort_at(std::env::var("COPAL_TEST_STEP").unwrap().parse().ok());
    CALLS[call.parse::<usize>().unwrap()].run(Path::new(&std::env::var("COPAL_TEST_TARGET").unwrap())).unwrap();
}

#[test]
fn killed_at_any_step() {
    let (reflinks, mut known) = (Reflinks::find(), Known::default());
    for (folder, method) in places(reflinks.as_ref()) {
        let path = folder.path().join("a.duckdb");
        // The snapshot has a log, and so has the database now.
        let (then, now) = ("[(1,), (2,)]", "[(1,), (3,)]");
        let [as_then, as_now] = [2, 3].map(|value| {
            database(&path, &[value]);
            files(&path)
        });
        for call in CALLS {
            for step in 0.. {
                let what = format!("{call:?}, {method}, killed at step {step}");
                assert!(step < STEPS, "{what}");
                let _ = std::fs::remove_dir_all(folder.path().join(".copal"));
                place(&path, &as_then);
                take(&path, 1).unwrap();
                place(&path, &as_now);
                let first = folder_of(&path).join(format!("{}.duckdb", id(1)));
                let taken = files(&first);
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--ignored", "--exact", "snapshot::tests::call_until_killed"])
                    .env("COPAL_TEST_CALL", CALLS.iter().position(|c| *c == call).unwrap().to_string())
                    .env("COPAL_TEST_TARGET", &path)
                    .env("COPAL_TEST_STEP", step.to_string())
                    .output()
                    .unwrap()
                    .status;
                let listed = list(&path);
                assert!(call == Call::Remove || listed.iter().any(|s| s.id == id(1)), "{what}: the snapshot vanished");
                settle(&path);
                assert!(settle(&path).is_empty(), "{what}: settled at once");
                assert_eq!(list(&path), listed, "{what}");
                let mut expected: Vec<_> = listed
                    .iter()
                    .flat_map(|s| ["duckdb", "duckdb.wal", "json"].map(|extension| format!("{}.{extension}", s.id)))
                    .collect();
                expected.sort();
                assert_eq!(names_in(&folder_of(&path)), expected, "{what}");
                if listed.iter().any(|s| s.id == id(1)) {
                    assert!(files(&first) == taken, "{what}");
                }
                if listed.iter().any(|s| s.id == id(2)) {
                    assert_eq!(known.values(&folder_of(&path).join(format!("{}.duckdb", id(2)))), now, "{what}");
                }
                let found = known.values(&path);
                assert!(found == now || (call == Call::Rewind && found == then), "{what}: {found}");
                if status.success() {
                    assert!(step >= 5, "{what}: steps are passed");
                    break;
                }
                if call == Call::Rewind {
                    call.run(&path).unwrap();
                    assert_eq!(known.values(&path), then, "{what}: rewound in the end");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_followed_is_copied_while_it_stands_still() {
    let reflinks = Reflinks::find();
    for (folder, _) in places(reflinks.as_ref()) {
        let path = folder.path().join("a.duckdb");
        let mut owner = Python::in_memory("1.5.6");
        // Its own cipher will do for a test; the better one is in an extension.
        owner.run("SET force_mbedtls_unsafe = 'true'");
        let attach = format!("ATTACH '{}' AS e (ENCRYPTION_KEY 'secret')", path.display());
        owner.run(&attach);
        owner.run("CREATE TABLE e.t AS SELECT 1 v");
        owner.run("DETACH e");
        let begun = Instant::now();
        while let Err(error) = take(&path, 1) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
        }
        owner.run(&attach);
        owner.run("UPDATE e.t SET v = 2");
        owner.run("DETACH e");
        rewind(&path, 1, false).unwrap();
        owner.run(&attach);
        assert_eq!(owner.ask("SELECT v FROM e.t"), "[(1,)]");
        owner.run("DETACH e");
    }
}
