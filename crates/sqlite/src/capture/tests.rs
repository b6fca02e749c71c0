//! Captures of databases of every kind, in every state.

use std::path::Path;
use std::sync::{Arc, Mutex};

use copal_core::{CancelToken, CheckLevel, Context, Engine, EngineErrorKind, Source};

use crate::testing::{Between, MemoryBackup, Phases, Scratch, capture, capture_both, engine, restore, shell};
use crate::{Reader, SqliteEngine};

const READERS: [Reader; 2] = [Reader::Raw, Reader::DbPage];
const ROWS: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, filler BLOB); CREATE INDEX by_word ON t (word);
    WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 700)
    INSERT INTO t (word, filler) SELECT 'word ' || (i * 7919 % 1000), randomblob(i % 300) FROM n;";

/// Captures, restores, and compares with what the sqlite3 program says about the source.
fn round_trip(path: &Path) -> MemoryBackup {
    let (backup, capture) = capture_both(path);
    let other = Scratch::new("");
    let restored = restore(&backup, &other.path, false).unwrap();
    assert_eq!(restored.check.ran, ["integrity_check", "foreign_key_check"]);
    let found = engine(Reader::Auto).inventory(&Source::path(&other.path), &Context::silent()).unwrap();
    assert_eq!(capture.inventory.compare(&found), []);
    assert_eq!(shell(path, ".dump"), shell(&other.path, ".dump"));
    backup
}

#[test]
fn every_page_size_and_journal_mode() {
    for page_size in [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] {
        for mode in ["wal", "delete"] {
            let scratch =
                Scratch::new(&format!("PRAGMA page_size = {page_size}; PRAGMA journal_mode = {mode}; {ROWS}"));
            // Stays open, with a log of which nothing, then a part, is in the main file.
            let writer = scratch.connect();
            writer.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE t SET word = 'new' WHERE id % 3 = 0").unwrap();
            let backup = round_trip(&scratch);
            assert_eq!(
                backup.bytes[16..18],
                if page_size == 65_536 { [0, 1] } else { (page_size as u16).to_be_bytes() }
            );
            writer.execute_batch("PRAGMA wal_checkpoint; DELETE FROM t WHERE id % 5 = 0").unwrap();
            round_trip(&scratch);
            writer.execute_batch("PRAGMA wal_checkpoint").unwrap();
            round_trip(&scratch);
        }
    }
}

#[test]
fn every_kind_of_table() {
    let scratch = Scratch::new(
        "CREATE VIRTUAL TABLE docs USING fts5 (body); INSERT INTO docs VALUES ('amber and resin'), ('copal');
         CREATE VIRTUAL TABLE places USING rtree (id, x0, x1); INSERT INTO places VALUES (1, 0, 1), (2, 5, 6);
         CREATE TABLE pairs (a TEXT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID;
         INSERT INTO pairs VALUES ('x', 1), ('y', 2);
         CREATE TABLE sums (a INT, b INT AS (a * 2) STORED, c INT AS (a + 1));
         INSERT INTO sums (a) VALUES (1), (2), (3);
         CREATE TABLE \"we\"\"ird 'name\" (x); CREATE VIEW v AS SELECT * FROM nowhere;
         CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO counted DEFAULT VALUES;
         PRAGMA user_version = 42; PRAGMA application_id = 7;",
    );
    round_trip(&scratch);
    let (_, capture) = capture(&scratch, Reader::Auto).unwrap();
    let rows = |name: &str| capture.inventory.tables.iter().find(|t| t.name == name).unwrap().rows;
    assert_eq!((rows("docs"), rows("docs_content"), rows("places")), (None, Some(2), None));
    assert_eq!(
        (rows("pairs"), rows("sums"), rows("we\"ird 'name"), rows("counted")),
        (Some(2), Some(3), Some(0), Some(1))
    );
    let fact = |name: &str| capture.inventory.facts[name].as_str();
    assert_eq!((fact("user_version"), fact("application_id"), fact("encoding")), ("42", "7", "UTF-8"));
    assert_eq!((fact("page_size"), fact("journal_mode"), fact("auto_vacuum")), ("4096", "delete", "0"));
}

#[test]
fn what_this_build_does_not_know_is_not_counted() {
    let scratch = Scratch::new(
        "CREATE TABLE names (name TEXT PRIMARY KEY COLLATE NOCASE) WITHOUT ROWID; INSERT INTO names VALUES ('a');
         CREATE TABLE plain (name TEXT COLLATE NOCASE UNIQUE, filler); INSERT INTO plain VALUES ('a', zeroblob(9000));
         CREATE VIRTUAL TABLE odd USING fts5 (x);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(replace(sql, 'NOCASE', 'klingon'), 'fts5', 'nosuchmodule');",
    );
    let (_, capture) = capture(&scratch, Reader::Auto).unwrap();
    let rows = |name: &str| capture.inventory.tables.iter().find(|t| t.name == name).unwrap().rows;
    assert_eq!((rows("names"), rows("plain"), rows("odd")), (None, Some(1), None));
}

#[test]
fn auto_vacuum_growth_and_shrinking() {
    for mode in ["FULL", "INCREMENTAL"] {
        let scratch = Scratch::new(&format!("PRAGMA auto_vacuum = {mode}; {ROWS} DELETE FROM t WHERE id > 400;"));
        let before = round_trip(&scratch).bytes.len();
        scratch.run("PRAGMA incremental_vacuum; DELETE FROM t WHERE id > 300; VACUUM");
        assert!(round_trip(&scratch).bytes.len() < before);
        scratch.run("INSERT INTO t (filler) VALUES (zeroblob(1000000))");
        assert!(round_trip(&scratch).bytes.len() > before);
    }
}

#[test]
fn reserved_bytes() {
    let scratch = Scratch::new(ROWS);
    let handed = std::process::Command::new("sqlite3")
        .arg(&scratch.path)
        .args([".filectrl reserve_bytes 32", "VACUUM"])
        .output()
        .unwrap();
    assert!(handed.status.success());
    assert_eq!(round_trip(&scratch).bytes[20], 32, "the bytes are reserved");
}

/// Another connection commits, checkpoints and restarts its log between any two runs of the capture.
#[test]
fn writers_go_on_and_are_not_seen() {
    for reader in READERS {
        for prepare in
            ["", "UPDATE t SET word = 'logged';", "PRAGMA wal_checkpoint;", "PRAGMA wal_checkpoint(TRUNCATE);"]
        {
            let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {ROWS}"));
            scratch.run("INSERT INTO t (filler) VALUES (randomblob(5000000))");
            let writer = scratch.connect();
            writer.execute_batch(&format!("PRAGMA wal_autocheckpoint = 0; {prepare}")).unwrap();
            writer.busy_timeout(std::time::Duration::ZERO).unwrap();
            let expected = shell(&scratch, ".dump");
            let mut changes = 0;
            let call = |_| {
                changes += 1;
                let script = "UPDATE t SET word = 'unseen'; DELETE FROM t WHERE id % 7 = 1;
                    INSERT INTO t (filler) VALUES (randomblob(100000)); PRAGMA wal_checkpoint;";
                writer.execute_batch(script).unwrap();
            };
            let mut sink = Between { backup: MemoryBackup::default(), call };
            engine(reader).capture(&Source::path(&scratch.path), &mut sink, &Context::silent()).unwrap();
            let backup = sink.backup;
            assert!(changes >= 5);
            let other = Scratch::new("");
            restore(&backup, &other.path, false).unwrap();
            assert!(expected == shell(&other.path, ".dump"), "{reader:?} after {prepare:?}");
        }
    }
}

#[test]
fn the_log_of_a_crash_is_read_and_left() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {ROWS}"));
    let writer = scratch.connect();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE t SET word = 'in the log'").unwrap();
    let crashed = scratch.crashed_copy();
    let before = crashed.listing();
    assert_eq!(before.len(), 2);
    for reader in READERS {
        let (backup, _) = capture(&crashed, reader).unwrap();
        assert!(crashed.listing() == before, "nothing was changed");
        let other = Scratch::new("");
        restore(&backup, &other.path, false).unwrap();
        assert_eq!(shell(&other.path, "SELECT count(*) FROM t WHERE word = 'in the log'"), "700\n");
    }
}

#[test]
fn a_hot_journal_is_rolled_back() {
    let scratch = Scratch::new(ROWS);
    let writer = scratch.connect();
    writer.execute_batch("PRAGMA cache_size = 5; BEGIN; UPDATE t SET word = 'torn', filler = zeroblob(200)").unwrap();
    let crashed = scratch.crashed_copy();
    drop(writer);
    assert!(crashed.names().contains(&"app.db-journal".to_owned()));
    assert_ne!(std::fs::read(&crashed.path).unwrap(), std::fs::read(&scratch.path).unwrap());
    let expected = shell(&scratch, ".dump");
    let (backup, _) = capture(&crashed, Reader::Raw).unwrap();
    let other = Scratch::new("");
    restore(&backup, &other.path, false).unwrap();
    assert!(shell(&other.path, ".dump") == expected);
}

#[test]
fn a_backup_leaves_no_trace() {
    for mode in ["wal", "delete"] {
        let scratch = Scratch::new(&format!("PRAGMA journal_mode = {mode}; {ROWS}"));
        let before = scratch.listing();
        capture_both(&scratch);
        engine(Reader::Auto).identify(&Source::path(&scratch.path)).unwrap();
        assert!(scratch.listing() == before);
        assert!(!crate::place::beside(&scratch.path, "-shm").exists());
    }
}

#[test]
fn names_that_mislead() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["we ird?mode=memory#x%20y'\"ü.db", "-init", ":memory:", "file:x.db", "a.db-wal.db", "日本.sqlite"] {
        let path = dir.path().join(name);
        std::fs::rename(&Scratch::new(ROWS).path, &path).unwrap();
        let (backup, _) = capture_both(&path);
        assert!(backup.bytes == std::fs::read(&path).unwrap(), "{name}");
        let target = dir.path().join(format!("{name} restored"));
        restore(&backup, &target, false).unwrap();
        assert!(std::fs::read(&target).unwrap() == backup.bytes);
    }
}

#[test]
fn a_link_leads_to_the_log_of_the_real_file() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {ROWS}"));
    let writer = scratch.connect();
    writer.execute_batch("CREATE TABLE in_the_log (x)").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(&scratch.path, &link).unwrap();
    let (_, capture) = capture_both(&link);
    assert!(capture.inventory.tables.iter().any(|t| t.name == "in_the_log"));
    let identity = engine(Reader::Auto).identify(&Source::path(&link)).unwrap();
    assert_eq!(identity.canonical, scratch.path.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(identity.short_name, "app");
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let kind = || {
        let error = capture(&path, Reader::Auto).map(|_| ()).unwrap_err();
        assert!(error.message.contains("x.db"), "{error}");
        error.kind
    };
    assert_eq!(kind(), EngineErrorKind::NotFound);
    std::fs::write(&path, "id,name\n1,copal\n".repeat(100)).unwrap();
    assert_eq!(kind(), EngineErrorKind::NotThisEngine);
    let mut random = vec![0; 8192];
    blake3::Hasher::new().finalize_xof().fill(&mut random);
    std::fs::write(&path, &random).unwrap();
    assert_eq!(kind(), EngineErrorKind::Encrypted);
    // Nothing is done with files beside it either.
    std::fs::write(&path, "a long text ".repeat(1000)).unwrap();
    std::fs::write(dir.path().join("x.db-journal"), "my diary").unwrap();
    assert_eq!(kind(), EngineErrorKind::NotThisEngine);
    assert_eq!(std::fs::read(dir.path().join("x.db-journal")).unwrap(), b"my diary");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(kind(), EngineErrorKind::NotThisEngine);
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let scratch = Scratch::new("");
    std::fs::write(&scratch.path, b"").unwrap();
    assert!(!SqliteEngine::default().recognises(b""));
    let (backup, captured) = capture_both(&scratch);
    assert!(backup.bytes.is_empty());
    let other = Scratch::new("");
    restore(&backup, &other.path, false).unwrap();
    assert_eq!(std::fs::metadata(&other.path).unwrap().len(), 0);
    let source = Source::path(&other.path);
    let found = engine(Reader::Auto).inventory(&source, &Context::silent()).unwrap();
    assert_eq!(captured.inventory.compare(&found), []);
    assert!(engine(Reader::Auto).check(&source, CheckLevel::Full, &Context::silent()).unwrap().problems.is_empty());
    std::fs::write(crate::place::beside(&scratch.path, "-wal"), b"frames").unwrap();
    let error = capture(&scratch, Reader::Auto).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt);
}

#[test]
fn damage_is_an_error() {
    let whole = Scratch::new(ROWS);
    let bytes = std::fs::read(&whole.path).unwrap();
    let pages = bytes.len() / 4096;
    type Damage = Box<dyn Fn(&mut Vec<u8>)>;
    let cases: [(&str, Damage); 5] = [
        ("truncated by a page", Box::new(move |b| b.truncate((pages - 1) * 4096))),
        ("truncated within a page", Box::new(move |b| b.truncate(pages * 4096 - 100))),
        ("page size", Box::new(|b| b[16] = 3)),
        ("inner page", Box::new(|b| b[4096..8192].fill(0x55))),
        ("schema", Box::new(|b| b[100..110].fill(0xff))),
    ];
    for (what, damage) in cases {
        let mut damaged = bytes.clone();
        damage(&mut damaged);
        let scratch = Scratch::new("");
        std::fs::write(&scratch.path, &damaged).unwrap();
        for reader in READERS {
            let error = capture(&scratch, reader).map(|_| ()).unwrap_err();
            assert_eq!(error.kind, EngineErrorKind::Corrupt, "{what} {reader:?}: {error} {:?}", error.source);
        }
        let source = Source::path(&scratch.path);
        let report = engine(Reader::Auto).check(&source, CheckLevel::Quick, &Context::silent()).unwrap();
        assert!(!report.problems.is_empty(), "{what}");
    }
}

#[test]
fn a_main_file_cut_off_under_its_log_is_damage() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {ROWS}"));
    let writer = scratch.connect();
    writer.execute_batch("UPDATE t SET word = 'x' WHERE id = 1").unwrap();
    let crashed = scratch.crashed_copy();
    std::fs::OpenOptions::new().write(true).open(&crashed.path).unwrap().set_len(3 * 4096).unwrap();
    for reader in READERS {
        let error = capture(&crashed, reader).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn cancelling_stops_it() {
    let scratch = Scratch::new("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(5000000))");
    let token = CancelToken::default();
    let context = Context { cancel: token.clone(), ..Context::silent() };
    let mut runs = 0;
    let call = |_| {
        runs += 1;
        token.cancel();
    };
    let mut sink = Between { backup: MemoryBackup::default(), call };
    let error = engine(Reader::Raw).capture(&Source::path(&scratch.path), &mut sink, &context).unwrap_err();
    assert_eq!((error.kind, runs), (EngineErrorKind::Cancelled, 1));
}

#[test]
fn cancelling_stops_a_count() {
    let scratch = Scratch::new(
        "PRAGMA page_size = 512; CREATE TABLE t (x);
         WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO t SELECT zeroblob(300) FROM n",
    );
    let token = CancelToken::default();
    let phases = Arc::new(Phases { seen: Mutex::default(), cancel_in: Some(("counting", token.clone())) });
    let context = Context { cancel: token, progress: phases.clone() };
    let mut sink = MemoryBackup::default();
    let result = engine(Reader::Raw).capture(&Source::path(&scratch.path), &mut sink, &context);
    assert_eq!(result.unwrap_err().kind, EngineErrorKind::Cancelled);
    assert_eq!(*phases.seen.lock().unwrap(), ["reading", "counting"]);
}
