//! Calls that are killed, or fail, at each of their steps, and what the next one makes of that.

use std::path::Path;

use copal_core::{Context, Source};
use copal_file_engine::testing::{Reflinks, abort_at, fail_at};

use super::{folder_of, id, list, names_in, places, request, rewind, snapshots, take};
use crate::Reader;
use crate::place::beside;
use crate::testing::{Scratch, child, engine, holder, shell};

const CHILD: &str = "snapshot::tests::killed::killed_call";
const MANY: u32 = 60;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Take,
    Rewind,
    Force,
    Describe,
    Remove,
    Settle,
}

const CALLS: [Call; 6] = [Call::Take, Call::Rewind, Call::Force, Call::Describe, Call::Remove, Call::Settle];

impl Call {
    fn run(self, path: &Path) -> copal_core::EngineResult<()> {
        let (engine, source, context) = (engine(Reader::Auto), Source::path(path), Context::silent());
        match self {
            Self::Take => take(path, 2).map(drop),
            Self::Rewind => rewind(path, 1, false).map(drop),
            Self::Force => rewind(path, 1, true).map(drop),
            Self::Describe => snapshots(&engine).describe(&source, &id(1), &request(7, None).note, &context),
            Self::Remove => snapshots(&engine).remove(&source, &id(1), &context),
            Self::Settle => snapshots(&engine).settle(&source, false, &context).map(drop),
        }
    }

    /// A database with `one` in its snapshot, and `two` besides now, part of it in a log or a journal as a crash leaves it.
    fn prepare(self, folder: &Path, mode: &str) -> Scratch {
        let scratch = Scratch::within(
            folder,
            "app.db",
            "PRAGMA journal_mode = wal; CREATE TABLE t (x); INSERT INTO t VALUES ('one')",
        );
        take(&scratch.path, 1).unwrap();
        scratch.run(&format!("PRAGMA journal_mode = {mode}; INSERT INTO t VALUES ('two')"));
        if mode == "wal" {
            let writer = scratch.connect();
            writer.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE t SET x = 'two' WHERE x = 'two'").unwrap();
            let crashed = scratch.crashed_copy();
            drop(writer);
            for suffix in ["", "-wal"] {
                std::fs::copy(beside(&crashed.path, suffix), beside(&scratch.path, suffix)).unwrap();
            }
        }
        if self == Self::Settle {
            // What is left of a call that was killed when its description had its place, but not the main file.
            let place = folder_of(&scratch.path);
            let is_half_placed = |_: &u32| {
                place.join(format!("{}.json", id(2))).exists() && !place.join(format!("{}.db", id(2))).exists()
            };
            let found = (0..MANY).inspect(|step| assert!(!Self::Take.in_child(&scratch.path, *step).success()));
            found.into_iter().find(is_half_placed).unwrap();
        }
        scratch
    }

    fn in_child(self, path: &Path, step: u32) -> std::process::ExitStatus {
        let (call, step) = (CALLS.iter().position(|c| *c == self).unwrap().to_string(), step.to_string());
        let path = path.to_str().unwrap();
        let arguments = [("COPAL_TEST_CALL", call.as_str()), ("COPAL_TEST_PATH", path), ("COPAL_TEST_STEP", &step)];
        child(CHILD, &arguments).status().unwrap()
    }
}

/// Not a test by itself: the process that is killed by the others.
#[test]
fn killed_call() {
    let Ok(call) = std::env::var("COPAL_TEST_CALL") else { return };
    let step = std::env::var("COPAL_TEST_STEP").unwrap().parse().unwrap();
    abort_at(Some(step));
    CALLS[call.parse::<usize>().unwrap()].run(Path::new(&std::env::var("COPAL_TEST_PATH").unwrap())).unwrap();
}

/// What is at the path now, asked of a copy.
fn now(scratch: &Scratch) -> String {
    shell(&scratch.crashed_copy(), "PRAGMA integrity_check; SELECT group_concat(x) FROM t")
}

/// Every snapshot that is listed is whole; those that must be there are.
fn assert_listed(scratch: &Scratch, call: Call, what: &str) {
    let listed = list(&scratch.path);
    for snapshot in &listed {
        let file = folder_of(&scratch.path).join(format!("{}.db", snapshot.id));
        let content = if snapshot.id == id(1) { "ok\none\n" } else { "ok\none,two\n" };
        assert_eq!(shell(&file, "PRAGMA integrity_check; SELECT group_concat(x) FROM t"), content, "{what}");
        let names = [request(1, None).note.name, request(2, None).note.name, request(7, None).note.name];
        assert!(names.contains(&snapshot.note.name), "{what}");
    }
    assert!(call == Call::Remove || listed.iter().any(|s| s.id == id(1)), "{what}: the snapshot vanished");
}

/// After the next call, whichever it is, nothing tells of the interruption.
fn assert_settled(scratch: &Scratch, call: Call, what: &str) {
    let before = list(&scratch.path);
    let (engine, source, context) = (engine(Reader::Auto), Source::path(&scratch.path), Context::silent());
    let told = snapshots(&engine).settle(&source, true, &context).unwrap();
    let done = snapshots(&engine).settle(&source, false, &context).unwrap();
    assert_eq!(told.len(), done.len(), "{what}: {told:?} {done:?}");
    assert!(snapshots(&engine).settle(&source, false, &context).unwrap().is_empty(), "{what}: settled at once");
    assert_eq!(list(&scratch.path), before, "{what}");
    assert_listed(scratch, call, what);
    let mut expected: Vec<_> = before.iter().flat_map(|s| [format!("{}.db", s.id), format!("{}.json", s.id)]).collect();
    expected.sort();
    assert_eq!(names_in(&folder_of(&scratch.path)), expected, "{what}");
    assert!(["ok\none\n", "ok\none,two\n"].contains(&now(scratch).as_str()), "{what}: {}", now(scratch));
}

#[test]
fn killed_at_any_step() {
    let reflinks = Reflinks::find();
    for (folder, method) in places(reflinks.as_ref()) {
        for call in CALLS {
            for mode in ["delete", "wal"] {
                for step in 0.. {
                    let what = format!("{call:?} in {mode} mode, {method}, killed at step {step}");
                    assert!(step < MANY, "{what}");
                    let scratch = call.prepare(&folder, mode);
                    let status = call.in_child(&scratch.path, step);
                    assert_listed(&scratch, call, &what);
                    assert_settled(&scratch, call, &what);
                    if status.success() {
                        assert!(step >= 2, "{what}: steps are passed");
                        break;
                    }
                    assert_eq!(status.code(), None, "{what}: killed, not failed");
                    if call == Call::Take || list(&scratch.path).iter().any(|s| s.id == id(1)) {
                        let again = call.run(&scratch.path);
                        let is_done = list(&scratch.path).iter().any(|s| s.id == id(2));
                        assert!(again.is_ok() || is_done, "{what}: {again:?}");
                    }
                    assert_settled(&scratch, call, &what);
                    if matches!(call, Call::Rewind | Call::Force) {
                        assert_eq!(now(&scratch), "ok\none\n", "{what}: rewound in the end");
                    }
                }
            }
        }
    }
}

#[test]
fn failed_at_any_step() {
    for call in CALLS {
        for step in 0.. {
            let what = format!("{call:?} failed at step {step}");
            assert!(step < MANY, "{what}");
            let scratch = call.prepare(&std::env::temp_dir(), "wal");
            fail_at(Some(step));
            let done = call.run(&scratch.path);
            fail_at(None);
            assert_listed(&scratch, call, &what);
            if call == Call::Take && done.is_err() {
                let listed = list(&scratch.path);
                assert!(listed.len() == 1 || step > 3, "{what}");
                let others = names_in(&folder_of(&scratch.path)).len();
                assert_eq!(others, 2 * listed.len(), "{what}: nothing is left");
            }
            assert_settled(&scratch, call, &what);
            if done.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn forced_while_others_write_and_killed_at_any_step() {
    for script in [
        "PRAGMA wal_autocheckpoint = 0; UPDATE t SET x = 'two' WHERE x = 'two';",
        "PRAGMA journal_mode = delete; PRAGMA cache_size = 1; BEGIN IMMEDIATE; UPDATE t SET x = 'torn'; INSERT INTO t VALUES (zeroblob(100000));",
    ] {
        for step in 0.. {
            let what = format!("{script} killed at step {step}");
            assert!(step < MANY, "{what}");
            let scratch = Call::Force.prepare(&std::env::temp_dir(), "delete");
            if script.contains("wal_auto") {
                scratch.run("PRAGMA journal_mode = wal");
            }
            let program = holder(&scratch, script);
            let status = Call::Force.in_child(&scratch.path, step);
            assert_listed(&scratch, Call::Force, &what);
            // That program is still there, and in nobody's way.
            assert_settled(&scratch, Call::Force, &what);
            if status.success() {
                assert!(step >= 8, "{what}: steps are passed");
                assert_eq!(now(&scratch), "ok\none\n", "{what}");
                break;
            }
            Call::Force.run(&scratch.path).unwrap();
            assert_eq!(now(&scratch), "ok\none\n", "{what}: rewound in the end");
            drop(program);
            assert_eq!(now(&scratch), "ok\none\n", "{what}: and stays so");
        }
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn a_disk_that_is_full_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).arg(dir.path()).stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !run("mount", &["-t", "tmpfs", "-o", "size=512k", "copal-test"]) {
        eprintln!("SKIPPED: no right to mount a small file system");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let mut seen = [0_u32; 4];
        for free in (0..=40).map(|n| n * 4096) {
            let scratch = Scratch::within(dir.path(), "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES ('one')");
            for (call, count) in [(Call::Take, 0), (Call::Rewind, 2)] {
                if call == Call::Rewind {
                    let _ = snapshots(&engine(Reader::Auto)).remove(
                        &Source::path(&scratch.path),
                        &id(2),
                        &Context::silent(),
                    );
                    take(&scratch.path, 1).unwrap();
                    scratch.run("INSERT INTO t VALUES ('two')");
                }
                let before = now(&scratch);
                let filler = dir.path().join("filler");
                let left = copal_storage::local_file::free_space(dir.path()).unwrap();
                std::fs::write(&filler, vec![1; usize::try_from(left.saturating_sub(free)).unwrap()]).unwrap();
                let done = call.run(&scratch.path);
                std::fs::remove_file(&filler).unwrap();
                match done {
                    Ok(()) => seen[count] += 1,
                    Err(error) => {
                        assert_eq!(error.kind, copal_core::EngineErrorKind::NoSpace, "{call:?}, {free} bytes: {error}");
                        assert_eq!(now(&scratch), before, "{call:?}, {free} bytes");
                        seen[count + 1] += 1;
                    }
                }
                if folder_of(&scratch.path).is_dir() {
                    let listed = list(&scratch.path).len();
                    assert_eq!(names_in(&folder_of(&scratch.path)).len(), 2 * listed, "{call:?}, {free} bytes");
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 0), "each was done and was refused: {seen:?}");
    });
    run("umount", &[]);
    outcome.unwrap();
}
