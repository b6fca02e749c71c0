//! What is left of a database whose writer was killed in the middle of a checkpoint, or of the recovery from that, is
//! captured with everything that was acknowledged; and the capture changes nothing of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::copiers::engine;
use crate::places::{Place, Slot, WITH_CHECKPOINT_LOG, are_duckdbs_here, copy_files, say, script};
use crate::session::keep_evidence;
use crate::sink::Pace;
use crate::verify::problems;
use crate::writer::{Acks, Writer, acks};
use crate::{rounds, rounds_of_long_ones};

const PATTERN: &str = "killed";
const DEADLINE: Duration = Duration::from_secs(20);
/// How often a moment that passes quickly is tried to be met.
const TRIES: usize = 25;

/// A folder with a dead database, and what it had acknowledged.
struct Dead {
    version: &'static str,
    folder: tempfile::TempDir,
    acks: Acks,
}

impl Dead {
    /// Kills a writer as soon as the file with `suffix` is there, until it stays behind.
    fn leaving(version: &'static str, suffix: &str, seed: usize) -> Option<Self> {
        for attempt in 0..TRIES {
            let folder = Place::all()[attempt % Place::all().len()].scratch();
            let mut writer = Writer::start(version, PATTERN, folder.path(), seed + attempt).unwrap();
            // It has to have committed something that a naive copy would lose, and not always at the first opportunity.
            std::thread::sleep(Duration::from_millis(100 + (seed as u64 * 53 + attempt as u64 * 31) % 200));
            let file = folder.path().join(format!("app.duckdb{suffix}"));
            let is_met = wait_for(&file);
            // What is committed first of all to the new log takes a moment to be acknowledged.
            std::thread::sleep(Duration::from_micros(attempt as u64 * 700));
            writer.kill();
            drop(writer);
            if is_met && file.exists() {
                let acks = acks(folder.path());
                return Some(Self { version, folder, acks });
            }
        }
        None
    }

    /// The same again, in a folder of its own.
    fn twin(&self) -> Self {
        let folder = Place::all()[0].scratch();
        copy_files(self.folder.path(), "", folder.path(), "");
        Self { version: self.version, folder, acks: self.acks }
    }

    /// Captures it, looks at the copy, and panics if it is not good.
    fn assert_captured(&self, what: &str, pace: Pace) {
        let copy = self.folder.path().join("copy");
        let captured = engine(&self.folder.path().join("app.duckdb"), &copy, pace, DEADLINE);
        let found = match captured {
            Ok(_) => problems(self.version, PATTERN, &copy, &self.acks, Some(&self.acks), true),
            Err(error) => vec![format!("the capture fails: {error:?}")],
        };
        if !found.is_empty() {
            let note = format!("{what}\n{found:#?}\nacknowledged: {:?}\n", self.acks);
            let evidence = keep_evidence(&format!("{}-{what}", self.version), &copy, self.folder.path(), &note);
            panic!("{} {what}: {found:?} (see {})", self.version, evidence.display());
        }
        std::fs::remove_dir_all(&copy).unwrap();
    }

    /// Starts a DuckDB that recovers the database, and holds it until its input ends.
    fn recover(&self) -> Recovering {
        let mut command = script(self.version, "recover.py");
        command.arg(self.folder.path().join("app.duckdb")).stdin(Stdio::piped()).stdout(Stdio::null());
        Recovering(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// Every file with its content.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap);
        entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
    }
}

/// A process that opens a database, killed when dropped.
struct Recovering(Child);

impl Drop for Recovering {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a file came into being within a few seconds; looks all the time.
fn wait_for(file: &Path) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        if file.exists() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn databases_killed_in_a_checkpoint_are_captured_whole() {
    if !are_duckdbs_here() {
        return;
    }
    let mut naive_losses = 0;
    for (number, version) in WITH_CHECKPOINT_LOG.into_iter().enumerate() {
        // The short run does each version in another way.
        for round in number..number + rounds_of_long_ones() {
            let _slot = Slot::take();
            let dead = Dead::leaving(version, ".wal.checkpoint", round * TRIES).unwrap();
            let before = dead.files();
            dead.assert_captured("killed in a checkpoint", Pace::nth(round));
            assert!(dead.files() == before, "the capture has changed something");
            naive_losses += u32::from(loses_without_the_checkpoint_log(&dead));
            // While somebody else recovers it.
            for delay in [[0, 60], [30, 90]][round % 2] {
                let twin = dead.twin();
                let recovering = twin.recover();
                std::thread::sleep(Duration::from_millis(delay));
                twin.assert_captured("during its recovery", Pace::Fast);
                drop(recovering);
            }
        }
    }
    // Not every kill is at a moment at which a naive copy loses something.
    for seed in 0..TRIES {
        if naive_losses > 0 {
            break;
        }
        let _slot = Slot::take();
        let dead = Dead::leaving(WITH_CHECKPOINT_LOG[seed % 2], ".wal.checkpoint", (100 + seed) * TRIES).unwrap();
        naive_losses += u32::from(loses_without_the_checkpoint_log(&dead));
    }
    assert!(naive_losses > 0, "main file and log without `.wal.checkpoint` lost nothing");
    say(&format!("main file and log without `.wal.checkpoint` lost commits of {naive_losses} killed databases"));
}

fn loses_without_the_checkpoint_log(dead: &Dead) -> bool {
    let twin = dead.twin();
    let copy = twin.folder.path().join("naive");
    copy_files(twin.folder.path(), "app.duckdb", &copy, "main.duckdb");
    std::fs::remove_file(copy.join("main.duckdb.wal.checkpoint")).unwrap();
    let found = problems(dead.version, PATTERN, &copy, &dead.acks, Some(&dead.acks), false);
    found.iter().any(|problem| problem.starts_with("LOST"))
}

#[test]
fn databases_killed_in_a_recovery_are_captured_whole() {
    if !are_duckdbs_here() {
        return;
    }
    for version in WITH_CHECKPOINT_LOG {
        let mut met = 0;
        for seed in 0..rounds_of_long_ones() {
            let _slot = Slot::take();
            let dead = Dead::leaving(version, ".wal.checkpoint", 1000 + seed * TRIES).unwrap();
            for _ in 0..TRIES {
                let twin = dead.twin();
                let recovering = twin.recover();
                let file = twin.folder.path().join("app.duckdb.wal.recovery");
                let is_met = wait_for(&file);
                drop(recovering);
                // Wherever it was killed, everything is still there.
                twin.assert_captured("killed in its recovery", Pace::Fast);
                if is_met && file.exists() {
                    met += 1;
                    break;
                }
            }
        }
        say(&format!("{version}: {met} databases were killed while they had a `.wal.recovery`"));
    }
}

#[test]
fn databases_killed_at_any_time_are_captured_whole() {
    if !are_duckdbs_here() {
        return;
    }
    for (seed, version) in crate::places::VERSIONS.into_iter().cycle().take(5 * rounds() as usize).enumerate() {
        let _slot = Slot::take();
        let folder = Place::all()[seed % Place::all().len()].scratch();
        let mut writer = Writer::start(version, PATTERN, folder.path(), seed).unwrap();
        std::thread::sleep(Duration::from_millis(seed as u64 * 97 % 400));
        writer.kill();
        let acks = acks(folder.path());
        Dead { version, folder, acks }.assert_captured("killed at any time", Pace::Fast);
    }
}
