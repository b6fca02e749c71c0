//! The way out for databases that never give a round the time it needs: on file systems that can share content, a clone of
//! the main file is made in one step, sealed like a round that read everything at once, and read afterwards.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use copal_storage::StorageErrorKind;
use copal_storage::local_file::reflink_open;

use super::blocks::{Blocks, Read};
use super::{Begun, Live, Outcome};
use crate::owner::Owner;

/// How long clones are tried.
const LIMIT: Duration = Duration::from_secs(20);
/// Clones left by killed backups are removed when they are older than this.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
const SUFFIX: &str = ".copal-clone~";

/// A clone, removed when dropped.
struct Clone(PathBuf);

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Captures from a clone, after `rounds` rounds were in vain.
pub(super) fn capture(live: &Live<'_>, mut blocks: Blocks<'_>, rounds: u32) -> EngineResult<Outcome> {
    let path = &live.place.path;
    sweep(path);
    let late = Instant::now() + LIMIT;
    while Instant::now() < late {
        let Begun::Round(round) = live.begin_round(Some(late))? else { break };
        if round.headers.active.block_bytes as usize != blocks.block_bytes() {
            return blocks.withdraw().map(|_| Outcome::Again);
        }
        let clone = Clone(beside(path));
        let made = reflink_open(&live.observer().main, path, &clone.0);
        if let Err(error) = made {
            let why = match error.kind() {
                StorageErrorKind::Unsupported => "its file system cannot clone files",
                _ => "it could not be cloned",
            };
            return Err(busy(live, rounds, why).because(error));
        }
        let order = round.take_order();
        round.note_read(order.len());
        live.wait_for_seal(&round, late)?;
        live.observer().attend(None);
        if !round.is_complete() {
            continue;
        }
        let file = File::open(&clone.0).map_err(|e| live.read_failed(e))?;
        let mut unsound = 0;
        for block in order {
            live.context.cancel.check()?;
            let read = blocks.read(&file, &round.headers, block).map_err(|e| live.read_failed(e))?;
            unsound += u64::from(read != Read::Sound);
            blocks.give(block, true)?;
        }
        let note = format!("captured from a clone, after {rounds} attempts to read it while it was written to");
        return live.finish(&round, blocks, unsound, vec![note]);
    }
    Err(busy(live, rounds, "no clone could be made between two checkpoints"))
}

fn busy(live: &Live<'_>, rounds: u32, why: &str) -> EngineError {
    let observer = live.observer();
    let owner = Owner::of(observer.main_id);
    let message = format!(
        "{} was rewritten faster than it could be read{}: {rounds} attempts and {} checkpoints in {} seconds, and {why}",
        live.place.path.display(),
        owner.shown(),
        observer.met,
        live.limit.as_secs()
    );
    EngineError::new(EngineErrorKind::Busy, message).hint(
        "back up in a quieter hour; let the application checkpoint less often (wal_autocheckpoint, no CHECKPOINT after \
         each transaction); give it more time with duckdb_deadline; or keep it on XFS or Btrfs, where it can be cloned",
    )
}

fn beside(path: &Path) -> PathBuf {
    let name: String = path.file_name().unwrap_or_default().to_string_lossy().chars().take(48).collect();
    let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    path.with_file_name(format!(".{name}{SUFFIX}{:x}-{unique:x}", std::process::id()))
}

/// Removes what killed backups left.
fn sweep(path: &Path) {
    let Some(entries) = path.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.contains(SUFFIX));
        let age = entry.metadata().ok().and_then(|m| m.modified().ok()).and_then(|at| at.elapsed().ok());
        if is_ours && age.is_some_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
