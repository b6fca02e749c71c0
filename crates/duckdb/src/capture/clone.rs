//! On file systems that can share content, a clone of the main file is made in one step and sealed like a round that read
//! everything at once: for snapshots, and as the way out for databases that never give a round the time it needs.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use copal_file_engine::{io_failed, step, storage_failed};
use copal_storage::StorageErrorKind;
use copal_storage::local_file::{clone_into, durable_remove, reflink_open};

use super::blocks::{Blocks, Read};
use super::round::Round;
use super::{Begun, Live, Outcome};
use crate::owner::Owner;
use crate::{LOG, place};

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
        let (order, is_sealed) = seal(live, &round, late)?;
        if !is_sealed {
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

/// Makes `main`, where nothing is, a clone of the database, and a file beside it one of the log; `false`: that cannot be had
/// here, or not now.
pub(super) fn make(live: &Live<'_>, main: &Path) -> EngineResult<bool> {
    let late = Instant::now() + LIMIT;
    while Instant::now() < late {
        let Begun::Round(round) = live.begin_round(Some(late))? else { break };
        if round.missing > 0 {
            // A copy tells the user.
            break;
        }
        let made = reflink_open(&live.observer().main, &live.place.path, main);
        match made {
            Err(error) if error.kind() == StorageErrorKind::Unsupported => return Ok(false),
            made => made.map_err(storage_failed)?,
        }
        step("main file cloned")?;
        let (_, is_sealed) = seal(live, &round, late)?;
        if is_sealed && complete(live, &round, main).map_err(|e| io_failed("write", main, e))? && live.holds(&round)? {
            return Ok(true);
        }
        for path in [place::beside(main, LOG), main.to_owned()] {
            durable_remove(&path).map_err(storage_failed)?;
        }
    }
    Ok(false)
}

/// Gives a sealed clone the round's headers, which may not be the newest any more, and its log.
fn complete(live: &Live<'_>, round: &Round, main: &Path) -> io::Result<bool> {
    File::options().write(true).open(main)?.write_all_at(&round.headers.raw, 0)?;
    let Some(log) = &round.log else { return Ok(true) };
    live.context.cancel.check().map_err(io::Error::other)?;
    let copy = File::options().read(true).write(true).create_new(true).mode(0o600).open(place::beside(main, LOG))?;
    let is_cloned = clone_into(&copy, &log.file)?;
    copy.set_len(log.state.committed)?;
    Ok(is_cloned)
}

/// Seals a clone that was made just now; the blocks that it needs, and whether it is sealed.
fn seal(live: &Live<'_>, round: &Round, late: Instant) -> EngineResult<(Vec<u64>, bool)> {
    let order = round.take_order();
    round.note_read(order.len());
    live.wait_for_seal(round, late)?;
    live.observer().attend(None);
    Ok((order, round.is_complete()))
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
