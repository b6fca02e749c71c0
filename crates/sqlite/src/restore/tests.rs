//! Restores: to new places and in place, refused, failing and killed at every step.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use copal_core::{CheckLevel, Context, Engine, EngineErrorKind, RestoreRequest, Source};
use copal_file_engine::testing::{abort_at, fail_at};

use super::lock::Seized;
use super::target::Target;
use super::{record, stage};
use crate::Reader;
use crate::place::beside;
use crate::testing::{MemoryBackup, Scratch, capture, child, engine, holder, restore, shell};

const OLD: &str = "CREATE TABLE old (x); INSERT INTO old VALUES ('before');";
const NEW: &str = "CREATE TABLE new (x); INSERT INTO new VALUES ('restored');";

fn backup(mode: &str) -> MemoryBackup {
    capture(&Scratch::new(&format!("PRAGMA journal_mode = {mode}; {NEW}")), Reader::Raw).unwrap().0
}

fn kind_of<T: std::fmt::Debug>(result: copal_core::EngineResult<T>) -> EngineErrorKind {
    result.unwrap_err().kind
}

#[test]
fn to_a_new_path() {
    let scratch = Scratch::new("");
    let backup = backup("wal");
    let restored = restore(&backup, &scratch.path, false).unwrap();
    assert!(!restored.replaced);
    assert_eq!(scratch.names(), ["app.db"]);
    assert_eq!(scratch.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read(&scratch.path).unwrap() == backup.bytes);
    assert_eq!(shell(&scratch, "SELECT x FROM new"), "restored\n");
}

#[test]
fn without_leave_nothing_is_replaced() {
    let scratch = Scratch::new(OLD);
    let before = scratch.listing();
    let error = restore(&backup("delete"), &scratch.path, false).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Exists);
    assert!(error.hint.unwrap().contains("--replace"));
    std::fs::rename(&scratch.path, scratch.dir.path().join("moved")).unwrap();
    std::fs::write(beside(&scratch.path, "-wal"), b"frames").unwrap();
    assert_eq!(kind_of(restore(&backup("delete"), &scratch.path, false)), EngineErrorKind::Exists);
    std::fs::remove_file(beside(&scratch.path, "-wal")).unwrap();
    std::fs::rename(scratch.dir.path().join("moved"), &scratch.path).unwrap();
    assert!(scratch.listing() == before);
}

#[test]
fn in_place_keeps_mode_and_owner() {
    let scratch = Scratch::new(OLD);
    std::fs::set_permissions(&scratch.path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = scratch.path.metadata().unwrap().uid() == 0;
    if is_root {
        std::os::unix::fs::chown(&scratch.path, Some(1234), Some(5678)).unwrap();
    }
    let restored = restore(&backup("delete"), &scratch.path, true).unwrap();
    assert!(restored.replaced && restored.notes.is_empty(), "{:?}", restored.notes);
    let metadata = scratch.path.metadata().unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o640);
    if is_root {
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 5678));
    }
    assert_eq!(scratch.names(), ["app.db"]);
}

#[test]
fn a_link_stays_and_its_file_is_replaced() {
    let scratch = Scratch::new(OLD);
    let link = scratch.dir.path().join("link.db");
    std::os::unix::fs::symlink(&scratch.path, &link).unwrap();
    restore(&backup("delete"), &link, true).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(shell(&scratch, "SELECT x FROM new"), "restored\n");
    std::fs::remove_file(&scratch.path).unwrap();
    let error = restore(&backup("delete"), &link, true).unwrap_err();
    assert!(error.message.contains("leads nowhere"), "{error}");
}

#[test]
fn impossible_targets() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backup("delete");
    let error = restore(&backup, &dir.path().join("no/such/folder.db"), false).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NotFound);
    assert!(error.hint.unwrap().contains("create it"));
    assert_eq!(kind_of(restore(&backup, dir.path(), true)), EngineErrorKind::Exists);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_only_looks() {
    let scratch = Scratch::new(OLD);
    let before = scratch.listing();
    let dry = |replace, target: &Path| {
        let target = Source::path(target);
        let request =
            RestoreRequest { replace, check: CheckLevel::Quick, dry_run: true, ..RestoreRequest::new(target) };
        engine(Reader::Auto).restore(&backup("delete"), &request, &Context::silent())
    };
    assert_eq!(kind_of(dry(false, &scratch.path)), EngineErrorKind::Exists);
    assert!(dry(true, &scratch.path).unwrap().replaced);
    assert!(!dry(false, &scratch.dir.path().join("other.db")).unwrap().replaced);
    let mut huge = backup("delete");
    huge.set(1 << 60, 4096);
    let request = RestoreRequest {
        replace: false,
        check: CheckLevel::Quick,
        dry_run: true,
        ..RestoreRequest::new(Source::path(&scratch.dir.path().join("other.db")))
    };
    let error = engine(Reader::Auto).restore(&huge, &request, &Context::silent()).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NoSpace);
    assert!(error.message.contains("1.0 EiB needed"), "{error}");
    assert!(scratch.listing() == before);
}

#[test]
fn what_is_not_sound_is_not_restored() {
    let scratch = Scratch::new(OLD);
    let before = scratch.listing();
    let mut damaged = backup("delete");
    damaged.bytes[4096..].fill(0x55);
    let error = restore(&damaged, &scratch.path, true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Corrupt, "{error}");
    let mut short = backup("delete");
    short.set(1_000_000, 4096);
    assert_eq!(kind_of(restore(&short, &scratch.path, true)), EngineErrorKind::Corrupt);
    let strange = MemoryBackup::of(vec![7; 8192]);
    assert_eq!(kind_of(restore(&strange, &scratch.path, true)), EngineErrorKind::Corrupt);
    assert!(scratch.listing() == before);
}

#[test]
fn a_cancelled_restore_changes_nothing() {
    let scratch = Scratch::new(OLD);
    let before = scratch.listing();
    let context = Context::silent();
    context.cancel.cancel();
    let target = Source::path(&scratch.path);
    let request = RestoreRequest { replace: true, check: CheckLevel::Quick, ..RestoreRequest::new(target) };
    let result = engine(Reader::Auto).restore(&backup("wal"), &request, &context);
    assert_eq!(kind_of(result), EngineErrorKind::Cancelled);
    assert!(scratch.listing() == before);
}

#[test]
fn a_database_in_use_is_not_replaced() {
    for script in [
        "PRAGMA journal_mode = wal; INSERT INTO old VALUES (1);",
        "BEGIN IMMEDIATE; INSERT INTO old VALUES (1);",
        "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO old VALUES (1);",
        // Holds no lock at all.
        "SELECT * FROM old;",
    ] {
        let scratch = Scratch::new(OLD);
        let program = holder(&scratch, script);
        let names = scratch.names();
        let error = restore(&backup("wal"), &scratch.path, true).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Busy, "{script}: {error}");
        assert!(error.message.contains("sqlite3"), "{error}");
        assert_eq!(scratch.names(), names);
        drop(program);
        restore(&backup("wal"), &scratch.path, true).unwrap();
        assert_eq!(shell(&scratch, "SELECT x FROM new"), "restored\n");
    }
}

#[test]
fn giving_up_the_lock_leaves_the_new_database_alone() {
    let scratch = Scratch::new(&format!("PRAGMA journal_mode = wal; {OLD}"));
    let seized = Seized::gather(&scratch.path, Duration::ZERO, &Context::silent()).unwrap();
    assert!(seized.is_whole);
    assert!(shell(&scratch, "SELECT * FROM old").contains("locked"), "others are locked out");
    let other = Scratch::new(&format!("PRAGMA journal_mode = wal; {NEW}"));
    std::fs::remove_file(beside(&scratch.path, "-wal")).unwrap();
    std::fs::rename(&other.path, &scratch.path).unwrap();
    let user = scratch.connect();
    user.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO new VALUES ('in the log')").unwrap();
    drop(seized);
    assert!(beside(&scratch.path, "-wal").metadata().unwrap().len() > 0);
    assert!(beside(&scratch.path, "-shm").exists());
    assert_eq!(shell(&scratch, "SELECT x FROM new"), "restored\nin the log\n");
}

#[test]
fn the_lock_lasts() {
    for mode in ["wal", "delete"] {
        let scratch = Scratch::new(&format!("PRAGMA journal_mode = {mode}; {OLD}"));
        for seize in [Seized::gather, Seized::blind] {
            let seized = seize(&scratch.path, Duration::ZERO, &Context::silent()).unwrap();
            assert!(shell(&scratch, "SELECT * FROM old").contains("locked"), "{mode}");
            assert!(shell(&scratch, "INSERT INTO old VALUES (1)").contains("locked"), "{mode}");
            drop(seized);
            assert_eq!(shell(&scratch, "SELECT * FROM old"), "before\n");
        }
    }
}

#[test]
fn a_database_of_a_later_version_is_replaced() {
    for (at, value) in [(18, 9), (19, 9), (47, 9)] {
        let scratch = Scratch::new(OLD);
        let mut bytes = std::fs::read(&scratch.path).unwrap();
        bytes[at] = value;
        std::fs::write(&scratch.path, bytes).unwrap();
        restore(&backup("delete"), &scratch.path, true).unwrap();
        assert_eq!(scratch.names(), ["app.db"]);
        assert_eq!(shell(&scratch, "SELECT x FROM new"), "restored\n");
    }
}

#[test]
fn what_says_nothing_is_in_nobodys_way() {
    let scratch = Scratch::new("");
    std::fs::write(beside(&scratch.path, "-wal"), b"").unwrap();
    std::fs::write(beside(&scratch.path, "-shm"), vec![7; 32_768]).unwrap();
    std::fs::write(beside(&scratch.path, "-journal"), vec![0; 1000]).unwrap();
    restore(&backup("wal"), &scratch.path, false).unwrap();
    assert_eq!(shell(&scratch, "INSERT INTO new VALUES (2); SELECT x FROM new"), "restored\n2\n");
}

#[test]
fn who_goes_on_with_the_old_file_finds_nothing() {
    let scratch = Scratch::new(OLD);
    // In this process, so that the look at other processes does not find it.
    let idle = scratch.connect();
    let read = || idle.query_row("SELECT x FROM old", [], |row| row.get::<_, String>(0));
    assert_eq!(read().unwrap(), "before");
    restore(&backup("delete"), &scratch.path, true).unwrap();
    assert!(read().is_err());
    assert_eq!(shell(&scratch, "SELECT x FROM new"), "restored\n");
}

#[test]
fn another_name_of_the_old_file_keeps_its_content() {
    let scratch = Scratch::new(OLD);
    let copy = scratch.dir.path().join("kept.db");
    std::fs::hard_link(&scratch.path, &copy).unwrap();
    restore(&backup("delete"), &scratch.path, true).unwrap();
    assert_eq!(shell(&copy, "SELECT x FROM old"), "before\n");
}

#[test]
fn abandoned_staging_files_are_swept() {
    let scratch = Scratch::new("");
    let folder = scratch.dir.path();
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    for (name, is_old) in [
        (".app.db.copal~00000000000000aa", true),
        (".app.db.copal~00000000000000bb", false),
        ("..app.db.copal-restore.copal~00000000000000cc", true),
        (".other.db.copal~00000000000000dd", true),
        (".app.db.copal~precious", true),
    ] {
        let file = std::fs::File::create(folder.join(name)).unwrap();
        if is_old {
            file.set_modified(old).unwrap();
        }
    }
    restore(&backup("delete"), &scratch.path, false).unwrap();
    let kept =
        [".app.db.copal~00000000000000bb", ".app.db.copal~precious", ".other.db.copal~00000000000000dd", "app.db"];
    assert_eq!(scratch.names(), kept);
}

/// What stands at a target before a restore.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    EmptyFile,
    Rollback,
    HotJournal,
    Log,
    CrashedLog,
    OrphanedLog,
    DamagedWithLog,
    EmptyWithLog,
}

const ALL: [Before; 9] = [
    Before::Nothing,
    Before::EmptyFile,
    Before::Rollback,
    Before::HotJournal,
    Before::Log,
    Before::CrashedLog,
    Before::OrphanedLog,
    Before::DamagedWithLog,
    Before::EmptyWithLog,
];

impl Before {
    fn make(self) -> Scratch {
        let wal = || {
            let scratch = Scratch::new("PRAGMA journal_mode = wal");
            let writer = scratch.connect();
            writer.execute_batch(&format!("PRAGMA wal_autocheckpoint = 0; {OLD}")).unwrap();
            let crashed = scratch.crashed_copy();
            drop(writer);
            crashed
        };
        match self {
            Self::Nothing => Scratch::new(""),
            Self::EmptyFile => {
                let scratch = Scratch::new("");
                std::fs::write(&scratch.path, b"").unwrap();
                scratch
            }
            Self::Rollback => Scratch::new(OLD),
            Self::HotJournal => {
                let scratch = Scratch::new(OLD);
                scratch.run("CREATE TABLE more (x); INSERT INTO more VALUES (randomblob(100000))");
                let writer = scratch.connect();
                let torn = "PRAGMA cache_size = 2; BEGIN; UPDATE more SET x = zeroblob(100000); DELETE FROM old";
                writer.execute_batch(torn).unwrap();
                let crashed = scratch.crashed_copy();
                assert!(beside(&crashed.path, "-journal").exists());
                crashed
            }
            Self::Log => Scratch::new(&format!("PRAGMA journal_mode = wal; {OLD}")),
            Self::CrashedLog => wal(),
            Self::OrphanedLog => {
                let scratch = wal();
                std::fs::remove_file(&scratch.path).unwrap();
                scratch
            }
            Self::DamagedWithLog => {
                let scratch = wal();
                let log = beside(&scratch.path, "-wal");
                // Also the version of the first page in the log: from there on nothing is valid.
                let mut frames = std::fs::read(&log).unwrap();
                frames[32 + 24..].fill(0x55);
                std::fs::write(&log, frames).unwrap();
                std::fs::write(&scratch.path, vec![0x55; 8192]).unwrap();
                scratch
            }
            Self::EmptyWithLog => {
                let scratch = wal();
                std::fs::write(&scratch.path, b"").unwrap();
                scratch
            }
        }
    }

    /// What SQLite answers at the path while the old state is there; `None` where it finds no database of ours.
    fn answer(self) -> Option<&'static str> {
        matches!(self, Self::Rollback | Self::HotJournal | Self::Log | Self::CrashedLog).then_some("before\n")
    }
}

/// Asks a copy, so that asking changes nothing.
fn ask(scratch: &Scratch) -> String {
    let copy = scratch.crashed_copy();
    if !copy.path.exists() {
        return "nothing".to_owned();
    }
    shell(&copy, "PRAGMA quick_check; SELECT name FROM sqlite_schema WHERE name IN ('old', 'new')")
}

fn assert_old_or_new(scratch: &Scratch, before: Before, what: &str) -> bool {
    let is_new = ask(scratch) == "ok\nnew\n";
    if is_new {
        assert_eq!(shell(&scratch.crashed_copy(), "SELECT x FROM new"), "restored\n", "{what}");
        return true;
    }
    match before.answer() {
        Some(answer) => assert_eq!(shell(&scratch.crashed_copy(), "SELECT x FROM old"), answer, "{what}"),
        // Neither a database of ours nor one that SQLite makes up from a log.
        None => assert!(!ask(scratch).contains("old\n"), "{what}: {}", ask(scratch)),
    }
    false
}

#[test]
fn failing_at_any_step_leaves_the_old_or_the_new() {
    for mode in ["wal", "delete"] {
        let backup = backup(mode);
        for before in ALL {
            for step in 0.. {
                let what = format!("{before:?} failing at step {step}");
                let scratch = before.make();
                let listing = scratch.listing();
                fail_at(Some(step));
                let result = restore(&backup, &scratch.path, true);
                fail_at(None);
                if result.is_ok() {
                    assert!(step >= 4, "steps are passed");
                    assert_eq!(scratch.names(), ["app.db"], "{what}");
                    break;
                }
                let is_new = assert_old_or_new(&scratch, before, &what);
                let names = scratch.names();
                assert!(!names.iter().any(|n| n.contains("copal~")) || is_new, "{what}: {names:?}");
                if before.answer().is_none() && !is_new {
                    assert!(scratch.listing() == listing, "{what}: as it was");
                }
                restore(&backup, &scratch.path, true).unwrap();
                assert!(assert_old_or_new(&scratch, before, &what), "{what}: restored again");
                assert_eq!(scratch.names(), ["app.db"], "{what}");
            }
        }
    }
}

const CHILD: &str = "restore::tests::killed_restore";

/// Not a test by itself: the process that is killed by the next one.
#[test]
fn killed_restore() {
    let Ok(path) = std::env::var("COPAL_TEST_RESTORE") else { return };
    let step = std::env::var("COPAL_TEST_STEP").unwrap().parse().unwrap();
    let bytes = std::fs::read(std::env::var("COPAL_TEST_BACKUP").unwrap()).unwrap();
    abort_at(Some(step));
    restore(&MemoryBackup::of(bytes), Path::new(&path), true).unwrap();
}

#[test]
fn killed_at_any_step_leaves_the_old_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("backup");
    let backup = backup("wal");
    std::fs::write(&kept, &backup.bytes).unwrap();
    for before in ALL {
        for step in 0.. {
            let what = format!("{before:?} killed at step {step}");
            let scratch = before.make();
            let arguments = [
                ("COPAL_TEST_RESTORE", scratch.path.to_str().unwrap()),
                ("COPAL_TEST_BACKUP", kept.to_str().unwrap()),
                ("COPAL_TEST_STEP", &step.to_string()),
                ("RUST_BACKTRACE", "0"),
            ];
            let status = child(CHILD, &arguments).status().unwrap();
            let is_new = assert_old_or_new(&scratch, before, &what);
            if status.success() {
                assert!(is_new && step >= 4);
                break;
            }
            assert_eq!(status.code(), None, "{what}: killed, not failed");
            // The next restore puts right what was left. Its own staging file is younger than a day, so it stays.
            restore(&backup, &scratch.path, true).unwrap();
            assert!(assert_old_or_new(&scratch, before, &what), "{what}: restored again");
            let names = scratch.names();
            let others = names.iter().filter(|n| *n != "app.db" && !n.starts_with(".app.db.copal~")).count();
            let asides = names.iter().filter(|n| n.contains("-old")).count();
            let notes = names.iter().filter(|n| n.contains("copal-restore") && !n.contains("copal~")).count();
            assert_eq!((others, asides, notes), (0, 0, 0), "{what}: {names:?}");
        }
    }
}

#[test]
fn what_was_opened_meanwhile_is_not_overwritten() {
    let scratch = Before::DamagedWithLog.make();
    let target = Target::resolve(&Source::path(&scratch.path)).unwrap();
    let content = backup("wal");
    let file = stage::main_file(&content).unwrap();
    let staged = stage::write(&content, file, &target, &Context::silent()).unwrap();
    let record = record::Record::create(&target, &staged, false).unwrap();
    record.move_aside(&target).unwrap();
    std::fs::write(beside(&scratch.path, "-wal"), b"somebody's newer log").unwrap();
    let notes = record::settle(&target, Duration::ZERO, false, &Context::silent()).unwrap();
    assert!(notes[0].contains("was kept"), "{notes:?}");
    assert_eq!(std::fs::read(beside(&scratch.path, "-wal")).unwrap(), b"somebody's newer log");
    assert_eq!(scratch.names().iter().filter(|n| n.contains("-old-wal")).count(), 1);
}

#[test]
#[allow(clippy::print_stderr)]
fn a_full_disk_is_named_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "copal-test"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: no right to mount a small file system");
        return;
    }
    let mut large = MemoryBackup::of(vec![1; 1 << 20]);
    let path = dir.path().join("app.db");
    let before = restore(&large, &path, false).unwrap_err();
    // As if others filled the disk after the look at its free space.
    large.set(4096, 4096);
    let during = restore(&large, &path, false).unwrap_err();
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    std::process::Command::new("umount").arg(dir.path()).status().unwrap();
    assert_eq!((before.kind, during.kind, left), (EngineErrorKind::NoSpace, EngineErrorKind::NoSpace, 0));
    assert!(during.message.contains("4096 bytes needed"), "{during}");
    assert!(before.message.contains("1.0 MiB needed"), "{before}");
}
