//! The moment in which the new database takes the place of the old one.
//!
//! A main file and its `-wal` or `-journal` cannot be exchanged in one step, and SQLite applies whatever valid log or
//! journal it finds. So the old database is first brought into a state in which its main file is all of it:
//!
//! 1. take SQLite's EXCLUSIVE lock (in WAL mode nobody may even have it open; else `Busy`),
//! 2. let SQLite roll back the journal, or copy the log into the main file and truncate it,
//! 3. remove `-wal`, `-journal` and `-shm`, and sync the folder,
//! 4. rename the new file over the old one, and sync the folder; the lock is held until then.
//!
//! Before step 4 the path holds the whole old database, after it the whole new one. Companions are removed before and
//! never after the rename: from then on those names belong to whoever opens the new database.
//!
//! If SQLite cannot read the old database, or its main file is gone, steps 2 and 3 are replaced by moving the
//! companions aside under a durable record (see `record`). In between SQLite finds the old main file alone, which it
//! could not read anyway, or no database.
//!
//! The same is done with `force` if others have locked the old database. Who opens it between the two renames finds it
//! without what stands in its log only; what such a one makes beside it is removed just before the new file has its place.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest};
use copal_file_engine::{io_failed, step, storage_failed};
use copal_storage::local_file::{StagingFile, fsync_folder};

use super::lock::{self, Seized};
use super::record::{self, Record};
use super::target::{COMPANIONS, Target};

/// What a program finds that goes on using the old file: no database, rather than one that nobody backs up.
const REPLACED: &[u8; 48] = b"This database was replaced by a restored one.\n\0\0";

/// Puts the staged file in the target's place; returns whether something was replaced.
pub(super) fn into_place(
    staged: StagingFile,
    target: &Target,
    request: &RestoreRequest,
    wait: Duration,
    context: &Context,
    notes: &mut Vec<String>,
) -> EngineResult<bool> {
    let _alone = lock::alone(target, wait, context)?;
    let wait = if request.force { Duration::ZERO } else { wait };
    notes.extend(record::settle(target, wait, request.force, context)?);
    let occupied = target.occupied()?;
    if occupied && !request.replace {
        return Err(target.exists_error());
    }
    step("ready to swap")?;
    match target.main_file()? {
        // What may stand there is an empty log, a crossed-out journal or an index, all of which SQLite starts anew. It
        // is not touched: without a main file there is no lock to keep off somebody who creates a database just now.
        None if !occupied => staged.place_new(&target.path).map_err(storage_failed)?,
        None => recorded(staged, target, Place::New, false)?,
        Some(old) => {
            adopt(&staged, &old, target, notes)?;
            replace_main(staged, target, &old, request.force, wait, context)?;
        }
    }
    step("swapped")?;
    Ok(occupied)
}

fn replace_main(
    staged: StagingFile,
    target: &Target,
    old: &Metadata,
    force: bool,
    wait: Duration,
    context: &Context,
) -> EngineResult<()> {
    // SQLite would delete a log that stands beside an empty main file, so that is left unopened.
    let seized = match old.len() {
        0 => Seized::blind(&target.path, wait, context),
        _ => Seized::gather(&target.path, wait, context),
    };
    let seized = match seized {
        Err(error) if force && error.kind == EngineErrorKind::Busy => None,
        seized => Some(seized?),
    };
    step("locked")?;
    if !force {
        lock::wait_for_users(&target.path, wait, context)?;
    }
    // Kept open as long as the lock is needed: to close a descriptor of the file ends the process's locks on it.
    let old_file = OpenOptions::new().write(true).open(&target.path).map_err(|e| io_failed("open", &target.path, e))?;
    let swapped = if seized.as_ref().is_some_and(|seized| seized.is_whole) {
        remove_companions(target)
            .and_then(|()| step("old database gathered"))
            .and_then(|()| staged.replace(&target.path).map_err(storage_failed))
    } else {
        recorded(staged, target, Place::Existing, seized.is_none())
    };
    if swapped.is_ok() {
        cross_out(&old_file);
    }
    // In this order: until `seized` is dropped, SQLite keeps other connections of this process from taking locks that
    // the closing would end.
    drop(old_file);
    drop(seized);
    swapped
}

enum Place {
    New,
    Existing,
}

/// Swaps with the companions moved aside under a record, and puts them back if that fails.
fn recorded(staged: StagingFile, target: &Target, place: Place, forced: bool) -> EngineResult<()> {
    let record = Record::create(target, &staged, forced)?;
    let swapped = step("record written").and_then(|()| record.move_aside(target)).and_then(|()| {
        // Now, so that nothing is left to be synced between the next two steps.
        staged.file().sync_all().map_err(|e| io_failed("sync", staged.path(), e))?;
        record.remove_late(target)?;
        match place {
            Place::New => staged.place_new(&target.path),
            Place::Existing => staged.replace(&target.path),
        }
        .map_err(storage_failed)
    });
    let swapped = swapped.and_then(|()| step("renamed"));
    // Also after an error the new file may have its place (only the folder could not be synced): the record knows it.
    match (swapped, record.resolve(target)) {
        (Ok(()), resolved) => resolved.map(|_| ()),
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(second)) => {
            tracing::warn!(target = %target.path.display(), error = %second, "the next restore will put this right");
            Err(error)
        }
    }
}

/// Removes companions that hold nothing: an empty or gathered log, an inert journal, an index without users.
fn remove_companions(target: &Target) -> EngineResult<()> {
    if let [left, ..] = target.meaningful_companions()?.as_slice() {
        let message = format!("{} still holds a part of the database that is to be replaced", left.display());
        return Err(EngineError::new(EngineErrorKind::Other, message));
    }
    for suffix in COMPANIONS {
        let path = target.companion(suffix);
        match std::fs::remove_file(&path) {
            Ok(()) => step("companion removed")?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_failed("remove", &path, e)),
        }
    }
    fsync_folder(&target.folder).map_err(storage_failed)
}

/// Gives the new file the old one's owner and mode, as far as we may.
fn adopt(staged: &StagingFile, old: &Metadata, target: &Target, notes: &mut Vec<String>) -> EngineResult<()> {
    if !staged.adopt(old).map_err(storage_failed)? {
        notes.push(format!("{} now belongs to the user who restored it", target.path.display()));
    }
    Ok(())
}

/// Makes the replaced file useless for programs that still have it open, unless it has another name somewhere.
fn cross_out(old: &File) {
    if old.metadata().is_ok_and(|m| m.nlink() == 0) {
        // Best effort: the restore is done. It covers the magic bytes, and the change counter, so that caches are left.
        let _ = old.write_all_at(REPLACED, 0);
    }
}
