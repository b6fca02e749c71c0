//! Captures of databases that real DuckDBs made, in every state that has a way of its own. The hammer (`tests/hammer.rs`)
//! tries what a live database does meanwhile.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use copal_core::{Capture, Context, Engine, EngineError, EngineErrorKind, Source};
use copal_file_engine::testing::Reflinks;

use crate::format::checksum::checksum;
use crate::format::header::HEADERS_LENGTH;
use crate::testing::{FolderSink, Python, Warnings};
use crate::{CHECKPOINT_LOG, DuckDbEngine, LOG, MAIN_FILE};

const VERSIONS: [&str; 5] = ["1.1.3", "1.3.2", "1.4.5", "1.5.6", "2.0.0"];
/// A table of several blocks, half of it in the log.
const FILL: &str = "CREATE TABLE t AS SELECT range a, hash(range) b, 'x' || range c FROM range(300000); CHECKPOINT; \
                    INSERT INTO t SELECT -1 - range, range, 'log' FROM range(1000);";
const SUMS: &str = "SELECT count(*), sum(a), bit_xor(hash(a, b, c)) FROM t";

fn engine() -> DuckDbEngine {
    DuckDbEngine { deadline: Duration::from_secs(20), ..DuckDbEngine::default() }
}

fn copy(database: &Path, to: &Path) -> Result<Capture, EngineError> {
    engine().capture(&Source::path(database), &mut FolderSink::new(to), &Context::silent())
}

#[test]
fn a_database_in_use_is_copied_whole_by_every_version() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("a b 'ü\".duckdb"), folder.path().join("out"));
        let mut owner = Python::owning(version, &path);
        owner.run(FILL);
        let expected = owner.ask(SUMS);
        let capture = copy(&path, &out).unwrap();
        assert!(capture.notes.is_empty(), "{capture:?}");
        assert!(capture.engine_version.starts_with(version), "{capture:?}");
        assert_eq!(capture.inventory.facts["log_transactions"], "1");
        assert_eq!(capture.inventory, engine().inventory(&Source::path(&path), &Context::silent()).unwrap());
        drop(owner);
        let copied = out.join(MAIN_FILE);
        assert_eq!(capture.inventory, engine().inventory(&Source::path(&copied), &Context::silent()).unwrap());
        assert_eq!(Python::owning(version, &copied).ask(SUMS), expected, "{version}");
    }
}

#[test]
fn a_database_without_any_checkpoint_is_copied() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("new.duckdb"), folder.path().join("out"));
        let mut owner = Python::owning(version, &path);
        // Nothing but headers, then nothing but headers and log, then blocks to which only the log refers.
        copy(&path, &out).unwrap();
        assert_eq!(std::fs::metadata(out.join(MAIN_FILE)).unwrap().len(), HEADERS_LENGTH as u64);
        owner.run("SET checkpoint_threshold = '1GB'; CREATE TABLE t (a BIGINT, b UBIGINT, c VARCHAR); INSERT INTO t VALUES (1, 2, 'x')");
        copy(&path, &out).unwrap();
        owner.run("INSERT INTO t SELECT range, hash(range), 'y' || range FROM range(400000)");
        copy(&path, &out).unwrap();
        assert_eq!(Python::owning(version, &out.join(MAIN_FILE)).ask(SUMS), owner.ask(SUMS), "{version}");
    }
}

#[test]
fn an_owner_in_the_same_process_keeps_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.duckdb");
    let mut maker = Python::owning("1.4.5", &path);
    maker.run(FILL);
    maker.kill();
    // What a DuckDB in this process would do: one descriptor, one lock for writing.
    let own = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    rustix::fs::fcntl_lock(&own, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(Python::refuses("1.4.5", &path), "the lock does not keep DuckDB out");
    for round in 0..3 {
        copy(&path, &folder.path().join("out")).unwrap();
        engine().identify(&Source::path(&path)).unwrap();
        engine().inventory(&Source::path(&path), &Context::silent()).unwrap();
        assert!(Python::refuses("1.4.5", &path), "lost the lock in round {round}");
    }
    drop(own);
    assert!(!Python::refuses("1.4.5", &path));
}

#[test]
fn what_a_killed_owner_left_is_copied_whole() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("dead.duckdb"), folder.path().join("out"));
        let mut owner = Python::owning(version, &path);
        owner.run(FILL);
        let expected = owner.ask(SUMS);
        owner.kill();
        copy(&path, &out).unwrap();
        assert_eq!(Python::owning(version, &out.join(MAIN_FILE)).ask(SUMS), expected, "{version}");
    }
}

#[test]
fn a_checkpoint_that_was_interrupted_is_copied_as_it_stands() {
    for (version, when) in [
        ("1.1.3", "before_header"),
        ("1.4.5", "before_truncate"),
        ("1.5.6", "before_header"),
        ("2.0.0", "before_truncate"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("half.duckdb"), folder.path().join("out"));
        let mut owner = Python::owning(version, &path);
        owner.run(FILL);
        let expected = owner.ask(SUMS);
        owner.fail(&format!("SET debug_checkpoint_abort = '{when}'; CHECKPOINT"));
        owner.kill();
        let capture = copy(&path, &out).unwrap();
        assert!(capture.notes.iter().any(|note| note.contains("checkpoint was interrupted")), "{capture:?}");
        assert_eq!(Python::owning(version, &out.join(MAIN_FILE)).ask(SUMS), expected, "{version} {when}");
    }
}

#[test]
fn logs_are_found_beside_the_name_that_the_owner_uses() {
    // DuckDB resolves links since 1.5; before, the log lies beside the link.
    for (version, log) in [("1.1.3", "link.duckdb.wal"), ("1.4.5", "link.duckdb.wal"), ("1.5.6", "real.duckdb.wal")] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (real, link, log, out) = (at("real.duckdb"), at("link.duckdb"), at(log), at("out"));
        drop(Python::owning(version, &real));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut owner = Python::owning(version, &link);
        owner.run(FILL);
        let expected = owner.ask(SUMS);
        for name in [&link, &real] {
            copy(name, &out).unwrap();
            assert_eq!(Python::owning(version, &out.join(MAIN_FILE)).ask(SUMS), expected, "{version}");
        }
        // Two logs for one database: nobody can say which one counts.
        for name in ["real.duckdb.wal", "link.duckdb.wal"].map(at).iter().filter(|name| **name != log) {
            std::fs::copy(&log, name).unwrap();
        }
        assert!(copy(&link, &out).unwrap_err().message.contains("both claim"));
    }
}

#[test]
fn a_question_mark_in_the_name_moves_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("what?.duckdb"), folder.path().join("out"));
    let mut owner = Python::owning("1.5.6", &path);
    owner.run(FILL);
    copy(&path, &out).unwrap();
    assert_eq!(Python::owning("1.5.6", &out.join(MAIN_FILE)).ask(SUMS), owner.ask(SUMS));
}

#[test]
fn an_encrypted_database_is_copied_while_it_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("secret.duckdb"), folder.path().join("out"));
    let attach = |path: &Path| format!("ATTACH '{}' AS e (ENCRYPTION_KEY 'quack'); USE e", path.display());
    let mut owner = Python::in_memory("1.5.6");
    owner.run("SET force_mbedtls_unsafe = 'true'");
    owner.run(&attach(&path));
    owner.run(FILL);
    let expected = owner.ask(SUMS);
    let capture = copy(&path, &out).unwrap();
    assert!(capture.notes.iter().any(|note| note.contains("encrypted")), "{capture:?}");
    assert_eq!(capture.inventory.facts["encrypted"], "yes");
    let mut other = Python::in_memory("1.5.6");
    other.run("SET force_mbedtls_unsafe = 'true'");
    other.run(&attach(&out.join(MAIN_FILE)));
    assert_eq!(other.ask(SUMS), expected);
    // The log may grow meanwhile.
    owner.start("FOR EVER INSERT INTO e.t VALUES (1, 2, 'x')");
    copy(&path, &out).unwrap();
    let mut other = Python::in_memory("1.5.6");
    other.run("SET force_mbedtls_unsafe = 'true'");
    other.run(&attach(&out.join(MAIN_FILE)));
    other.ask(SUMS);
    // While the main file is written to, nothing can be said about it.
    drop(owner);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut sink = FolderSink::new(&out);
    sink.at_pages = Some(Box::new(move || file.set_modified(std::time::SystemTime::now()).unwrap()));
    let engine = DuckDbEngine { deadline: Duration::from_secs(1), ..engine() };
    let error = engine.capture(&Source::path(&path), &mut sink, &Context::silent()).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Busy, "{error}");
    assert!(error.message.contains("encrypted") && error.hint.is_some(), "{error}");
}

#[test]
fn a_version_of_the_future_is_copied_while_it_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("new.duckdb"), folder.path().join("out"));
    let mut owner = Python::owning("2.0.0", &path);
    owner.run(FILL);
    owner.kill();
    let mut file = std::fs::read(&path).unwrap();
    for header in [4096, 8192] {
        file[header + 56..header + 64].copy_from_slice(&77u64.to_le_bytes());
        let sum = checksum(&file[header + 8..header + 4096]);
        file[header..header + 8].copy_from_slice(&sum.to_le_bytes());
    }
    std::fs::write(&path, &file).unwrap();
    let capture = copy(&path, &out).unwrap();
    assert!(capture.notes[0].contains("storage version is 77"), "{capture:?}");
    assert_eq!(std::fs::read(out.join(MAIN_FILE)).unwrap(), file);
    let log = format!("{MAIN_FILE}{LOG}");
    assert_eq!(std::fs::read(out.join(log)).unwrap(), std::fs::read(folder.path().join("new.duckdb.wal")).unwrap());
}

#[test]
fn small_blocks_and_memory_maps_are_copied() {
    for (version, option) in [("1.3.2", "BLOCK_SIZE 16384"), ("2.0.0", "BLOCK_SIZE 16384"), ("2.0.0", "IO_MODE mmap")] {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("special.duckdb"), folder.path().join("out"));
        let mut owner = Python::in_memory(version);
        owner.run(&format!("ATTACH '{}' AS s ({option}); USE s", path.display()));
        owner.run(FILL);
        copy(&path, &out).unwrap();
        assert_eq!(Python::owning(version, &out.join(MAIN_FILE)).ask(SUMS), owner.ask(SUMS), "{version} {option}");
    }
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other, out) =
        (folder.path().join("a.duckdb"), folder.path().join("b.duckdb"), folder.path().join("out"));
    Python::owning("1.5.6", &path).run(FILL);
    let mut owner = Python::owning("1.5.6", &other);
    owner.run("CREATE TABLE t AS SELECT 1 a, 2 b, 'other' c");
    let expected = owner.ask(SUMS);
    drop(owner);
    let mut sink = FolderSink::new(&out);
    let (from, to) = (other.clone(), path.clone());
    // The second time there is nothing left to rename.
    sink.at_pages = Some(Box::new(move || drop(std::fs::rename(&from, &to))));
    engine().capture(&Source::path(&path), &mut sink, &Context::silent()).unwrap();
    assert_eq!(Python::owning("1.5.6", &out.join(MAIN_FILE)).ask(SUMS), expected);
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("bad.duckdb"), folder.path().join("out"));
    let mut owner = Python::owning("1.4.5", &path);
    owner.run(FILL);
    owner.kill();
    let damage = |path: &Path, at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    // A block: copied, since perhaps nothing uses it, and said.
    damage(&path, 12288 + 262_144 + 5000);
    let warnings = Warnings::default();
    engine().capture(&Source::path(&path), &mut FolderSink::new(&out), &warnings.context()).unwrap();
    assert!(
        warnings.all().iter().any(|text| text.contains("1 blocks") && text.contains("wrong checksums")),
        "{:?}",
        warnings.all()
    );
    // The log in its middle: DuckDB would not open it.
    let log = folder.path().join("bad.duckdb.wal");
    damage(&log, std::fs::metadata(&log).unwrap().len() / 2);
    let error = copy(&path, &out).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt, "{error}");
    assert!(error.message.contains("entry at byte"), "{error}");
    // The file was cut off: most of its blocks are missing, the free list among them.
    std::fs::remove_file(&log).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(12288 + 2 * 262_144).unwrap();
    assert_eq!(copy(&path, &out).unwrap_err().kind, EngineErrorKind::Corrupt);
    damage(&path, 4100);
    let error = copy(&path, &out).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt, "{error}");
    std::fs::write(&path, b"no database at all").unwrap();
    assert_eq!(copy(&path, &out).unwrap_err().kind, EngineErrorKind::NotThisEngine);
    assert!(!out.join(format!("{MAIN_FILE}{CHECKPOINT_LOG}")).exists());
}

#[test]
fn a_cancelled_capture_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("a.duckdb"), folder.path().join("out"));
    Python::owning("1.5.6", &path).run(FILL);
    let context = Context::silent();
    context.cancel.cancel();
    let error = engine().capture(&Source::path(&path), &mut FolderSink::new(&out), &context).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Cancelled);
}

/// The sums that must be the same in every state of the writer below.
const BALANCE: &str = "SELECT sum(b), count(*) FROM account";

#[test]
fn a_database_that_never_rests_is_cloned_or_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let reflinks = Reflinks::find();
    for (place, can_clone) in [(Some(folder.path()), false), (reflinks.as_ref().map(Reflinks::path), true)] {
        let Some(place) = place else { continue };
        let (path, out) = (place.join("busy.duckdb"), folder.path().join("out"));
        let mut owner = Python::owning("1.4.5", &path);
        owner.run("CREATE TABLE account AS SELECT range id, 1000 b, 'x' || hash(range) filler FROM range(100000)");
        owner.start(
            "FOR EVER UPDATE account SET b = b + CASE id % 2 WHEN 0 THEN 1 ELSE -1 END WHERE id < 1000; CHECKPOINT",
        );
        let checkpoints = || {
            let facts = engine().inventory(&Source::path(&path), &Context::silent()).map(|found| found.facts);
            facts.map_or(0, |facts| facts["checkpoint"].parse::<u64>().unwrap())
        };
        while checkpoints() < 5 {
            std::thread::sleep(Duration::from_millis(10));
        }
        // A sink so slow that no round can be sealed, and no time for another.
        let mut sink = FolderSink::new(&out);
        sink.at_pages = Some(Box::new(|| std::thread::sleep(Duration::from_millis(60))));
        let engine = DuckDbEngine { deadline: Duration::ZERO, ..engine() };
        let captured = engine.capture(&Source::path(&path), &mut sink, &Context::silent());
        match captured {
            Ok(capture) if can_clone => {
                assert!(capture.notes.iter().any(|note| note.contains("clone")), "{capture:?}");
                assert_eq!(Python::owning("1.4.5", &out.join(MAIN_FILE)).ask(BALANCE), "[(100000000, 100000)]");
            }
            Err(error) if !can_clone && copal_storage::local_file::reflink(&path, &place.join("clone")).is_err() => {
                assert_eq!(error.kind, EngineErrorKind::Busy, "{error}");
                assert!(error.message.contains("checkpoints") && error.hint.is_some(), "{error}");
            }
            Ok(_) => {}
            Err(error) => panic!("{error}: {:?}", error.source),
        }
        let left =
            std::fs::read_dir(place).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().contains("copal"));
        assert_eq!(left.count(), 0);
        owner.kill();
    }
}
