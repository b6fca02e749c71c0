//! What stands beside a snapshot's main file: `<its name>.json`.
//!
//! Anybody who can write to the folder can have written it, so nothing in it names a file: that is told by its own name.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use copal_core::{EngineError, EngineErrorKind, EngineResult, Snapshot, SnapshotId};
use copal_storage::local_file::StagingFile;
use serde::{Deserialize, Serialize};

use crate::folder::{Folder, is_label};
use crate::{FileEngine, io_failed, storage_failed};

const FORMAT: u32 = 1;
/// A longer one is not ours.
const LONGEST: u64 = 1 << 20;

/// A snapshot's description.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    format: u32,
    /// The real path of the database.
    database: String,
    /// Suffixes of the files beside the main file that belong to it.
    pub(crate) parts: Vec<String>,
    pub(crate) snapshot: Snapshot,
}

/// A description that was found, and the beginning of its name.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) stem: String,
    pub(crate) description: Description,
}

impl Description {
    pub(crate) fn new(folder: &Folder, parts: Vec<String>, snapshot: Snapshot) -> Self {
        Self { format: FORMAT, database: folder.database_name(), parts, snapshot }
    }

    /// Writes it to a new file, which is durable but for its name.
    pub(crate) fn write(&self, path: PathBuf) -> EngineResult<StagingFile> {
        let staged = StagingFile::at(path).map_err(storage_failed)?;
        let text = serde_json::to_vec_pretty(self).map_err(|e| io_failed("write", staged.path(), e.into()))?;
        staged.file().write_all(&text).map_err(|e| io_failed("write", staged.path(), e))?;
        Ok(staged)
    }

    /// Reads one; `None` if it is not a sound one of this database.
    fn read(path: &Path, id: &SnapshotId, folder: &Folder, parts: &[&str]) -> Option<Self> {
        // A fifo would block, and a link lead elsewhere.
        let metadata = std::fs::symlink_metadata(path).ok().filter(|m| m.is_file() && m.len() <= LONGEST)?;
        let mut text = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
        File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text)).ok()?;
        let found: Self = serde_json::from_slice(&text).ok()?;
        let note = &found.snapshot.note;
        let is_sound = found.format == FORMAT
            && found.snapshot.id == *id
            && folder.is_of(&found.database)
            && note.label.as_deref().is_none_or(is_label)
            && !note.name.chars().any(char::is_control)
            && found.parts.iter().all(|part| parts.contains(&part.as_str()));
        is_sound.then_some(found)
    }
}

/// The names of what may be descriptions of the database's snapshots, and the ids in them, by time. None is read.
fn named(folder: &Folder) -> EngineResult<Vec<(SnapshotId, String)>> {
    let entries = match std::fs::read_dir(&folder.path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_failed("read", &folder.path, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| io_failed("read", &folder.path, e))?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
        found.extend(folder.id_in(stem).map(|id| (id, stem.to_owned())));
    }
    found.sort();
    Ok(found)
}

/// All complete snapshots, by their time.
pub(crate) fn all(folder: &Folder, engine: &impl FileEngine) -> EngineResult<Vec<Found>> {
    let read = |(id, stem)| Found::read(&id, stem, folder, engine).filter(|found| found.is_complete(folder, engine));
    Ok(named(folder)?.into_iter().filter_map(read).collect())
}

/// Descriptions of snapshots whose main files are gone.
pub(crate) fn orphans(folder: &Folder, engine: &impl FileEngine) -> EngineResult<Vec<Found>> {
    let read = |(id, stem): (_, String)| match is_gone(&folder.main(&stem)) {
        true => Found::read(&id, stem, folder, engine),
        false => None,
    };
    Ok(named(folder)?.into_iter().filter_map(read).collect())
}

/// The complete snapshot with this id.
pub(crate) fn one(folder: &Folder, engine: &impl FileEngine, id: &SnapshotId) -> EngineResult<Found> {
    let with_id = named(folder)?.into_iter().filter(|(found, _)| found == id);
    let mut read = with_id.filter_map(|(id, stem)| Found::read(&id, stem, folder, engine));
    read.find(|found| found.is_complete(folder, engine)).ok_or_else(|| {
        let message = format!("{} has no snapshot {id}", folder.database.path.display());
        EngineError::new(EngineErrorKind::NotFound, message).hint("`copal snaps` lists those that are there")
    })
}

/// Whether a file is not there, for certain.
pub(crate) fn is_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

impl Found {
    fn read(id: &SnapshotId, stem: String, folder: &Folder, engine: &impl FileEngine) -> Option<Self> {
        let description = Description::read(&folder.description(&stem), id, folder, engine.parts());
        if description.is_none() {
            tracing::debug!(name = stem, "what describes a snapshot cannot be understood");
        }
        description.map(|description| Self { stem, description })
    }

    /// Its files, the main file first.
    pub(crate) fn files(&self, folder: &Folder, engine: &impl FileEngine) -> Vec<PathBuf> {
        let main = folder.main(&self.stem);
        let parts: Vec<_> = self.description.parts.iter().map(|part| engine.beside(&main, part)).collect();
        std::iter::once(main).chain(parts).collect()
    }

    /// Whether all of its files are there.
    fn is_complete(&self, folder: &Folder, engine: &impl FileEngine) -> bool {
        let is_file = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
        self.files(folder, engine).iter().all(is_file)
    }
}
