//! Restores over everything that can stand at a target, failing and killed at every step.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use copal_core::{CheckLevel, Context, Engine, EngineError, EngineErrorKind, RestoreRequest, Restored, Source};
use copal_file_engine::testing::{abort_at, fail_at};

use super::swap::is_beginning_of_barrier;
use crate::testing::{FolderContent, FolderSink, Python, python_with};
use crate::{DuckDbEngine, MAIN_FILE};

const VERSION: &str = "1.4.5";
/// More steps than any restore has.
const STEPS: u32 = 60;

/// Databases that real DuckDBs made, once for all tests: an old and a new one, each with and without a log. Every test has
/// files of its own.
struct Sets {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

/// Files by suffix.
type Files = BTreeMap<String, Vec<u8>>;

static MADE: LazyLock<Vec<(&str, Files)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let made =
        [("old", 1, false), ("old-log", 1, true), ("new", 2, false), ("new-log", 2, true)].map(|(name, value, log)| {
            let path = folder.path().join(format!("{name}.duckdb"));
            let mut owner = Python::owning(VERSION, &path);
            owner.run(&format!("CREATE TABLE t AS SELECT {value} v, range n FROM range(1000); CHECKPOINT"));
            if log {
                owner.run(&format!("INSERT INTO t SELECT {value} + 10, range FROM range(10)"));
            }
            owner.kill();
            let copy = folder.path().join(name);
            let (source, mut sink) = (Source::path(&path), FolderSink::new(&copy));
            DuckDbEngine::default().capture(&source, &mut sink, &Context::silent()).unwrap();
            (name, files_in(&copy))
        });
    made.into()
});

/// The files of a copy.
fn files_in(folder: &Path) -> Files {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let suffix = |name: std::ffi::OsString| name.to_str().unwrap().strip_prefix(MAIN_FILE).unwrap().to_owned();
    entries.map(|entry| (suffix(entry.file_name()), std::fs::read(entry.path()).unwrap())).collect()
}

impl Sets {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in MADE.iter() {
            let copy = folder.path().join(name);
            std::fs::create_dir(&copy).unwrap();
            for (suffix, bytes) in files {
                std::fs::write(copy.join(format!("{MAIN_FILE}{suffix}")), bytes).unwrap();
            }
        }
        Self { root: folder.path().to_owned(), _folder: folder }
    }

    fn content(&self, name: &str) -> FolderContent {
        FolderContent::new(&self.root.join(name))
    }

    fn files(&self, name: &str) -> Files {
        files_in(&self.root.join(name))
    }

    /// Puts a database at a target.
    fn place(&self, name: &str, target: &Path) {
        for (suffix, bytes) in self.files(name) {
            std::fs::write(format!("{}{suffix}", target.display()), bytes).unwrap();
        }
    }
}

/// What is at a target, by suffix.
fn found(target: &Path) -> Files {
    let name = target.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir(target.parent().unwrap()).unwrap().flatten();
    let suffix = |entry: &std::fs::DirEntry| entry.file_name().to_str().unwrap().strip_prefix(name).map(str::to_owned);
    entries.filter_map(|entry| Some((suffix(&entry)?, std::fs::read(entry.path()).unwrap()))).collect()
}

fn leftovers(target: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(target.parent().unwrap()).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_str().unwrap().to_owned()).filter(|name| name.contains("copal")).collect()
}

fn restore(content: &FolderContent, target: &Path, replace: bool) -> Result<Restored, EngineError> {
    let request = RestoreRequest { replace, check: CheckLevel::Quick, ..RestoreRequest::new(Source::path(target)) };
    super::restore(content, &request, None, &Context::silent())
}

const COMBINATIONS: [(Option<&str>, &str); 6] = [
    (None, "new"),
    (None, "new-log"),
    (Some("old"), "new"),
    (Some("old"), "new-log"),
    (Some("old-log"), "new"),
    (Some("old-log"), "new-log"),
];

#[test]
fn every_database_takes_the_place_of_every_other() {
    let sets = Sets::make();
    for (old, new) in COMBINATIONS {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a 'b\" ü.duckdb");
        if let Some(old) = old {
            sets.place(old, &target);
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
            let error = restore(&sets.content(new), &target, false).unwrap_err();
            assert_eq!(error.kind, EngineErrorKind::Exists);
            assert_eq!(found(&target), sets.files(old));
        }
        let restored = restore(&sets.content(new), &target, true).unwrap();
        assert_eq!(restored.replaced, old.is_some());
        assert_eq!(found(&target), sets.files(new), "{old:?} {new}");
        assert!(leftovers(&target).is_empty());
        let mode = std::fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if old.is_some() { 0o640 } else { 0o600 });
        let rows = Python::owning(VERSION, &target).ask("SELECT min(v), count(*) FROM t");
        assert_eq!(rows, if new == "new" { "[(2, 1000)]" } else { "[(2, 1010)]" });
    }
}

#[test]
fn a_restore_that_fails_anywhere_changes_nothing() {
    let sets = Sets::make();
    for (old, new) in COMBINATIONS {
        let before = old.map(|old| sets.files(old)).unwrap_or_default();
        let mut failures = 0;
        for step in 0..STEPS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("t.duckdb");
            if let Some(old) = old {
                sets.place(old, &target);
            }
            fail_at(Some(step));
            let result = restore(&sets.content(new), &target, true);
            fail_at(None);
            let now = found(&target);
            if result.is_ok() {
                // Past the last step nothing fails.
                assert_eq!(now, sets.files(new), "{old:?} {new} at step {step}");
                break;
            }
            failures += 1;
            // The new database has its place if only what came after that failed.
            assert!(now == before || now == sets.files(new), "{old:?} {new} at step {step}: {result:?}");
            // What was left behind is put right by the next one.
            let _ = restore(&sets.content(new), &target, false);
            let now = found(&target);
            assert!(now == before || now == sets.files(new), "{old:?} {new} at step {step}");
        }
        assert!(failures >= 4, "{old:?} {new}: only {failures} steps");
    }
}

#[test]
fn a_restore_that_is_killed_anywhere_mixes_nothing() {
    let sets = Sets::make();
    for (old, new) in COMBINATIONS {
        let before = old.map(|old| sets.files(old)).unwrap_or_default();
        let (mut barriers, mut kills) = (0, 0);
        for step in 0..STEPS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("t.duckdb");
            if let Some(old) = old {
                sets.place(old, &target);
            }
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "restore::tests::restore_until_killed"])
                .env("COPAL_TEST_TARGET", &target)
                .env("COPAL_TEST_CONTENT", sets.root.join(new))
                .env("COPAL_TEST_STEP", step.to_string())
                .output()
                .unwrap()
                .status;
            let now = found(&target);
            if status.success() {
                assert_eq!(now, sets.files(new));
                break;
            }
            kills += 1;
            // What DuckDB finds: nothing it opens, or one of the two, whole.
            match now.get("").is_some_and(|main| is_beginning_of_barrier(main)) {
                true => {
                    barriers += 1;
                    assert!(Python::refuses(VERSION, &target));
                    let error = DuckDbEngine::default().identify(&Source::path(&target)).unwrap_err();
                    assert!(error.message.contains("interrupted") && error.hint.is_some());
                }
                false => assert!(now == before || now == sets.files(new), "{old:?} {new} killed at step {step}"),
            }
            // The next restore puts it right, even if it is then refused.
            let result = restore(&sets.content(new), &target, false);
            let now = found(&target);
            assert!(now == before || now == sets.files(new), "{old:?} {new} after step {step}: {now:?}");
            if old.is_some() {
                assert_eq!(result.unwrap_err().kind, EngineErrorKind::Exists);
            }
            let left = leftovers(&target);
            assert!(left.iter().all(|name| name.contains(".copal~") && !name.contains("-old")), "{left:?}");
        }
        let has_logs = new == "new-log" || old == Some("old-log");
        assert!(kills >= 4 && (barriers > 0) == has_logs, "{old:?} {new}: {kills} kills, {barriers} barriers");
    }
}

#[test]
#[ignore = "another test runs it as a process of its own"]
fn restore_until_killed() {
    let Some(target) = std::env::var_os("COPAL_TEST_TARGET").map(PathBuf::from) else { return };
    let content = FolderContent::new(Path::new(&std::env::var_os("COPAL_TEST_CONTENT").unwrap()));
    abort_at(std::env::var("COPAL_TEST_STEP").unwrap().parse().ok());
    restore(&content, &target, true).unwrap();
}

#[test]
fn a_database_in_use_is_not_replaced() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("t.duckdb");
    sets.place("old-log", &target);
    let owner = Python::owning(VERSION, &target);
    let before = found(&target);
    for new in ["new", "new-log"] {
        let error = restore(&sets.content(new), &target, true).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Busy);
        assert!(error.message.contains("process"), "{error}");
    }
    assert_eq!(found(&target), before);
    drop(owner);
    // Also by this very process, whose own lock is no obstacle to it.
    let own = std::fs::OpenOptions::new().read(true).write(true).open(&target).unwrap();
    rustix::fs::fcntl_lock(&own, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(restore(&sets.content("new"), &target, true).unwrap_err().kind, EngineErrorKind::Busy);
    assert!(Python::refuses(VERSION, &target), "the refused restore has dropped the lock");
    drop(own);
    restore(&sets.content("new"), &target, true).unwrap();
}

#[test]
fn leftover_logs_count_as_something() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("t.duckdb");
    for suffix in [".wal", ".wal.checkpoint", ".wal.recovery"] {
        std::fs::write(format!("{}{suffix}", target.display()), b"left").unwrap();
        let error = restore(&sets.content("new"), &target, false).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Exists);
        assert!(error.message.contains("log"), "{error}");
        restore(&sets.content("new"), &target, true).unwrap();
        assert_eq!(found(&target), sets.files("new"));
        std::fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_link_is_followed_unless_there_is_a_log() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.duckdb"), folder.path().join("link.duckdb"));
    sets.place("old", &real);
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let error = restore(&sets.content("new-log"), &link, true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Unsupported);
    // A log that an older DuckDB left beside the link belongs to the old database.
    std::fs::write(folder.path().join("link.duckdb.wal"), b"old").unwrap();
    restore(&sets.content("new"), &link, true).unwrap();
    assert!(link.is_symlink() && !folder.path().join("link.duckdb.wal").exists());
    assert_eq!(found(&real), sets.files("new"));
}

#[test]
fn a_dry_run_and_a_damaged_backup_change_nothing() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("t.duckdb");
    sets.place("old-log", &target);
    let request = RestoreRequest {
        replace: true,
        check: CheckLevel::Quick,
        dry_run: true,
        ..RestoreRequest::new(Source::path(&target))
    };
    assert!(super::restore(&sets.content("new-log"), &request, None, &Context::silent()).unwrap().replaced);
    let bad = sets.root.join("new-log");
    let log = bad.join(format!("{MAIN_FILE}.wal"));
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let error = restore(&sets.content("new-log"), &target, true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt);
    assert!(error.message.contains("log"), "{error}");
    assert_eq!(found(&target), sets.files("old-log"));
    assert!(leftovers(&target).is_empty());
    std::fs::write(bad.join("stranger"), b"x").unwrap();
    assert_eq!(restore(&sets.content("new-log"), &target, true).unwrap_err().kind, EngineErrorKind::NotThisEngine);
}

#[test]
fn a_drill_before_the_exchange_reads_the_log_too_and_leaves_nothing() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a 'b\" ü?.duckdb");
    let program = python_with(VERSION, sets.root.as_path());
    let request = RestoreRequest { check: CheckLevel::Full, ..RestoreRequest::new(Source::path(&target)) };
    let restored = super::restore(&sets.content("new-log"), &request, Some(&program), &Context::silent()).unwrap();
    assert!(restored.check.ran.last().unwrap().ends_with("1 tables, 1010 rows"), "{:?}", restored.check);
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    // DuckDB's rule for names with a question mark.
    assert_eq!(names, ["a 'b\" ü.wal?.duckdb", "a 'b\" ü?.duckdb"]);
    let rows = Python::owning(VERSION, &target).ask("SELECT count(*) FROM t");
    assert_eq!(rows, "[(1010,)]");
}

/// Kills a restore as soon as the barrier stands.
fn kill_behind_barrier(sets: &Sets, new: &str, target: &Path) {
    for step in 0..STEPS {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "restore::tests::restore_until_killed"])
            .env("COPAL_TEST_TARGET", target)
            .env("COPAL_TEST_CONTENT", sets.root.join(new))
            .env("COPAL_TEST_STEP", step.to_string())
            .output()
            .unwrap()
            .status;
        assert!(!status.success());
        if found(target).get("").is_some_and(|main| is_beginning_of_barrier(main)) {
            return;
        }
    }
    panic!("no barrier");
}

#[test]
fn what_somebody_put_in_the_barriers_place_is_not_touched() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("t.duckdb");
    sets.place("old-log", &target);
    kill_behind_barrier(&sets, "new-log", &target);
    std::fs::remove_file(&target).unwrap();
    std::fs::write(&target, b"by hand").unwrap();
    let error = restore(&sets.content("new-log"), &target, false).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Exists);
    assert!(std::fs::read(&target).unwrap() == b"by hand");
    let main = &sets.files("old-log")[""];
    let is_kept = std::fs::read_dir(folder.path()).unwrap().any(|e| std::fs::read(e.unwrap().path()).unwrap() == *main);
    assert!(is_kept, "the old main file is lost");
    // Without the barrier and anything in its place, the old database comes back.
    let target = folder.path().join("u.duckdb");
    sets.place("old-log", &target);
    kill_behind_barrier(&sets, "new-log", &target);
    std::fs::remove_file(&target).unwrap();
    assert_eq!(restore(&sets.content("new"), &target, false).unwrap_err().kind, EngineErrorKind::Exists);
    assert_eq!(found(&target), sets.files("old-log"));
}

#[test]
fn impossible_targets_are_named() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let error = restore(&sets.content("new"), &folder.path().join("no/such/folder.db"), false).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NotFound);
    assert!(error.hint.unwrap().contains("create it"));
    assert_eq!(restore(&sets.content("new"), folder.path(), true).unwrap_err().kind, EngineErrorKind::Exists);
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let result = restore(&sets.content("new"), &closed.join("t.duckdb"), false);
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Nothing is closed to root.
    assert!(is_root || result.unwrap_err().kind == EngineErrorKind::PermissionDenied);
}

#[test]
fn abandoned_staging_files_are_swept() {
    let sets = Sets::make();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("t.duckdb");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
    for name in [
        ".t.duckdb.copal~00000000000000aa",
        ".t.duckdb.copal~00000000000000aa.wal",
        ".t.duckdb.copal~00000000000000aa.wal.checkpoint",
        "..t.duckdb.copal-restore.copal~00000000000000aa",
        ".t.duckdb.copal~00000000000000aa-old",
    ] {
        std::fs::File::create(folder.path().join(name)).unwrap().set_modified(old).unwrap();
    }
    restore(&sets.content("new"), &target, false).unwrap();
    // What is aside is nobody's to sweep.
    assert_eq!(leftovers(&target), [".t.duckdb.copal~00000000000000aa-old"]);
}
