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
