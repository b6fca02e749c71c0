//! Snapshots beside the database and in a folder of the user's, of databases in use, on both kinds of file systems.

mod killed;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use copal_core::{
    Context, Engine, EngineErrorKind, EngineResult, RewindOptions, Rewound, Snapshot, SnapshotId, SnapshotNote,
    SnapshotRequest, Snapshots, Source, Taken,
};
use copal_file_engine::testing::Reflinks;

use crate::capture::hammer_tests::{Hammered, assert_one_state};
use crate::place::beside;
use crate::testing::{MemoryBackup, Scratch, capture, engine, holder, shell};
use crate::{Reader, SqliteEngine};

const ONE: &str = "CREATE TABLE t (x); INSERT INTO t VALUES ('one');";
const TWO: &str = "INSERT INTO t VALUES ('two');";

/// The snapshot engine, which hides the methods of the same name.
fn snapshots(engine: &SqliteEngine) -> &dyn Snapshots {
    Engine::snapshots(engine).unwrap()
}

fn id(n: u32) -> SnapshotId {
    format!("20261120-153000Z-{n:04x}").parse().unwrap()
}

fn request(n: u32, label: Option<&str>) -> SnapshotRequest {
    let note =
        SnapshotNote { name: format!("Nr. {n} 'ä\" 雪"), label: label.map(str::to_owned), ..SnapshotNote::default() };
    SnapshotRequest { id: id(n), note, spare: false }
}

fn take(path: &Path, n: u32) -> EngineResult<Taken> {
    snapshots(&engine(Reader::Auto)).take(&Source::path(path), &request(n, None), &Context::silent())
}

fn list(path: &Path) -> Vec<Snapshot> {
    snapshots(&engine(Reader::Auto)).list(&Source::path(path), &Context::silent()).unwrap()
}

fn rewind(path: &Path, n: u32, force: bool) -> EngineResult<Rewound> {
    let (engine, context) = (engine(Reader::Auto), Context::silent());
    let options = RewindOptions { force, spare: false };
    snapshots(&engine).prepare(&Source::path(path), &id(n), options, &context)?.finish(&context)
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

/// A folder on each kind of file system that is here, and how snapshots are made there.
fn places(reflinks: Option<&Reflinks>) -> Vec<(PathBuf, &'static str)> {
    let plain = std::env::temp_dir();
    let clones = reflinks.map(|reflinks| (reflinks.path().to_owned(), "reflink"));
    [(plain, "live copy")].into_iter().chain(clones).collect()
}

#[test]
fn there_and_back_again() {
    let reflinks = Reflinks::find();
    for (folder, method) in places(reflinks.as_ref()) {
        for name in ["app.db", "a 'b\" ü 雪.sqlite", "plain", "x.json"] {
            let scratch = Scratch::within(&folder, name, &format!("PRAGMA journal_mode = wal; {ONE}"));
            std::fs::set_permissions(&scratch.path, std::fs::Permissions::from_mode(0o640)).unwrap();
            let taken = take(&scratch.path, 1).unwrap().snapshot;
            assert_eq!((taken.method.as_str(), taken.bytes), (method, Some(8192)), "{name}");
            assert_eq!(taken.used_bytes.is_some(), method == "live copy");
            scratch.run(TWO);
            take(&scratch.path, 2).unwrap();
            assert_eq!(list(&scratch.path).iter().map(|s| s.id.clone()).collect::<Vec<_>>(), [id(1), id(2)]);
            assert_eq!(list(&scratch.path)[0], taken);
            rewind(&scratch.path, 1, false).unwrap();
            assert_eq!(shell(&scratch, "SELECT x FROM t"), "one\n", "{name}");
            assert_eq!(scratch.path.metadata().unwrap().mode() & 0o777, 0o640);
            rewind(&scratch.path, 2, false).unwrap();
            assert_eq!(shell(&scratch, "PRAGMA quick_check; SELECT x FROM t"), "ok\none\ntwo\n", "{name}");
            assert_eq!(names_in(&folder_of(&scratch.path)).len(), 4);
            assert_eq!(std::fs::read_to_string(scratch.dir.path().join(".copal/.gitignore")).unwrap(), "*\n");
        }
    }
}

#[test]
fn a_snapshot_is_a_plain_file_that_can_be_moved_back() {
    let reflinks = Reflinks::find();
    for (folder, _) in places(reflinks.as_ref()) {
        let scratch = Scratch::within(&folder, "app.db", &format!("PRAGMA journal_mode = wal; {ONE}"));
        // What it says stands in the log, which nobody has taken into the main file.
        let user = scratch.connect();
        user.execute_batch(&format!("PRAGMA wal_autocheckpoint = 0; {TWO}")).unwrap();
        take(&scratch.path, 1).unwrap();
        drop(user);
        let file = folder_of(&scratch.path).join(format!("{}.db", id(1)));
        assert_eq!(names_in(&folder_of(&scratch.path)), [format!("{}.db", id(1)), format!("{}.json", id(1))]);
        std::fs::remove_file(&scratch.path).unwrap();
        std::fs::rename(&file, &scratch.path).unwrap();
        assert_eq!(shell(&scratch, "PRAGMA integrity_check; SELECT x FROM t"), "ok\none\ntwo\n");
        assert!(list(&scratch.path).is_empty(), "what was moved away is not there any more");
        let notes = snapshots(&engine(Reader::Auto)).settle(&Source::path(&scratch.path), false, &Context::silent());
        assert!(notes.unwrap()[0].contains("20261120-153000Z-0001"));
        assert!(names_in(&folder_of(&scratch.path)).is_empty());
    }
}

#[test]
fn under_fire_every_snapshot_is_one_state() {
    let reflinks = Reflinks::find();
    for (folder, method) in places(reflinks.as_ref()) {
        for (mode, rounds) in [("wal", 60), ("delete", 25), ("truncate", 15)] {
            let hammered = Hammered::start(&folder, mode);
            let path = &hammered.scratch.path;
            let engine = SqliteEngine { wait: std::time::Duration::from_secs(30), reader: Reader::Auto };
            let (mut last, mut moved) = (0, 0);
            for round in 0..rounds {
                let what = format!("{method}, {mode}, round {round}");
                let source = Source::path(path);
                let taken = snapshots(&engine).take(&source, &request(round, None), &Context::silent()).unwrap();
                assert_eq!(taken.snapshot.method, method);
                let file = folder_of(path).join(format!("{}.db", id(round)));
                let (now, _) = assert_one_state(&file, &what);
                assert!(now >= last, "{what}: back in time");
                moved += u32::from(now > last);
                last = now;
                snapshots(&engine).remove(&source, &id(round), &Context::silent()).unwrap();
            }
            assert!(moved > 3, "the writers were at work: {moved}");
        }
    }
}

#[test]
fn a_lock_of_this_process_outlives_a_snapshot() {
    let reflinks = Reflinks::find();
    for (folder, _) in places(reflinks.as_ref()) {
        let scratch = Scratch::within(&folder, "app.db", ONE);
        let user = scratch.connect();
        user.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES ('mine')").unwrap();
        take(&scratch.path, 1).unwrap();
        assert!(shell(&scratch, "INSERT INTO t VALUES (2)").contains("locked"), "another process is kept out");
        user.execute_batch("COMMIT").unwrap();
        let file = folder_of(&scratch.path).join(format!("{}.db", id(1)));
        assert_eq!(shell(&file, "SELECT x FROM t"), "one\n");
    }
}

#[test]
fn who_has_it_open_is_named_and_can_be_passed_over() {
    let reflinks = Reflinks::find();
    for (folder, method) in places(reflinks.as_ref()) {
        for script in [
            "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES ('in the log');",
            "PRAGMA cache_size = 1; BEGIN IMMEDIATE; UPDATE t SET x = 'torn'; INSERT INTO t VALUES (zeroblob(100000));",
            "SELECT * FROM t;",
        ] {
            let what = format!("{method}: {script}");
            let scratch = Scratch::within(&folder, "app.db", ONE);
            take(&scratch.path, 1).unwrap();
            scratch.run(TWO);
            let program = holder(&scratch, script);
            let before = names_in(scratch.dir.path());
            let error = rewind(&scratch.path, 1, false).unwrap_err();
            assert_eq!(error.kind, EngineErrorKind::Busy, "{what}: {error}");
            assert!(error.message.contains("sqlite3 with process id"), "{error}");
            assert!(error.hint.unwrap().contains("--force"));
            assert_eq!(names_in(scratch.dir.path()), before, "{what}");
            let notes = rewind(&scratch.path, 1, true).unwrap().notes;
            assert!(notes.iter().any(|note| note.contains("sqlite3")), "{what}: {notes:?}");
            assert_eq!(names_in(scratch.dir.path()), [".copal", "app.db"], "{what}");
            assert_eq!(shell(&scratch, "PRAGMA integrity_check; SELECT x FROM t"), "ok\none\n", "{what}");
            // Whatever that program does, or its end, is nothing to the new database.
            shell(&scratch, "INSERT INTO t VALUES ('three')");
            drop(program);
            assert_eq!(shell(&scratch, "PRAGMA integrity_check; SELECT x FROM t"), "ok\none\nthree\n", "{what}");
        }
    }
}

#[test]
fn a_database_that_is_gone_comes_back() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {ONE}"));
    std::fs::set_permissions(&scratch.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let link = scratch.dir.path().join("link.db");
    std::os::unix::fs::symlink("app.db", &link).unwrap();
    take(&link, 1).unwrap();
    for through in [&scratch.path, &link] {
        std::fs::remove_file(&scratch.path).unwrap();
        std::fs::write(beside(&scratch.path, "-wal"), b"of a database that is gone").unwrap();
        assert_eq!(list(through).len(), 1);
        rewind(through, 1, false).unwrap();
        assert_eq!(shell(&scratch, "SELECT x FROM t"), "one\n");
        assert_eq!(scratch.path.metadata().unwrap().mode() & 0o777, 0o644);
        assert_eq!(names_in(scratch.dir.path()), [".copal", "app.db", "link.db"]);
    }
    let elsewhere = scratch.dir.path().join("no such.db");
    assert_eq!(take(&elsewhere, 2).unwrap_err().kind, EngineErrorKind::NotFound);
    assert_eq!(rewind(&elsewhere, 1, false).unwrap_err().kind, EngineErrorKind::NotFound);
    assert!(list(&elsewhere).is_empty() && list(Path::new("/no/such/folder.db")).is_empty());
    assert!(!folder_of(&elsewhere).exists());
}

#[test]
fn what_it_tells() {
    for (script, version) in [
        ("", None),
        ("PRAGMA user_version = 7", Some("7")),
        ("CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('ae10')", Some("ae10")),
        ("CREATE TABLE schema_migrations (version); INSERT INTO schema_migrations VALUES (3), (12)", Some("12")),
        // Of somebody else.
        ("CREATE TABLE goose_db_version (y); PRAGMA user_version = 2", Some("2")),
    ] {
        let scratch = Scratch::new(&format!("{ONE}{script}"));
        let snapshot = take(&scratch.path, 1).unwrap().snapshot;
        assert_eq!(snapshot.schema_version.as_deref(), version, "{script}");
        assert!(snapshot.engine_version.starts_with("3."));
    }
    let scratch = Scratch::new("");
    std::fs::write(&scratch.path, b"").unwrap();
    assert_eq!(take(&scratch.path, 1).unwrap().snapshot.bytes, Some(0));
    rewind(&scratch.path, 1, false).unwrap();
    std::fs::write(&scratch.path, vec![0x55; 8192]).unwrap();
    assert_eq!(take(&scratch.path, 2).unwrap_err().kind, EngineErrorKind::NotThisEngine);
    assert_eq!(list(&scratch.path).len(), 1);
    assert_eq!(names_in(&folder_of(&scratch.path)).len(), 2);
}

#[test]
fn described_anew_and_removed() {
    let scratch = Scratch::new(ONE);
    let (engine, source, context) = (engine(Reader::Auto), Source::path(&scratch.path), Context::silent());
    let snapshots = snapshots(&engine);
    snapshots.take(&source, &request(1, Some("pre-migrate")), &context).unwrap();
    take(&scratch.path, 2).unwrap();
    let note = SnapshotNote { name: "anders".to_owned(), revision: 1, ..request(1, Some("other")).note };
    snapshots.describe(&source, &id(1), &note, &context).unwrap();
    assert_eq!(list(&scratch.path)[0].note, note);
    for bad in ["a/b", "", "ä", &"x".repeat(65)] {
        let error = snapshots.take(&source, &request(3, Some(bad)), &context).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Unsupported, "{bad}");
    }
    assert_eq!(snapshots.take(&source, &request(1, None), &context).unwrap_err().kind, EngineErrorKind::Exists);
    snapshots.remove(&source, &id(1), &context).unwrap();
    assert_eq!(snapshots.remove(&source, &id(1), &context).unwrap_err().kind, EngineErrorKind::NotFound);
    assert_eq!(names_in(&folder_of(&scratch.path)), [format!("{}.db", id(2)), format!("{}.json", id(2))]);
}

#[test]
fn a_folder_of_the_users_is_shared() {
    let (one, two) =
        (Scratch::new(ONE), Scratch::new(TWO.replace("INSERT INTO t", "CREATE TABLE t (x); INSERT INTO t").as_str()));
    let chosen = tempfile::tempdir().unwrap();
    let engine = engine(Reader::Auto);
    let shared = engine.snapshots_in(chosen.path()).unwrap();
    let context = Context::silent();
    let foreign =
        ["app-20261120-153000Z-00aa.db", "app-20261120-153000Z-00ab.json", ".notes.copal~0123456789abcdef", "app.db"];
    for name in foreign {
        std::fs::write(chosen.path().join(name), b"mine").unwrap();
    }
    let (first, second) = (Source::path(&one.path), Source::path(&two.path));
    shared.take(&first, &request(1, Some("pre-migrate")), &context).unwrap();
    shared.take(&second, &request(2, None), &context).unwrap();
    let file = shared.path(&first, &id(1)).unwrap().unwrap();
    assert_eq!(file, chosen.path().join("app-20261120-153000Z-0001-pre-migrate.db"));
    assert_eq!(shell(&file, "SELECT x FROM t"), "one\n");
    assert_eq!(shared.list(&first, &context).unwrap().len(), 1);
    assert_eq!(shared.path(&first, &id(2)).unwrap_err().kind, EngineErrorKind::NotFound, "that of another database");
    one.run(TWO);
    shared.prepare(&first, &id(1), RewindOptions::default(), &context).unwrap().finish(&context).unwrap();
    assert_eq!(shell(&one, "SELECT x FROM t"), "one\n");
    shared.settle(&first, false, &context).unwrap();
    shared.remove(&first, &id(1), &context).unwrap();
    shared.remove(&second, &id(2), &context).unwrap();
    let mut foreign = foreign.to_vec();
    foreign.sort_unstable();
    assert_eq!(names_in(chosen.path()), foreign);
    assert!(!one.dir.path().join(".copal").exists());
    let new = chosen.path().join("new/folder");
    engine.snapshots_in(&new).unwrap().take(&first, &request(1, None), &context).unwrap();
    assert_eq!(names_in(&new).len(), 2);
}

#[test]
fn to_and_from_a_backup() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {ONE}"));
    let (engine, source, context) = (engine(Reader::Auto), Source::path(&scratch.path), Context::silent());
    let (backup, captured) = capture(&scratch.path, Reader::Raw).unwrap();
    take(&scratch.path, 1).unwrap();
    scratch.run(TWO);
    let mut sink = MemoryBackup::default();
    let from_snapshot = snapshots(&engine).capture(&source, &id(1), &mut sink, &context).unwrap();
    assert_eq!(from_snapshot.inventory.tables, captured.inventory.tables);
    assert_eq!(names_in(&folder_of(&scratch.path)).len(), 2, "nothing is left beside it");
    let taken = snapshots(&engine).restore(&source, &backup, &request(2, None), &captured.inventory, &context).unwrap();
    assert_eq!(taken.snapshot.method, "restored");
    assert_eq!(shell(&scratch, "SELECT x FROM t"), "one\ntwo\n", "the database is not touched");
    rewind(&scratch.path, 2, false).unwrap();
    assert_eq!(shell(&scratch, "SELECT x FROM t"), "one\n");
    let unsound = MemoryBackup::of(vec![7; 8192]);
    let error =
        snapshots(&engine).restore(&source, &unsound, &request(3, None), &captured.inventory, &context).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt);
    assert_eq!(names_in(&folder_of(&scratch.path)).len(), 4);
}

#[test]
fn what_others_wrote_there_is_neither_listed_nor_touched() {
    let scratch = Scratch::new(ONE);
    take(&scratch.path, 1).unwrap();
    let folder = folder_of(&scratch.path);
    let sound = std::fs::read_to_string(folder.join(format!("{}.json", id(1)))).unwrap();
    let other = |n| sound.replace(id(1).as_str(), id(n).as_str());
    let json = |n| format!("{}.json", id(n));
    let hostile = [
        (json(2), sound.clone()),
        (json(3), other(3)[..200].to_owned()),
        (json(4), other(4).replace("app.db", "other.db")),
        (json(5), other(5).replace("\"parts\": []", "\"parts\": [\"/../../../etc/passwd\"]")),
        (json(6), other(6).replace("\"label\": null", "\"label\": \"../../x\"")),
        (json(7), other(7).replace("\"format\": 1", "\"format\": 2")),
        (format!("{}-..json", id(8)), "{}".to_owned()),
        ("20261120-153000Z-00aa".to_owned() + &"x".repeat(200) + ".json", sound.clone()),
        (json(9), "[".repeat(100_000)),
    ];
    for (name, text) in &hostile {
        std::fs::write(folder.join(name), text).unwrap();
        std::fs::write(folder.join(name.replace(".json", ".db")), b"not a database").unwrap();
    }
    // Not a file: reading it would block; a link elsewhere.
    let fifo = Command::new("mkfifo").arg(folder.join(json(10))).stderr(Stdio::null()).status();
    assert!(fifo.unwrap().success());
    std::fs::write(folder.join(json(11)), other(11)).unwrap();
    std::os::unix::fs::symlink(&scratch.path, folder.join(format!("{}.db", id(11)))).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("kept"), b"kept").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.join(format!(".{}.copal~0123456789abcdef", id(12)))).unwrap();
    let before = names_in(&folder);
    assert_eq!(list(&scratch.path).iter().map(|s| s.id.clone()).collect::<Vec<_>>(), [id(1)]);
    let context = Context::silent();
    snapshots(&engine(Reader::Auto)).settle(&Source::path(&scratch.path), false, &context).unwrap();
    for n in 2..12 {
        assert_eq!(rewind(&scratch.path, n, false).unwrap_err().kind, EngineErrorKind::NotFound, "{n}");
        let removed = snapshots(&engine(Reader::Auto)).remove(&Source::path(&scratch.path), &id(n), &context);
        assert_eq!(removed.unwrap_err().kind, EngineErrorKind::NotFound, "{n}");
    }
    assert_eq!(names_in(&folder), before);
    assert!(outside.path().join("kept").exists());
    // A snapshot that somebody wrote to is not what was taken.
    shell(&folder.join(format!("{}.db", id(1))), "INSERT INTO t VALUES (zeroblob(10000))");
    let error = rewind(&scratch.path, 1, false).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt, "{error}");
    assert!(error.message.contains("was changed"));
    assert_eq!(shell(&scratch, "SELECT x FROM t"), "one\n");
}

#[test]
fn one_call_at_a_time() {
    let scratch = Scratch::new(ONE);
    take(&scratch.path, 1).unwrap();
    // Many at once: each is done, or was told that another one worked there.
    std::thread::scope(|scope| {
        for n in 2..10 {
            let path = &scratch.path;
            scope.spawn(move || {
                let done = match n % 2 {
                    0 => take(path, n).map(drop),
                    _ => rewind(path, 1, false).map(drop),
                };
                if let Err(error) = done {
                    assert_eq!(error.kind, EngineErrorKind::Busy, "{n}: {error}");
                }
            });
        }
    });
    for snapshot in list(&scratch.path) {
        let file = folder_of(&scratch.path).join(format!("{}.db", snapshot.id));
        assert_eq!(shell(&file, "PRAGMA integrity_check; SELECT x FROM t"), "ok\none\n");
    }
    assert_eq!(shell(&scratch, "PRAGMA integrity_check; SELECT x FROM t"), "ok\none\n");
    let _held =
        copal_storage::local_file::FolderLock::take(&folder_of(&scratch.path), std::time::Duration::ZERO, || true);
    let error = take(&scratch.path, 20).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Busy);
    assert!(error.message.contains("app.db"), "{error}");
    assert!(!list(&scratch.path).is_empty(), "a list needs no lock");
}
