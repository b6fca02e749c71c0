//! Captures of running writers: every pattern, every version, every kind of file system.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::copiers::Recipe;
use crate::places::{Place, Slot, VERSIONS, are_duckdbs_here, say};
use crate::report::Report;
use crate::rounds;
use crate::session::{self, Cell};
use crate::verify::problems;
use crate::writer::Writer;

/// What writers do; see `writers/patterns.py`. All of them work with all versions. Long checkpoints only make others write
/// to `.wal.checkpoint` from 1.5 on, and optimistic writes are only found in the log from 1.2 on.
const PATTERNS: [&str; 19] = [
    "bank",
    "update",
    "bulk_wal",
    "bulk_skip",
    "ddl",
    "rollbacks",
    "threads",
    "checkpoint_each",
    "auto_1mb",
    "permute",
    "held",
    "concurrent",
    "empty_log",
    "small_blocks",
    "documents",
    "documents_packed",
    "idle",
    "reopen",
    "mixed",
];
/// What all versions do in the short run.
const SOME: [&str; 8] = ["bulk_wal", "ddl", "rollbacks", "permute", "held", "concurrent", "small_blocks", "mixed"];
/// The version on which the short run does everything.
const NEWEST: &str = "2.0.0";
/// Writers at a time.
const WORKERS: usize = 2;

#[test]
fn captures_of_live_databases_are_committed_states() {
    if !are_duckdbs_here() {
        return;
    }
    let cells = cells(rounds() > 1);
    let (report, next) = (Mutex::new(Report::default()), AtomicUsize::new(0));
    let late = Instant::now() + Duration::from_secs(u64::from(rounds().max(3)) * 90);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if Instant::now() < late {
                        session::run(cell, &report);
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    report.say();
    let wanted: usize = cells.iter().map(|cell| cell.copies as usize).sum();
    if report.copies() < wanted {
        say(&format!("only {} of {wanted} copies: time was up, or writers failed", report.copies()));
    }
    assert!(report.bad.is_empty(), "{} bad copies: {:#?}", report.bad.len(), report.bad);
    assert!(report.copies() >= (wanted / 2).min(60), "{} of {wanted} copies", report.copies());
    assert!(report.busy() * 20 <= report.copies(), "{} of {} were busy", report.busy(), report.copies());
    assert!(report.writers.len() * 20 <= cells.len(), "writers failed: {:#?}", report.writers);
}

/// What is tried. `is_long`: everything everywhere.
fn cells(is_long: bool) -> Vec<Cell> {
    let places = Place::all();
    let mut cells = Vec::new();
    for version in VERSIONS {
        let patterns = if is_long || version == NEWEST { &PATTERNS[..] } else { &SOME[..] };
        for pattern in patterns.iter().copied() {
            let here = if is_long { places.as_slice() } else { &places[cells.len() % places.len()..][..1] };
            for place in here.iter().copied() {
                let copies = if is_long { 2 + rounds() / 10 } else { 1 };
                let deadline = Duration::from_secs(20);
                cells.push(Cell { version, pattern, place, copies, seed: cells.len(), deadline });
            }
        }
    }
    cells
}

/// The verification itself: copies of a writer that holds still are good, whatever it does.
#[test]
fn copies_of_a_writer_that_holds_still_are_good() {
    if !are_duckdbs_here() {
        return;
    }
    let all: Vec<_> = VERSIONS.iter().flat_map(|version| PATTERNS.map(|pattern| (*version, pattern))).collect();
    // All combinations take their time; a few of them each time, unless there is time.
    let step = if rounds() > 1 { 1 } else { 13 };
    for (seed, (version, pattern)) in all.iter().copied().enumerate().step_by(step) {
        let _slot = Slot::take();
        let scratch = Place::all()[0].scratch();
        let mut writer = Writer::start(version, pattern, scratch.path(), seed).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let before = writer.acks();
        let copy = scratch.path().join("copy");
        Recipe::Held.copy(&mut writer, &copy).unwrap();
        let after = writer.acks();
        writer.kill();
        let found = problems(version, pattern, &copy, &before, Some(&after), true);
        assert!(found.is_empty(), "{version} {pattern}: {found:?}");
    }
}
