//! Snapshots: copies of a database on its own server, each a database that says itself what it is.
//!
//! | name | what it is | if its maker is killed |
//! |---|---|---|
//! | `copal_snap_…` with a description as its comment | a complete snapshot | stays |
//! | `copal_spare_…` with a comment that names its snapshot | a complete copy, with which a rewind is but a renaming | stays |
//! | `copal_new_…`, `copal_restore_…` | a copy that is being made or dressed; its maker holds a lock on the name | the next call drops it |
//! | `copal_old_…` | was replaced or removed | the next call drops it |
//!
//! A copy gets its lasting name and its comment in one transaction, and so do the two databases of a rewind and all those of a
//! removal. So a kill leaves the name of the database with the old content or with the new one, and a snapshot listed or
//! gone; nothing has to be put back, and what is left over has a name that says so and a lock that is free. Nobody is kept out
//! of the database by a setting that would have to be undone.
//!
//! What need not be waited for (the next spare copy, the drop of what was replaced) the session does that has done the work, after
//! this process has left it (`Session::leave`): it takes the locks for it before it gives up that of the operation.

mod copying;
mod kept;
mod locks;
mod opened;
mod operation;
mod rewind;
mod schema_version;
mod take;
#[cfg(test)]
mod tests;

use copal_core::{
    Capture, Content, Context, EngineResult, Inventory, Rewind, RewindOptions, Sink, Snapshot, SnapshotId,
    SnapshotNote, SnapshotRequest, Snapshots, Source, Taken,
};

use crate::capture;
use crate::engine::PostgresEngine;
use crate::restore::{PASSING, drop_passing, is_named, passing_name};
use crate::step::step;
use kept::Kept;
use opened::Opened;
use operation::{Operation, Place, comment, rename};

/// Whether a database of this name is a snapshot.
fn is_snapshot(name: &str) -> bool {
    is_named(name, "snap")
}

/// Whether a database of this name is a spare copy of a snapshot.
fn is_spare(name: &str) -> bool {
    is_named(name, "spare")
}

/// Whether a database of this name is one of ours, which is no database of its own.
pub(crate) fn is_ours(name: &str) -> bool {
    is_snapshot(name) || is_spare(name)
}

impl Snapshots for PostgresEngine {
    fn take(&self, source: &Source, request: &SnapshotRequest, context: &Context) -> EngineResult<Taken> {
        take::take(self, source, request, context)
    }

    fn list(&self, source: &Source, context: &Context) -> EngineResult<Vec<Snapshot>> {
        let place = Place::of(self, source, context)?;
        let kept = Kept::read(&mut self.connect_to_server(&place.address, context)?, &place.name)?;
        Ok(kept.snapshots.into_iter().map(kept::KeptSnapshot::listed).collect())
    }

    fn prepare(
        &self,
        source: &Source,
        id: &SnapshotId,
        options: RewindOptions,
        context: &Context,
    ) -> EngineResult<Box<dyn Rewind>> {
        rewind::prepare(self, source, id, options, context)
    }

    fn describe(&self, source: &Source, id: &SnapshotId, note: &SnapshotNote, context: &Context) -> EngineResult<()> {
        let mut operation = Operation::begin(self, source, false, context)?;
        let mut kept = operation.find(id)?;
        kept.description.snapshot.note.clone_from(note);
        step("before a description")?;
        operation.server.run(&comment(&kept.database, &kept.description.comment()))
    }

    fn remove(&self, source: &Source, id: &SnapshotId, context: &Context) -> EngineResult<()> {
        let mut operation = Operation::begin(self, source, false, context)?;
        let database = operation.find(id)?.database;
        if operation.is_backed_up(&database)? {
            return Err(opened::is_backed_up(&operation.place, "wait for the backup's end, or stop it, and try again"));
        }
        operation.wait_for_spare(&database)?;
        let (mut old, mut away) = (Vec::new(), Vec::new());
        for database in operation.find(id)?.spares.into_iter().chain([database]) {
            let name = passing_name("old");
            away.extend([rename(&database, &name), comment(&name, PASSING)]);
            old.push(name);
        }
        step("before a removal")?;
        operation.transaction(&away)?;
        // It is gone from here on; the next call drops what is still there.
        for name in old {
            step("before a drop")?;
            if let Err(error) = drop_passing(self, &operation.place.address, &name) {
                context.warn(format!("{name} could not be dropped ({error}); the next snapshot or rewind drops it"));
            }
        }
        Ok(())
    }

    fn settle(&self, source: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
        Ok(Operation::begin(self, source, dry_run, context)?.notes)
    }

    fn capture(
        &self,
        source: &Source,
        id: &SnapshotId,
        sink: &mut dyn Sink,
        context: &Context,
    ) -> EngineResult<Capture> {
        let operation = Operation::begin(self, source, false, context)?;
        let kept = operation.find(id)?;
        let opened = Opened::open(operation, &kept.database)?;
        step("when the snapshot is open")?;
        let snapshot = opened.place.address.with_database(&kept.database).source()?;
        capture::capture_as(self, &snapshot, Some(kept.description.properties), sink, context)
    }

    fn restore(
        &self,
        source: &Source,
        content: &dyn Content,
        request: &SnapshotRequest,
        expected: &Inventory,
        context: &Context,
    ) -> EngineResult<Taken> {
        take::restore(self, source, content, request, expected, context)
    }
}
