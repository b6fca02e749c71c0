//! The moment in which the new database takes the place of the old one.
//!
//! A main file and its logs cannot be exchanged in one step, and older DuckDBs replay whatever log they find. If neither the
//! old nor the new database has a log, one rename does it. Else nobody may open the target while logs are exchanged:
//!
//! 1. take DuckDB's own lock on the old main file, and look that nobody has it open for writing (else `Busy`; see `hold`),
//! 2. write a durable record of what is going to be renamed, by device and inode,
//! 3. give the old main file a second name, sync the folder, and rename a *barrier* over the target: a text that no DuckDB
//!    opens. From here on nobody can come to the old main file, so a look at who has it open is conclusive,
//! 4. move the old logs aside, move the new ones in, sync the folder after each,
//! 5. rename the new main file over the barrier. From here on the new database is there, whole.
//! 6. Remove what is aside, and the record.
//!
//! Whoever finds a record puts things right before anything else: if the new main file is at the target, step 6; else the
//! new logs go, the old ones come back, and last the old main file, over the barrier. A failure before step 5 does the same.

use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest};
use copal_file_engine::descriptor::{self, FileId, id_of};
use copal_file_engine::{io_failed, step, storage_failed};
use copal_storage::local_file::{StagingFile, durable_remove, durable_rename, fsync_folder};
use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::stage::Staged;
use super::target::Target;

const FORMAT: u32 = 1;
/// How a barrier begins. DuckDB's magic bytes would stand at byte 8.
const BARRIER: &str = "A restore of this database was interrupted.";
const BARRIER_REST: &str = "\nNo DuckDB can open it until that is put right: run the same `copal restore` or `rewind` again. It first puts back what was\n\
                            here before, whole; nothing is lost. (The files beside this one whose names begin with a dot belong to it.)\n";

/// What is going to be renamed. Names are relative to the folder.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// The new main file under its first name, and the barrier; removed if they are still there.
    staged: Vec<String>,
    /// The new main file.
    new_main: FileId,
    /// What stands at the target while logs are exchanged.
    barrier: FileId,
    /// The new logs and where they go.
    new_logs: Vec<(PathBuf, FileId)>,
    /// The old main file and its second name.
    old_main: Option<(FileId, String)>,
    /// Old logs (where they were) and their names meanwhile.
    old_logs: Vec<(PathBuf, String)>,
}

/// Whether a file that begins so is the barrier of an interrupted restore.
pub(crate) fn is_beginning_of_barrier(beginning: &[u8]) -> bool {
    beginning.starts_with(BARRIER.as_bytes())
}

/// Puts the staged database in the target's place; returns whether something was replaced.
pub(super) fn into_place(
    staged: Staged,
    target: &Target,
    request: &RestoreRequest,
    context: &Context,
    notes: &mut Vec<String>,
) -> EngineResult<bool> {
    let _alone = target.lock_folder(context)?;
    notes.extend(settle(target)?);
    let occupied = target.occupied()?;
    if occupied && !request.replace {
        return Err(target.exists_error());
    }
    // Held until the new database has its place: programs that wait for the file get the new one.
    let hold = match Hold::take(&target.path) {
        Err(error) if request.force && error.kind == EngineErrorKind::Busy => {
            notes.push(format!(
                "{error}; stop it before it writes: its log would be taken for that of the new database"
            ));
            None
        }
        hold => hold?,
    };
    let must_be_alone = hold.as_ref().filter(|_| !request.force);
    if let Some(hold) = must_be_alone {
        hold.require_alone(&[target.name.as_ref()])?;
    }
    let old = target.main_file()?;
    if let Some(old) = &old {
        adopt(&staged, old, target, notes)?;
    }
    step("ready to swap")?;
    let old_logs = target.logs()?;
    if staged.logs.is_empty() && old_logs.is_empty() {
        match old {
            Some(_) => staged.main.replace(&target.path),
            None => staged.main.place_new(&target.path),
        }
        .map_err(storage_failed)?;
    } else {
        exchange(staged, target, old.as_ref(), old_logs, must_be_alone)?;
    }
    if let Some(hold) = &hold {
        hold.cross_out();
    }
    step("swapped")?;
    Ok(occupied)
}

/// Swaps main file and logs behind a barrier, or puts everything back.
fn exchange(
    staged: Staged,
    target: &Target,
    old: Option<&Metadata>,
    old_logs: Vec<PathBuf>,
    hold: Option<&Hold>,
) -> EngineResult<()> {
    let barrier = StagingFile::beside(&target.path).map_err(storage_failed)?;
    let text = format!("{BARRIER}{BARRIER_REST}");
    barrier.file().write_all(text.as_bytes()).map_err(|e| io_failed("write", barrier.path(), e))?;
    let record = Record::create(&staged, &barrier, target, old, old_logs)?;
    let swapped = record.swap(staged, barrier, target, hold);
    // Also after an error the new database may have its place (only the folder could not be synced): the inode tells.
    match (swapped, record.resolve(target)) {
        (Ok(()), resolved) => resolved.map(|_| ()),
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(second)) => {
            tracing::warn!(target = %target.path.display(), error = %second, "the next restore will put this right");
            Err(error)
        }
    }
}

impl Record {
    fn create(
        staged: &Staged,
        barrier: &StagingFile,
        target: &Target,
        old: Option<&Metadata>,
        old_logs: Vec<PathBuf>,
    ) -> EngineResult<Self> {
        let id = |file: &StagingFile| {
            file.file().metadata().map(|m| id_of(&m)).map_err(|e| io_failed("look at", file.path(), e))
        };
        let name = |file: &StagingFile| file.path().file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let main = name(&staged.main);
        let mut record = Self {
            format: FORMAT,
            staged: vec![main.clone(), name(barrier)],
            new_main: id(&staged.main)?,
            barrier: id(barrier)?,
            new_logs: Vec::new(),
            old_main: old.map(|old| (id_of(old), format!("{main}-old"))),
            old_logs: old_logs.into_iter().enumerate().map(|(i, path)| (path, format!("{main}-old-log{i}"))).collect(),
        };
        for (suffix, log) in &staged.logs {
            record.staged.push(name(log));
            record.new_logs.push((target.companion(suffix), id(log)?));
        }
        let path = path_of(target);
        let note = StagingFile::beside(&path).map_err(storage_failed)?;
        let text = serde_json::to_vec(&record).map_err(|e| io_failed("write", &path, e.into()))?;
        note.file().write_all(&text).map_err(|e| io_failed("write", note.path(), e))?;
        note.place_new(&path).map_err(storage_failed)?;
        Ok(record)
    }

    fn swap(&self, staged: Staged, barrier: StagingFile, target: &Target, hold: Option<&Hold>) -> EngineResult<()> {
        step("record written")?;
        match &self.old_main {
            Some((_, aside)) => {
                let aside = target.folder.join(aside);
                std::fs::hard_link(&target.path, &aside).map_err(|e| {
                    io_failed("keep a second name for", &target.path, e)
                        .hint("restore to another path, and rename it by hand")
                })?;
                // Of the two changes of names, the folder must not keep the second without the first.
                fsync_folder(&target.folder).map_err(storage_failed)?;
                step("old main file has a second name")?;
                barrier.replace(&target.path).map_err(storage_failed)?;
            }
            None => barrier.place_new(&target.path).map_err(storage_failed)?,
        }
        step("barrier placed")?;
        // Nobody can open the old main file any more; who did so before, and has not locked it yet, would find our logs.
        if let (Some(hold), Some((_, aside))) = (hold, &self.old_main) {
            hold.require_alone(&[target.name.as_ref(), aside.as_ref()])?;
        }
        for (log, aside) in &self.old_logs {
            durable_rename(log, &target.folder.join(aside)).map_err(storage_failed)?;
            step("old log moved aside")?;
        }
        for (suffix, log) in staged.logs {
            log.place_new(&target.companion(suffix)).map_err(storage_failed)?;
            step("new log placed")?;
        }
        staged.main.replace(&target.path).map_err(storage_failed)?;
        step("new main file placed")
    }

    /// Puts things right, whatever happened since the record was made; returns whether the new database has its place, and
    /// remarks.
    fn resolve(&self, target: &Target) -> EngineResult<(bool, Vec<String>)> {
        if target.main_file()?.is_some_and(|main| id_of(&main) == self.new_main) {
            self.finish(target)?;
            return Ok((true, Vec::new()));
        }
        self.undo(target).map(|notes| (false, notes))
    }

    /// Removes what is aside, and the record; the new database has its place.
    fn finish(&self, target: &Target) -> EngineResult<()> {
        let asides = self.old_main.iter().map(|(_, aside)| aside).chain(self.old_logs.iter().map(|(_, aside)| aside));
        for name in asides.chain(&self.staged) {
            durable_remove(&target.folder.join(name)).map_err(storage_failed)?;
            step("removed what was aside")?;
        }
        durable_remove(&path_of(target)).map_err(storage_failed)
    }

    /// Puts back what was there, and removes the record; returns remarks.
    fn undo(&self, target: &Target) -> EngineResult<Vec<String>> {
        let mut notes = Vec::new();
        let main = target.main_file()?;
        let is_old = |main: FileId| self.old_main.as_ref().is_some_and(|(old, _)| *old == main);
        let is_strange = main.as_ref().map(id_of).is_some_and(|main| !is_old(main) && !self.is_barrier(main, target));
        if is_strange {
            // Somebody put another file there by hand. Nothing of it is touched, and nothing of the old one is lost.
            notes.push(format!(
                "{} is neither the old nor the new database; what was there before is kept in {} in files whose names begin with .{}",
                target.path.display(),
                target.folder.display(),
                target.name
            ));
        } else {
            for (log, id) in &self.new_logs {
                let is_ours = std::fs::metadata(log).is_ok_and(|found| id_of(&found) == *id);
                if is_ours {
                    durable_remove(log).map_err(storage_failed)?;
                    step("new log removed")?;
                }
            }
            for (log, aside) in &self.old_logs {
                let aside = target.folder.join(aside);
                if std::fs::symlink_metadata(&aside).is_ok() {
                    durable_rename(&aside, log).map_err(storage_failed)?;
                    step("old log moved back")?;
                }
            }
            match &self.old_main {
                Some((old, aside)) => {
                    let aside = target.folder.join(aside);
                    if main.is_some_and(|main| id_of(&main) == *old) {
                        durable_remove(&aside).map_err(storage_failed)?;
                    } else if std::fs::symlink_metadata(&aside).is_ok() {
                        durable_rename(&aside, &target.path).map_err(storage_failed)?;
                    }
                }
                None if main.is_some() => durable_remove(&target.path).map_err(storage_failed)?,
                None => {}
            }
            step("old main file back")?;
        }
        for name in &self.staged {
            durable_remove(&target.folder.join(name)).map_err(storage_failed)?;
        }
        durable_remove(&path_of(target)).map_err(storage_failed)?;
        Ok(notes)
    }

    /// Whether the file at the target is the barrier. The inode alone does not tell: that of a removed barrier is the first to
    /// be given to another file.
    fn is_barrier(&self, main: FileId, target: &Target) -> bool {
        let mut beginning = vec![0; BARRIER.len()];
        main == self.barrier
            // Not closed again: what is there may be in use by this very process.
            && descriptor::open(&target.path).is_ok_and(|(file, _)| file.read_exact_at(&mut beginning, 0).is_ok())
            && is_beginning_of_barrier(&beginning)
    }

    /// A record may come from anybody who can write to the folder: it names files of this target only.
    fn is_safe(&self, target: &Target) -> bool {
        let plain = |name: &String| name.starts_with('.') && !name.contains('/');
        let logs = target.possible_logs();
        self.format == FORMAT
            && self.staged.iter().all(plain)
            && self.old_main.iter().all(|(_, aside)| plain(aside))
            && self.old_logs.iter().all(|(log, aside)| logs.contains(log) && plain(aside))
            && self.new_logs.iter().all(|(log, _)| logs.contains(log))
    }
}

/// Puts right what an interrupted restore to the same target left; returns remarks. The folder is locked by the caller.
pub(super) fn settle(target: &Target) -> EngineResult<Vec<String>> {
    let path = path_of(target);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_failed("read", &path, e)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|e| unreadable(&path).because(e))?;
    if !record.is_safe(target) {
        return Err(unreadable(&path));
    }
    let (finished, mut notes) = record.resolve(target)?;
    fsync_folder(&target.folder).map_err(storage_failed)?;
    let what = if finished { "finished" } else { "undid" };
    notes.push(format!("{what} a restore that had been interrupted"));
    Ok(notes)
}

/// Gives the new files the old one's owner and mode, as far as we may.
fn adopt(staged: &Staged, old: &Metadata, target: &Target, notes: &mut Vec<String>) -> EngineResult<()> {
    let mut is_owned = true;
    for file in std::iter::once(&staged.main).chain(staged.logs.iter().map(|(_, log)| log)) {
        is_owned &= file.adopt(old).map_err(storage_failed)?;
    }
    if !is_owned {
        notes.push(format!("{} now belongs to the user who restored it", target.path.display()));
    }
    Ok(())
}

/// Whether a restore to the same target was interrupted where that has to be put right.
pub(super) fn is_interrupted(target: &Target) -> bool {
    std::fs::symlink_metadata(path_of(target)).is_ok()
}

fn path_of(target: &Target) -> PathBuf {
    let name: String = target.name.chars().take(48).collect();
    // Tells long names apart that begin alike.
    let rest = if name == target.name {
        String::new()
    } else {
        format!("~{}", &blake3::hash(target.name.as_bytes()).to_hex()[..8])
    };
    target.folder.join(format!(".{name}{rest}.copal-restore"))
}

fn unreadable(path: &Path) -> EngineError {
    let message = format!("{} was left by an interrupted restore and cannot be understood", path.display());
    EngineError::new(EngineErrorKind::Other, message).hint("a newer Copal may have written it; restore to another path")
}
