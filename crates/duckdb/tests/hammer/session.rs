//! One writer and the copies that are made of its database while it writes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use copal_core::EngineErrorKind;

use crate::copiers::engine;
use crate::places::{Place, Slot, copy_files};
use crate::report::{Outcome, Report};
use crate::sink::Pace;
use crate::verify::problems;
use crate::writer::{Acks, Writer};

/// Evidence is kept of so many bad copies at most.
const EVIDENCE: u32 = 20;

/// What is tried.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) version: &'static str,
    pub(crate) pattern: &'static str,
    pub(crate) place: Place,
    pub(crate) copies: u32,
    pub(crate) seed: usize,
    /// How long the engine may take.
    pub(crate) deadline: Duration,
}

/// Starts a writer and captures its database some times.
pub(crate) fn run(cell: &Cell, report: &Mutex<Report>) {
    let _slot = Slot::take();
    let report = || report.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(words) = capture_again_and_again(cell, &mut |took, outcome| {
        report().add(cell.version, cell.pattern, cell.place.name(), took, outcome);
    }) {
        report().writers.push(format!("{} {} {}: {words}", cell.version, cell.pattern, cell.place.name()));
    }
}

/// Error: the writer failed by itself.
fn capture_again_and_again(cell: &Cell, report: &mut dyn FnMut(Duration, Outcome)) -> Result<(), String> {
    let scratch = cell.place.scratch();
    let mut writer = Writer::start(cell.version, cell.pattern, scratch.path(), cell.seed)?;
    for number in 0..cell.copies {
        // Not always at the same moment of what the writer does.
        std::thread::sleep(Duration::from_millis((cell.seed as u64 * 37 + u64::from(number) * 61) % 150));
        let copy = scratch.path().join("copy");
        let pace = Pace::nth(cell.seed + number as usize);
        let (before, begun) = (writer.acks(), Instant::now());
        let captured = engine(&writer.database(), &copy, pace, cell.deadline);
        let (took, after) = (begun.elapsed(), writer.acks());
        writer.hold()?;
        let outcome = match captured {
            Err(error) if error.kind == EngineErrorKind::Busy => Outcome::Busy,
            Err(error) => {
                let what = format!("the capture fails: {error:?}");
                bad(cell, &scratch.path().join("copy"), what, &before, &after)
            }
            Ok(fell_back) => {
                let is_used = number + 1 == cell.copies;
                match problems(cell.version, cell.pattern, &copy, &before, Some(&after), is_used) {
                    none if none.is_empty() => Outcome::Good { fell_back },
                    some => bad(cell, &copy, some.join("; "), &before, &after),
                }
            }
        };
        report(took, outcome);
        let _ = std::fs::remove_dir_all(&copy);
        writer.go()?;
    }
    Ok(())
}

/// Keeps the evidence.
fn bad(cell: &Cell, copy: &Path, what: String, before: &Acks, after: &Acks) -> Outcome {
    let name = format!("{}-{}-{}", cell.version, cell.pattern, cell.place.name());
    let note = format!("{cell:?}\n{what}\nacknowledged before: {before:?}\nacknowledged after: {after:?}\n");
    let evidence = keep_evidence(&name, copy, copy.parent().unwrap(), &note);
    Outcome::Bad { what, evidence }
}

/// Copies what a bad copy can be understood with to `target/tmp/hammer-failures`.
pub(crate) fn keep_evidence(name: &str, copy: &Path, writer: &Path, note: &str) -> PathBuf {
    static KEPT: AtomicU32 = AtomicU32::new(0);
    let number = KEPT.fetch_add(1, Ordering::SeqCst);
    let name = format!("{name}-{}-{number}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hammer-failures").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("note.txt"), note).unwrap();
    if number < EVIDENCE {
        if copy.is_dir() {
            copy_files(copy, "", &folder.join("copy"), "");
        }
        copy_files(writer, "", &folder.join("writer"), "");
    }
    folder
}
