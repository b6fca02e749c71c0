//! Taking: a copy of the database as it is, or of a backup.

use copal_core::{
    CheckLevel, Content, Context, EngineError, EngineErrorKind, EngineResult, Inventory, RestoreRequest, Snapshot,
    SnapshotRequest, Source, Taken,
};

use super::copying::Copying;
use super::kept::Description;
use super::operation::Operation;
use super::schema_version;
use crate::capture::version_text;
use crate::engine::PostgresEngine;
use crate::others::Ended;
use crate::properties::Properties;
use crate::restore::{passing_name, properties_in};

/// Copies the database.
pub(super) fn take(
    engine: &PostgresEngine,
    source: &Source,
    request: &SnapshotRequest,
    context: &Context,
) -> EngineResult<Taken> {
    let mut operation = Operation::begin(engine, source, false, context)?;
    let place = operation.place.clone();
    if !place.target().exists(&mut operation.server)? {
        let message = format!("{} does not exist", place.shown);
        return Err(EngineError::new(EngineErrorKind::NotFound, message).hint("check the database's name"));
    }
    place.target().require_rights(&mut operation.server, true)?;
    operation.require_free(false)?;
    let properties = Properties::of_other(&mut operation.server, &place.name)?;
    let mut ended = Ended::default();
    let schema_version = schema_version::of(&place, &place.name, &mut ended, context);
    let bytes = properties.bytes;
    let copying = Copying::choose(&mut operation.server, &place.name, bytes)?;
    let passing = passing_name("new");
    context.phase("copying", Some(bytes));
    let copied = operation.copy(&place.name, &passing, copying, &mut ended);
    operation.notes.extend(ended.note(&place.name));
    copied.map_err(|error| operation.give_up(&passing, error))?;
    let snapshot = describe(&operation, request, schema_version, bytes, copying.word);
    finish(operation, &passing, Description { of: place.name, snapshot, properties }, Some(copying), request)
}

/// Restores a backup into a new database, which becomes the snapshot.
pub(super) fn restore(
    engine: &PostgresEngine,
    source: &Source,
    content: &dyn Content,
    request: &SnapshotRequest,
    expected: &Inventory,
    context: &Context,
) -> EngineResult<Taken> {
    let mut operation = Operation::begin(engine, source, false, context)?;
    let place = operation.place.clone();
    place.target().require_rights(&mut operation.server, false)?;
    let mut properties = properties_in(content, context)?;
    properties.name.clone_from(&place.name);
    let mut restoring = RestoreRequest::new(source.clone());
    restoring.check = CheckLevel::Quick;
    restoring.expected = Some(expected.clone());
    let passing = passing_name("restore");
    let loaded = place.target().load(&mut operation.server, content, &properties, &passing, &restoring);
    let loaded = loaded.and_then(|_| Properties::of_other(&mut operation.server, &passing));
    let bytes = loaded.map_err(|error| operation.give_up(&passing, error))?.bytes;
    let schema_version = schema_version::of(&place, &passing, &mut Ended::default(), context);
    let snapshot = describe(&operation, request, schema_version, bytes, "restored");
    // For a spare copy only.
    let copying = Copying::choose(&mut operation.server, &passing, bytes).ok();
    finish(operation, &passing, Description { of: place.name, snapshot, properties }, copying, request)
}

fn describe(
    operation: &Operation,
    request: &SnapshotRequest,
    schema_version: Option<String>,
    bytes: u64,
    method: &str,
) -> Snapshot {
    Snapshot {
        id: request.id.clone(),
        note: request.note.clone(),
        engine_version: version_text(operation.server.version),
        schema_version,
        bytes: Some(bytes),
        method: method.to_owned(),
        used_bytes: None,
        has_spare: false,
    }
}

/// Makes the copy a snapshot, and a spare copy behind.
fn finish(
    mut operation: Operation,
    passing: &str,
    description: Description,
    copying: Option<Copying>,
    request: &SnapshotRequest,
) -> EngineResult<Taken> {
    let completed = operation.complete(passing, &description);
    let database = completed.map_err(|error| operation.give_up(passing, error))?;
    let notes = std::mem::take(&mut operation.notes);
    if let Some(copying) = copying.filter(|copying| request.spare || copying.is_free()) {
        let spare = operation.spare(&database, copying);
        operation.leave([spare]);
    }
    Ok(Taken { snapshot: description.snapshot, notes })
}
