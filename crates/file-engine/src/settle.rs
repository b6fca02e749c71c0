//! Puts right what killed calls left in the snapshots' folder.

use std::path::Path;

use copal_core::{Context, EngineResult};
use copal_storage::local_file::{FolderLock, durable_remove, fsync_folder};

use crate::description::{self, Found};
use crate::folder::Folder;
use crate::staging::Staging;
use crate::step::step;
use crate::{FileEngine, io_failed, storage_failed};

/// Finishes or undoes what was interrupted, in the folder that `lock` keeps others out of; returns what that was.
pub(crate) fn run(
    folder: &Folder,
    engine: &impl FileEngine,
    lock: &FolderLock,
    dry_run: bool,
    context: &Context,
) -> EngineResult<Vec<String>> {
    let mut notes = engine.settle(&folder.source, dry_run, context)?;
    let database = folder.database.path.display();
    // First descriptions whose snapshot is in a staging folder, or nowhere: with them the rest can be told.
    for found in &description::orphans(folder, engine)? {
        let id = &found.description.snapshot.id;
        notes.push(format!("snapshot {id} of {database} was left incomplete by an interrupted call"));
        if !dry_run {
            clear(found, folder, engine)?;
        }
    }
    // Without a lock it cannot be known whether somebody still writes there.
    let staged = if lock.is_held() { staged(&folder.path)? } else { Vec::new() };
    for path in staged {
        notes.push(format!("{} was left by an interrupted call", path.display()));
        if !dry_run {
            std::fs::remove_dir_all(&path).map_err(|e| io_failed("remove", &path, e))?;
            step("staging folder removed")?;
        }
    }
    Ok(notes)
}

/// Removes all of a snapshot whose main file is gone, the description last: what it tells is needed to find the rest.
pub(crate) fn clear(found: &Found, folder: &Folder, engine: &impl FileEngine) -> EngineResult<()> {
    let main = folder.main(&found.stem);
    for suffix in found.description.parts.iter().map(String::as_str).chain(engine.leavings().iter().copied()) {
        durable_remove(&engine.beside(&main, suffix)).map_err(storage_failed)?;
        step("part removed")?;
    }
    durable_remove(&folder.description(&found.stem)).map_err(storage_failed)?;
    fsync_folder(&folder.path).map_err(storage_failed)?;
    step("description removed")
}

fn staged(folder: &Path) -> EngineResult<Vec<std::path::PathBuf>> {
    let failed = |e| io_failed("read", folder, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_ours = entry.file_name().to_str().and_then(Staging::id_in).is_some();
        // Not of a link, which could lead anywhere.
        if is_ours && entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
