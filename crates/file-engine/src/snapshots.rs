//! Snapshots as plain files: taken, listed, described, removed.
//!
//! A snapshot's main file `<id>[-<label>].<extension>`, its parts (a DuckDB's log) beside it, and `<id>[-<label>].json` lie
//! in `.copal/snapshots/<file name>/` beside the database, or in a folder that was chosen, where names begin with the
//! database's stem. **A snapshot exists if and only if its main file and a sound description are both there.** Everything is
//! made in a staging folder `.<id>.copal~<16 digits>/`, synced, and then renamed:
//!
//! | call | steps | killed in between, the next call finds | and |
//! |---|---|---|---|
//! | take | staging folder; copy in it, synced | a staging folder | removes it |
//! | | description renamed to its place | a description without main file | removes both |
//! | | parts renamed | the same, and parts | removes them, too |
//! | | main file renamed: it exists | a staging folder | removes it |
//! | describe | new description in a staging folder, renamed over the old one | a staging folder | removes it |
//! | remove | main file renamed into a staging folder: it is gone | as in the second row | the same |
//! | rewind | the engine's restore, which has a record of its own where one step does not do | the record | finishes or undoes it |
//!
//! So nothing is ever removed of which a sound description does not say that it is ours: what somebody moved there, copied or
//! unpacked stays. A call works under a lock on the folder; a list needs none.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use copal_core::{
    Capture, CheckLevel, Content, Context, EngineError, EngineErrorKind, EngineResult, Inventory, RestoreRequest,
    Rewind, RewindOptions, Sink, Snapshot, SnapshotId, SnapshotNote, SnapshotRequest, Snapshots, Source, Taken,
};
use copal_storage::local_file::{FolderLock, adopt, durable_place, durable_rename, require_space, write_failed};

use crate::description::{self, Description, Found};
use crate::folder::{Folder, is_label};
use crate::rewind::PreparedRewind;
use crate::staging::{FileSink, Staging};
use crate::step::step;
use crate::{FileEngine, io_failed, settle, storage_failed};

/// How a copy was made that shares its content with the database.
const CLONE: &str = "reflink";

/// Takes snapshots of an engine's databases.
#[derive(Clone, Debug)]
pub struct FileSnapshots<E> {
    pub(crate) engine: E,
    chosen: Option<PathBuf>,
}

impl<E: FileEngine> FileSnapshots<E> {
    /// Snapshots that lie beside their databases.
    pub fn beside(engine: &E) -> Self {
        Self { engine: engine.clone(), chosen: None }
    }

    /// Snapshots that all lie in one folder, which may contain other files.
    pub fn in_folder(engine: &E, folder: &Path) -> Self {
        Self { engine: engine.clone(), chosen: Some(folder.to_owned()) }
    }

    pub(crate) fn folder(&self, source: &Source) -> EngineResult<Folder> {
        Folder::find(source, self.chosen.as_deref())
    }

    /// Locks the folder of a database that has snapshots, and settles what was interrupted.
    pub(crate) fn enter(&self, folder: &Folder, context: &Context) -> EngineResult<(FolderLock, Vec<String>)> {
        let lock = folder.lock(context)?;
        let notes = match folder.path.is_dir() {
            true => settle::run(folder, &self.engine, &lock, false, context)?,
            false => self.engine.settle(&folder.source, false, context)?,
        };
        Ok((lock, notes))
    }

    /// Begins to make a snapshot.
    fn begin(
        &self,
        folder: &Folder,
        id: &SnapshotId,
        context: &Context,
    ) -> EngineResult<(FolderLock, Staging, Vec<String>)> {
        folder.make()?;
        let (lock, notes) = self.enter(folder, context)?;
        if description::one(folder, &self.engine, id).is_ok() {
            let message = format!("{} has a snapshot {id} already", folder.database.path.display());
            return Err(EngineError::new(EngineErrorKind::Exists, message));
        }
        let staging = Staging::make(&folder.path, id)?;
        step("staging folder made")?;
        Ok((lock, staging, notes))
    }

    /// Copies the database to `main`; returns how.
    fn copy(&self, folder: &Folder, main: &Path, bytes: u64, context: &Context) -> EngineResult<&'static str> {
        if self.engine.clone_to(&folder.source, main, context)? {
            return Ok(CLONE);
        }
        require_space(main, bytes).map_err(storage_failed)?;
        let staging = main.parent().unwrap_or(main);
        let mut sink = FileSink::new(staging);
        let copied = self.engine.copy(&folder.source, &mut sink, context);
        match (copied, sink.into_failure()) {
            (Ok(()), _) => Ok("live copy"),
            (Err(_), Some(failure)) => Err(storage_failed(write_failed(main, bytes, failure))),
            (Err(error), None) => Err(error),
        }
    }

    /// Gives the staged files their places; the snapshot exists when this returns.
    fn place(
        &self,
        folder: &Folder,
        staging: &Staging,
        request: &SnapshotRequest,
        method: &str,
        context: &Context,
    ) -> EngineResult<Snapshot> {
        let main = staging.path.join(self.engine.main_file());
        let told = self.engine.describe(&main)?;
        let stem = folder.stem(&request.id, request.note.label.as_deref());
        let (mut renames, mut parts) = (Vec::new(), Vec::new());
        for suffix in self.engine.parts() {
            let part = self.engine.beside(&main, suffix);
            if part.exists() {
                renames.push((part, self.engine.beside(&folder.main(&stem), suffix)));
                parts.push((*suffix).to_owned());
            }
        }
        renames.push((main, folder.main(&stem)));
        let mut bytes = 0;
        for (staged, _) in &renames {
            bytes += make_durable(staged, folder.metadata()?.as_ref())?;
        }
        let snapshot = Snapshot {
            id: request.id.clone(),
            note: request.note.clone(),
            engine_version: told.engine_version,
            schema_version: told.schema_version,
            bytes: Some(bytes),
            method: method.to_owned(),
            used_bytes: None,
            has_spare: false,
        };
        let description = Description::new(folder, parts, snapshot);
        let written = description.write(staging.path.join("description.json"))?;
        step("written")?;
        context.cancel.check()?;
        if let Some((_, taken)) = renames.iter().find(|(_, place)| std::fs::symlink_metadata(place).is_ok()) {
            return Err(EngineError::new(EngineErrorKind::Exists, format!("{} exists", taken.display())));
        }
        written.place_new(&folder.description(&stem)).map_err(storage_failed)?;
        let found = Found { stem, description };
        match place_all(&renames) {
            Ok(()) => Ok(self.looked_at(&found, folder)),
            Err(error) => {
                // Best effort: the next call would do it.
                let _ = self.withdraw(&found, folder, staging);
                Err(error)
            }
        }
    }

    /// Takes a snapshot out of its place, for good.
    fn withdraw(&self, found: &Found, folder: &Folder, staging: &Staging) -> EngineResult<()> {
        if !description::is_gone(&folder.main(&found.stem)) {
            let aside = staging.path.join(self.engine.main_file());
            durable_rename(&folder.main(&found.stem), &aside).map_err(storage_failed)?;
            step("moved away")?;
        }
        settle::clear(found, folder, &self.engine)
    }

    /// The snapshot with what is found when it is listed.
    fn looked_at(&self, found: &Found, folder: &Folder) -> Snapshot {
        let mut snapshot = found.description.snapshot.clone();
        if snapshot.method != CLONE {
            let blocks = |path: &PathBuf| path.metadata().map_or(0, |m| m.blocks());
            snapshot.used_bytes = Some(found.files(folder, &self.engine).iter().map(blocks).sum::<u64>() * 512);
        }
        snapshot
    }
}

impl<E: FileEngine> Snapshots for FileSnapshots<E> {
    fn take(&self, source: &Source, request: &SnapshotRequest, context: &Context) -> EngineResult<Taken> {
        require_sound(&request.note)?;
        let folder = self.folder(source)?;
        // Before anything is made: a database whose rewind was interrupted may be back after this.
        let mut notes = self.engine.settle(&folder.source, false, context)?;
        let Some(metadata) = folder.metadata()? else {
            let message = format!("there is no database at {}", folder.database.path.display());
            return Err(EngineError::new(EngineErrorKind::NotFound, message));
        };
        let (_lock, staging, settled) = self.begin(&folder, &request.id, context)?;
        notes.extend(settled);
        let main = staging.path.join(self.engine.main_file());
        let method = self.copy(&folder, &main, metadata.len(), context)?;
        step("copied")?;
        let snapshot = self.place(&folder, &staging, request, method, context)?;
        Ok(Taken { snapshot, notes })
    }

    fn list(&self, source: &Source, _context: &Context) -> EngineResult<Vec<Snapshot>> {
        let folder = match self.folder(source) {
            Err(error) if error.kind == EngineErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        let found = description::all(&folder, &self.engine)?;
        Ok(found.iter().map(|found| self.looked_at(found, &folder)).collect())
    }

    fn prepare(
        &self,
        source: &Source,
        id: &SnapshotId,
        options: RewindOptions,
        context: &Context,
    ) -> EngineResult<Box<dyn Rewind>> {
        Ok(Box::new(PreparedRewind::prepare(self, source, id, options, context)?))
    }

    fn describe(&self, source: &Source, id: &SnapshotId, note: &SnapshotNote, context: &Context) -> EngineResult<()> {
        require_sound(note)?;
        let folder = self.folder(source)?;
        let (_lock, _) = self.enter(&folder, context)?;
        let mut found = description::one(&folder, &self.engine, id)?;
        found.description.snapshot.note = note.clone();
        let staging = Staging::make(&folder.path, id)?;
        step("staging folder made")?;
        let written = found.description.write(staging.path.join("description.json"))?;
        step("written")?;
        written.replace(&folder.description(&found.stem)).map_err(storage_failed)?;
        step("description replaced")
    }

    fn remove(&self, source: &Source, id: &SnapshotId, context: &Context) -> EngineResult<()> {
        let folder = self.folder(source)?;
        let (_lock, _) = self.enter(&folder, context)?;
        let found = description::one(&folder, &self.engine, id)?;
        let staging = Staging::make(&folder.path, id)?;
        step("staging folder made")?;
        self.withdraw(&found, &folder, &staging)
    }

    fn settle(&self, source: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
        let folder = match self.folder(source) {
            Err(error) if error.kind == EngineErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        match folder.path.is_dir() {
            true => settle::run(&folder, &self.engine, &folder.lock(context)?, dry_run, context),
            false => self.engine.settle(&folder.source, dry_run, context),
        }
    }

    fn path(&self, source: &Source, id: &SnapshotId) -> EngineResult<Option<PathBuf>> {
        let folder = self.folder(source)?;
        Ok(Some(folder.main(&description::one(&folder, &self.engine, id)?.stem)))
    }

    fn capture(
        &self,
        source: &Source,
        id: &SnapshotId,
        sink: &mut dyn Sink,
        context: &Context,
    ) -> EngineResult<Capture> {
        let folder = self.folder(source)?;
        let (lock, _) = self.enter(&folder, context)?;
        let found = description::one(&folder, &self.engine, id)?;
        // A backup may take its time.
        drop(lock);
        self.engine.capture(&Source::path(&folder.main(&found.stem)), sink, context)
    }

    fn restore(
        &self,
        source: &Source,
        content: &dyn Content,
        request: &SnapshotRequest,
        expected: &Inventory,
        context: &Context,
    ) -> EngineResult<Taken> {
        require_sound(&request.note)?;
        let folder = self.folder(source)?;
        let (_lock, staging, mut notes) = self.begin(&folder, &request.id, context)?;
        let target = Source::path(&staging.path.join(self.engine.main_file()));
        let restore = RestoreRequest {
            check: CheckLevel::Quick,
            expected: Some(expected.clone()),
            ..RestoreRequest::new(target)
        };
        notes.extend(self.engine.restore(content, &restore, context)?.notes);
        step("restored")?;
        let snapshot = self.place(&folder, &staging, request, "restored", context)?;
        Ok(Taken { snapshot, notes })
    }
}

/// Renames staged files to their places, the main file last.
fn place_all(renames: &[(PathBuf, PathBuf)]) -> EngineResult<()> {
    step("description placed")?;
    for (staged, place) in renames {
        durable_place(staged, place).map_err(storage_failed)?;
        step("file placed")?;
    }
    Ok(())
}

/// Gives a staged file the database's mode and owner, and makes it durable; returns its length.
fn make_durable(staged: &Path, database: Option<&Metadata>) -> EngineResult<u64> {
    let file = File::open(staged).map_err(|e| io_failed("open", staged, e))?;
    if let Some(database) = database {
        adopt(&file, staged, database).map_err(storage_failed)?;
    }
    let failed = |e| io_failed("sync", staged, e);
    file.sync_all().map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

fn require_sound(note: &SnapshotNote) -> EngineResult<()> {
    match &note.label {
        Some(label) if !is_label(label) => {
            let message = format!("{label:?} cannot be a snapshot's label");
            Err(EngineError::new(EngineErrorKind::Unsupported, message)
                .hint("a label has up to 64 letters, digits, dots, hyphens and underscores"))
        }
        _ if note.name.chars().any(char::is_control) => {
            let message = format!("{:?} cannot be a snapshot's name", note.name);
            Err(EngineError::new(EngineErrorKind::Unsupported, message).hint("a name has no control characters"))
        }
        _ => Ok(()),
    }
}
