//! Checks by checksums alone, by every kind of DuckDB, and by none.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use copal_core::{CheckLevel, CheckReport, Context};

use super::check;
use crate::testing::{Python, duckdb_command, python_with, python_without};

const FILL: &str = r#"CREATE TABLE "we""ird 'ü" AS SELECT range a, [1, 2] l, {'x': range} s, 't' || range t FROM range(50000); CREATE SCHEMA s2; CREATE TABLE s2.x (a INTEGER PRIMARY KEY, b AS (a * 2)); INSERT INTO s2.x SELECT range FROM range(1000); CREATE VIEW v AS SELECT 1; CHECKPOINT; INSERT INTO s2.x VALUES (-1)"#;

/// A database that a killed owner left, log included.
fn left_by(version: &str, folder: &Path) -> std::path::PathBuf {
    let path = folder.join("a b.duckdb");
    let mut owner = Python::owning(version, &path);
    owner.run(FILL);
    owner.kill();
    path
}

fn full(path: &Path, program: &Path) -> CheckReport {
    check(path, CheckLevel::Full, Some(program), &Context::silent()).unwrap()
}

fn content(folder: &Path) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().filter(|e| e.file_type().unwrap().is_file());
    entries.map(|e| (e.file_name(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn every_version_reads_everything_and_changes_nothing() {
    for version in ["1.1.3", "1.3.2", "1.4.5", "1.5.6", "2.0.0"] {
        let folder = tempfile::tempdir().unwrap();
        let path = left_by(version, folder.path());
        let program = python_with(version, folder.path());
        let before = content(folder.path());
        let report = full(&path, &program);
        assert_eq!((&report.problems, &report.impossible), (&Vec::new(), &Vec::new()));
        let last = report.ran.last().unwrap();
        assert!(last.contains(&format!("DuckDB v{version}: 2 tables, 51001 rows")), "{report:?}");
        assert!(report.ran.contains(&"log of 1 transactions".to_owned()), "{report:?}");
        assert_eq!(content(folder.path()), before);
    }
}

#[test]
fn an_interrupted_checkpoint_is_read_with_what_was_committed() {
    for version in ["1.1.3", "1.5.6", "2.0.0"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.duckdb");
        let mut owner = Python::owning(version, &path);
        owner.run("CREATE TABLE t AS SELECT range FROM range(10)");
        owner.fail("SET debug_checkpoint_abort = 'before_header'; CHECKPOINT");
        owner.kill();
        let program = python_with(version, folder.path());
        let before = content(folder.path());
        let report = full(&path, &program);
        assert!(report.ran.last().unwrap().contains("1 tables, 10 rows"), "{report:?}");
        assert_eq!(content(folder.path()), before);
    }
}

#[test]
fn the_duckdb_command_does_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = left_by("1.4.5", folder.path());
    let report = full(&path, &duckdb_command());
    assert!(report.ran.last().unwrap().contains("DuckDB v1.5.6: 2 tables, 51001 rows"), "{report:?}");
}

#[test]
fn without_a_suitable_duckdb_that_is_said_and_the_rest_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = left_by("2.0.0", folder.path());
    let old = python_with("1.1.3", folder.path());
    let (without, absent) = (python_without(), folder.path().join("absent"));
    for (program, why) in [
        (old.as_path(), "too old"),
        (&duckdb_command(), "too old"),
        (&without, "no module"),
        (&absent, "not found"),
        (Path::new("/bin/cat"), "cat"),
    ] {
        let report = full(&path, program);
        assert!(report.problems.is_empty(), "{report:?}");
        let [impossible] = report.impossible.as_slice() else { panic!("{report:?}") };
        assert!(impossible.contains(why) && impossible.contains("pip install duckdb==2.0.0"), "{impossible}");
        assert!(report.ran[0].starts_with("checksums of "), "{report:?}");
    }
}

#[test]
fn what_somebody_has_open_is_not_opened_and_stays_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.duckdb");
    let program = python_with("1.4.5", folder.path());
    let owner = Python::owning("1.4.5", &path);
    let report = full(&path, &program);
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(report.impossible[0].contains("open in another program"), "{report:?}");
    drop(owner);
    // Also this very process: its lock must outlive the check.
    let own = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    rustix::fs::fcntl_lock(&own, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let report = full(&path, &program);
    assert!(report.impossible[0].contains("open in another program"), "{report:?}");
    assert!(Python::refuses("1.4.5", &path), "the check has dropped the lock");
}

#[test]
fn a_later_storage_version_is_tried_and_an_encrypted_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = left_by("1.4.5", folder.path());
    let program = python_with("1.4.5", folder.path());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let change = |at: usize, value: u8| {
        let mut header = vec![0; 4096];
        file.read_exact_at(&mut header, 0).unwrap();
        header[at] = value;
        let sum = crate::format::checksum::checksum(&header[8..]);
        header[..8].copy_from_slice(&sum.to_le_bytes());
        file.write_all_at(&header, 0).unwrap();
    };
    change(12, 70);
    let report = full(&path, &program);
    assert!(report.problems.is_empty() && report.ran[0].contains("storage version is 70"), "{report:?}");
    assert!(report.impossible[0].contains("too old"), "{report:?}");
    change(12, 67);
    change(20, 1);
    let report = full(&path, &program);
    assert!(report.problems.is_empty() && report.ran[0].contains("encrypted"), "{report:?}");
    assert!(report.impossible[0].contains("key"), "{report:?}");
}

/// A program that answers for its version, and for everything else does this.
fn pretender(folder: &Path, version: &str, then: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join(format!("duckdb {version}"));
    let text =
        format!("#!/bin/sh\ncase \"$*\" in *readonly*) {then};; *) cat >&-; echo '[{{\"v\":\"{version}\"}}]';; esac\n");
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn only_what_says_something_about_the_file_is_its_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = left_by("1.4.5", folder.path());
    let say = |version, what: &str| full(&path, &pretender(folder.path(), version, what));
    let report = say("v1.4.5", "echo 'IO Error: corrupt block' >&2; exit 1");
    assert_eq!(report.problems, ["DuckDB v1.4.5: IO Error: corrupt block"]);
    let report = say("v1.4.5", "kill -9 $$");
    assert!(report.problems[0].contains("without a word (signal: 9"), "{report:?}");
    let report = say("v1.4.5", "echo '[{\"s\":\"main\",\"t\":\"t\"}]'");
    assert!(report.problems.is_empty(), "{report:?}");
    for (version, what, why) in [
        ("v1.4.4", "echo 'IO Error: corrupt block' >&2; exit 1", "v1.4.4 is older than the v1.4.5"),
        ("v1.4.5", "echo 'Out of Memory Error: no' >&2; exit 1", "the memory does not suffice"),
        ("v1.4.5", "echo 'Error: Please run: INSTALL spatial;' >&2; exit 1", "extension"),
    ] {
        let report = say(version, what);
        assert!(report.problems.is_empty() && report.impossible[0].contains(why), "{report:?}");
    }
}

#[test]
fn a_cancelled_drill_ends_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = left_by("1.4.5", folder.path());
    let program = pretender(folder.path(), "v1.4.5", "exec sleep 600");
    let context = Context::silent();
    let token = context.cancel.clone();
    let begun = std::time::Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            token.cancel();
        });
        check(&path, CheckLevel::Full, Some(&program), &context).unwrap_err()
    });
    assert_eq!(error.kind, copal_core::EngineErrorKind::Cancelled);
    assert!(begun.elapsed() < std::time::Duration::from_secs(60));
}

#[test]
fn damage_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = left_by("1.4.5", folder.path());
    let program = python_with("1.4.5", folder.path());
    let damage = |path: &Path, at: u64| {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    let length = std::fs::metadata(&path).unwrap().len();
    for block in (0..(length - 12288) / 262_144).map(|block| 12288 + block * 262_144 + 100) {
        damage(&path, block);
        let report = full(&path, &program);
        let is_named = report.ran.iter().any(|ran| ran.contains("1 of them wrong"));
        assert!(is_named || !report.problems.is_empty(), "{report:?}");
        assert!(!report.problems.is_empty(), "DuckDB reads a damaged block: {report:?}");
        damage(&path, block);
    }
    damage(&path, 4200);
    let report = check(&path, CheckLevel::Quick, None, &Context::silent()).unwrap();
    assert!(report.problems[0].contains("header"), "{report:?}");
}
