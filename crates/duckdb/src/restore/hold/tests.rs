//! Who is found to use a file, and that looking at it takes nobody's lock away.

use std::fs::{File, OpenOptions};
use std::process::{Command, Stdio};

use super::*;
use crate::testing::Python;

const VERSION: &str = "1.4.5";

struct Scratch {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.duckdb");
        drop(Python::owning(VERSION, &path));
        Self { _folder: folder, path }
    }

    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    fn lock(&self, operation: FlockOperation) -> File {
        let file = self.open();
        rustix::fs::fcntl_lock(&file, operation).unwrap();
        file
    }
}

fn alone(hold: &Hold) -> EngineResult<()> {
    hold.require_alone(&[OsStr::new("t.duckdb")])
}

#[test]
fn it_keeps_duckdb_away_and_ends() {
    let scratch = Scratch::new();
    let hold = Hold::take(&scratch.path).unwrap().unwrap();
    alone(&hold).unwrap();
    assert!(Python::refuses(VERSION, &scratch.path));
    drop(hold);
    assert!(!Python::refuses(VERSION, &scratch.path));
    // The descriptor that is kept serves again.
    let hold = Hold::take(&scratch.path).unwrap().unwrap();
    assert!(Python::refuses(VERSION, &scratch.path));
    drop(hold);
    std::fs::remove_file(&scratch.path).unwrap();
    assert!(Hold::take(&scratch.path).unwrap().is_none());
}

#[test]
fn readers_and_writers_in_other_processes_are_found() {
    let scratch = Scratch::new();
    for read_only in ["READ_ONLY", "READ_WRITE"] {
        let mut owner = Python::in_memory(VERSION);
        owner.run(&format!("ATTACH '{}' AS a ({read_only})", scratch.path.display()));
        let error = Hold::take(&scratch.path).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Busy, "{read_only}");
        assert!(error.message.contains("process"), "{error}");
        assert!(Python::refuses(VERSION, &scratch.path), "{read_only}: it has lost its lock");
    }
    // Between opening and locking.
    let mut sleeper = Command::new("sleep").arg("60").stdin(Stdio::from(scratch.open())).spawn().unwrap();
    let hold = Hold::take(&scratch.path).unwrap().unwrap();
    let found = alone(&hold);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(found.unwrap_err().message.contains("sleep"));
    alone(&hold).unwrap();
    // Who only reads the bytes, as backups do, is in nobody's way.
    let reading = File::open(&scratch.path).unwrap();
    let mut sleeper = Command::new("sleep").arg("60").stdin(Stdio::from(reading)).spawn().unwrap();
    let found = alone(&hold);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    found.unwrap();
}

#[test]
fn a_database_that_this_process_opened_meanwhile_is_found_and_keeps_its_lock() {
    for operation in [FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared] {
        let scratch = Scratch::new();
        let hold = Hold::take(&scratch.path).unwrap().unwrap();
        // Within one process the lock is no obstacle.
        let own = scratch.lock(operation);
        let error = alone(&hold).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Busy);
        drop(hold);
        assert!(Python::refuses(VERSION, &scratch.path), "its lock is gone");
        assert_eq!(Hold::take(&scratch.path).unwrap_err().kind, EngineErrorKind::Busy);
        assert!(Python::refuses(VERSION, &scratch.path), "its lock is gone");
        drop(own);
        assert!(!Python::refuses(VERSION, &scratch.path));
    }
}

#[test]
fn who_opened_the_replaced_file_finds_no_database() {
    let scratch = Scratch::new();
    let other = scratch.path.with_file_name("other");
    let late = scratch.path.with_file_name("late.duckdb");
    let old = std::fs::read(&scratch.path).unwrap();
    let hold = Hold::take(&scratch.path).unwrap().unwrap();
    std::fs::hard_link(&scratch.path, &other).unwrap();
    std::fs::remove_file(&scratch.path).unwrap();
    hold.cross_out();
    assert_eq!(std::fs::read(&other).unwrap(), old, "a second name is somebody's copy");
    std::fs::remove_file(&other).unwrap();
    hold.cross_out();
    let mut now = vec![0; old.len()];
    hold.file.read_exact_at(&mut now, 0).unwrap();
    std::fs::write(&late, now).unwrap();
    assert!(Python::refuses(VERSION, &late));
}
