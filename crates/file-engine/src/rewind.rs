//! Going back to a snapshot.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use copal_core::{
    CheckLevel, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Rewind, RewindOptions, Rewound,
    SnapshotId, Source,
};

use copal_storage::local_file::{StagingFile, clone_into, require_space};

use crate::content::PlainFiles;
use crate::description::{self, Found};
use crate::folder::{Folder, WAIT};
use crate::step::step;
use crate::{FileEngine, FileSnapshots, io_failed, storage_failed};

/// How often it is looked who has the database open.
const RETRY: Duration = Duration::from_millis(50);

/// A rewind that can be done. It holds nothing: what was found is looked at again when it is done.
#[derive(Debug)]
pub(crate) struct PreparedRewind<E> {
    snapshots: FileSnapshots<E>,
    source: Source,
    id: SnapshotId,
    options: RewindOptions,
    notes: Vec<String>,
}

impl<E: FileEngine> PreparedRewind<E> {
    /// Finds the snapshot, and looks whether it can take the database's place.
    pub(crate) fn prepare(
        snapshots: &FileSnapshots<E>,
        source: &Source,
        id: &SnapshotId,
        options: RewindOptions,
        context: &Context,
    ) -> EngineResult<Self> {
        let folder = snapshots.folder(source)?;
        let (_lock, notes) = snapshots.enter(&folder, context)?;
        let found = description::one(&folder, &snapshots.engine, id)?;
        let content = content(&found, &folder, &snapshots.engine)?;
        let request = RestoreRequest { dry_run: true, ..request(&folder, options) };
        snapshots.engine.rewind(&content, &request, context).map_err(|e| explained(e, id))?;
        require_room(&found, &content, &folder)?;
        if !options.force {
            wait_for_users(&snapshots.engine, &folder, id, context)?;
        }
        Ok(Self { snapshots: snapshots.clone(), source: source.clone(), id: id.clone(), options, notes })
    }
}

impl<E: FileEngine> Rewind for PreparedRewind<E> {
    fn finish(self: Box<Self>, context: &Context) -> EngineResult<Rewound> {
        let engine = &self.snapshots.engine;
        let folder = self.snapshots.folder(&self.source)?;
        let (_lock, settled) = self.snapshots.enter(&folder, context)?;
        let found = description::one(&folder, engine, &self.id)?;
        let content = content(&found, &folder, engine)?;
        let mut notes = self.notes;
        notes.extend(settled);
        if self.options.force {
            let path = folder.database.path.display();
            let goes_on = |h| format!("{h} still has {path} open as it was: stop it, what it writes is lost");
            notes.extend(engine.users(&folder.database.path).iter().map(goes_on));
        }
        let was_gone = folder.metadata()?.is_none();
        step("ready to rewind")?;
        let restored = engine.rewind(&content, &request(&folder, self.options), context);
        let restored = restored.map_err(|e| explained(e, &self.id))?;
        notes.extend(restored.notes);
        if was_gone {
            // Nothing was there whose mode and owner it could have taken.
            notes.extend(take_over(&found, &folder));
        }
        Ok(Rewound { notes })
    }
}

fn request(folder: &Folder, options: RewindOptions) -> RestoreRequest {
    RestoreRequest {
        replace: true,
        check: CheckLevel::None,
        force: options.force,
        ..RestoreRequest::new(folder.source.clone())
    }
}

/// The snapshot's files, if they still are what was taken.
fn content(found: &Found, folder: &Folder, engine: &impl FileEngine) -> EngineResult<PlainFiles> {
    let content = PlainFiles::of(found, folder, engine)?;
    let snapshot = &found.description.snapshot;
    match snapshot.bytes {
        Some(bytes) if bytes != content.bytes() => {
            let message = format!(
                "snapshot {} of {} was changed after it was taken: it has {} bytes instead of {bytes}",
                snapshot.id,
                folder.database.path.display(),
                content.bytes()
            );
            let main = folder.main(&found.stem);
            let hint = format!("rewind to another one; if it was changed on purpose, move {} by hand", main.display());
            Err(EngineError::new(EngineErrorKind::Corrupt, message).hint(hint))
        }
        _ => Ok(content),
    }
}

/// Checks that there is room for the snapshot beside the database, unless it can share its content there.
fn require_room(found: &Found, content: &PlainFiles, folder: &Folder) -> EngineResult<()> {
    let database = &folder.database.path;
    let probe = StagingFile::beside(database).map_err(storage_failed)?;
    let small = folder.description(&found.stem);
    let can_clone = File::open(&small).and_then(|small| clone_into(probe.file(), small));
    match can_clone.map_err(|e| io_failed("write to", probe.path(), e))? {
        true => Ok(()),
        false => require_space(database, content.bytes()).map_err(storage_failed),
    }
}

/// Waits until no other process has the database open.
fn wait_for_users(engine: &impl FileEngine, folder: &Folder, id: &SnapshotId, context: &Context) -> EngineResult<()> {
    let path = &folder.database.path;
    let deadline = Instant::now() + WAIT;
    loop {
        context.cancel.check()?;
        let found = engine.users(path);
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let names = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("{} is open in {names}", path.display());
            return Err(explained(EngineError::new(EngineErrorKind::Busy, message), id));
        }
        std::thread::sleep(RETRY);
    }
}

/// Says what can be done about a database that is in use.
fn explained(error: EngineError, id: &SnapshotId) -> EngineError {
    match error.kind {
        EngineErrorKind::Busy => error.hint(format!(
            "stop that program, or let it close the database, then rewind to {id} again; `--force` replaces the file \
             nevertheless: stop that program at once then, for what it goes on writing is lost, and a DuckDB's log can damage the new file"
        )),
        _ => error,
    }
}

/// Gives the new file the mode and the owner that the snapshot has, which were the database's.
fn take_over(found: &Found, folder: &Folder) -> Option<String> {
    let path = &folder.database.path;
    let metadata = folder.main(&found.stem).metadata().ok()?;
    let owned = std::os::unix::fs::chown(path, Some(metadata.uid()), Some(metadata.gid()));
    let _ = std::fs::set_permissions(path, Permissions::from_mode(metadata.mode() & 0o7777));
    owned.is_err().then(|| format!("{} now belongs to the user who rewound it", path.display()))
}
