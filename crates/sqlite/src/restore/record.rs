//! A note beside the target that says which of its files were moved aside, so that an interruption can be undone.
//!
//! It is needed only where the old database cannot be gathered in its main file: it is damaged, its main file is gone, or it
//! is in use and replaced by force. Whoever finds the note puts things right before anything else: if the new main file took its place, what
//! was moved aside goes; if not, it goes back.

use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use copal_file_engine::{io_failed, step, storage_failed};
use copal_storage::StorageErrorKind;
use copal_storage::local_file::{StagingFile, durable_remove, durable_rename};
use serde::{Deserialize, Serialize};

use super::lock::Seized;
use super::target::{COMPANIONS, Target};

const FORMAT: u32 = 1;

/// The note's content. Names are relative to the folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    staged: String,
    /// The staged file's device and inode, by which it is known again after it was renamed.
    identity: (u64, u64),
    /// Suffixes that were moved, with the names that the files have meanwhile.
    moved: Vec<(String, String)>,
    /// The old database was in use, and may still be: nobody can be kept out while this is put right.
    #[serde(default)]
    forced: bool,
}

impl Record {
    /// Plans to move all files beside the target away while `staged` takes its place, and makes the plan durable.
    pub(super) fn create(target: &Target, staged: &StagingFile, forced: bool) -> EngineResult<Self> {
        let metadata = staged.file().metadata().map_err(|e| io_failed("look at", staged.path(), e))?;
        let name = staged.path().file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let moved = COMPANIONS
            .iter()
            .filter(|suffix| forced || std::fs::symlink_metadata(target.companion(suffix)).is_ok())
            .map(|suffix| ((*suffix).to_owned(), format!("{name}-old{suffix}")))
            .collect();
        let record = Self { format: FORMAT, staged: name, identity: identity(&metadata), moved, forced };
        let path = path_of(target);
        let note = StagingFile::beside(&path).map_err(storage_failed)?;
        let text = serde_json::to_vec(&record).map_err(|e| io_failed("write", &path, e.into()))?;
        note.file().write_all(&text).map_err(|e| io_failed("write", note.path(), e))?;
        note.place_new(&path).map_err(storage_failed)?;
        Ok(record)
    }

    /// Moves the files aside.
    pub(super) fn move_aside(&self, target: &Target) -> EngineResult<()> {
        for (suffix, aside) in &self.moved {
            match durable_rename(&target.companion(suffix), &target.folder.join(aside)) {
                // Those who use the database may take such files away themselves.
                Err(e) if self.forced && e.kind() == StorageErrorKind::NotFound => continue,
                moved => moved.map_err(storage_failed)?,
            }
            step("moved aside")?;
        }
        Ok(())
    }

    /// Removes what those who use the old database have made since: beside the new one it would be taken for its own. To be
    /// called in the last moment before that has its place.
    pub(super) fn remove_late(&self, target: &Target) -> EngineResult<()> {
        for (suffix, _) in self.moved.iter().filter(|_| self.forced) {
            let path = target.companion(suffix);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_failed("remove", &path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts things right, whatever happened since the record was made; returns whether the new database has its place,
    /// and remarks.
    pub(super) fn resolve(&self, target: &Target) -> EngineResult<(bool, Vec<String>)> {
        let main = target.main_file()?;
        if main.is_some_and(|m| identity(&m) == self.identity) {
            return self.finish(target).map(|()| (true, Vec::new()));
        }
        self.undo(target).map(|notes| (false, notes))
    }

    /// Removes what was moved aside, and the note; the new database has its place.
    fn finish(&self, target: &Target) -> EngineResult<()> {
        for (_, aside) in &self.moved {
            durable_remove(&target.folder.join(aside)).map_err(storage_failed)?;
            step("removed what was aside")?;
        }
        durable_remove(&path_of(target)).map_err(storage_failed)
    }

    /// Puts back what was moved aside and removes the note; returns remarks.
    fn undo(&self, target: &Target) -> EngineResult<Vec<String>> {
        let mut notes = Vec::new();
        for (suffix, aside) in &self.moved {
            let (home, aside) = (target.companion(suffix), target.folder.join(aside));
            if std::fs::symlink_metadata(&aside).is_err() {
                continue;
            }
            if std::fs::symlink_metadata(&home).is_ok() {
                // Somebody opened the old database meanwhile: what is there now is newer.
                notes.push(format!("{} belonged to the database that was there; it was kept", aside.display()));
                continue;
            }
            durable_rename(&aside, &home).map_err(storage_failed)?;
            step("moved back")?;
        }
        durable_remove(&target.folder.join(&self.staged)).map_err(storage_failed)?;
        durable_remove(&path_of(target)).map_err(storage_failed)?;
        Ok(notes)
    }

    fn is_safe(&self) -> bool {
        let plain = |name: &str| name.starts_with('.') && !name.contains('/');
        self.format == FORMAT
            && plain(&self.staged)
            && self.moved.iter().all(|(suffix, aside)| COMPANIONS.contains(&suffix.as_str()) && plain(aside))
    }
}

/// Puts right what an interrupted restore to the same target left; returns remarks.
pub(super) fn settle(target: &Target, wait: Duration, force: bool, context: &Context) -> EngineResult<Vec<String>> {
    let path = path_of(target);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_failed("read", &path, e)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|e| unreadable(&path).because(e))?;
    if !record.is_safe() {
        return Err(unreadable(&path));
    }
    // While the old database has its place, nobody may use it without what was moved aside.
    let main = target.main_file()?.filter(|m| identity(m) != record.identity);
    let _seized = match main.map(|_| Seized::blind(&target.path, wait, context)).transpose() {
        Err(error) if error.kind == EngineErrorKind::Busy && (record.forced || force) => None,
        seized => seized?,
    };
    let (finished, mut notes) = record.resolve(target)?;
    let what = if finished { "finished" } else { "undid" };
    notes.push(format!("{what} a restore that had been interrupted"));
    Ok(notes)
}

/// Whether a restore to the same target was interrupted where that has to be put right.
pub(super) fn is_there(target: &Target) -> bool {
    std::fs::symlink_metadata(path_of(target)).is_ok()
}

fn path_of(target: &Target) -> PathBuf {
    let name: String = target.name.chars().take(48).collect();
    let full = if name == target.name { String::new() } else { short_hash(&target.name) };
    target.folder.join(format!(".{name}{full}.copal-restore"))
}

/// Tells long names apart that begin alike.
fn short_hash(name: &str) -> String {
    format!("~{}", &blake3::hash(name.as_bytes()).to_hex()[..8])
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn unreadable(path: &Path) -> EngineError {
    let message = format!("{} was left by an interrupted restore and cannot be understood", path.display());
    EngineError::new(EngineErrorKind::Other, message).hint("a newer Copal may have written it; restore to another path")
}
