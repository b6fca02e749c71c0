//! Restores: a backup is written and checked beside its target, and then takes the target's place in one step.
//!
//! Invariant: wherever a restore fails or is killed, SQLite finds at the target exactly what was there before or
//! exactly the new database, never one's main file with the other's log or journal. `swap` tells how.

mod lock;
mod record;
mod stage;
mod step;
mod swap;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use copal_core::{CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored};
use copal_storage::local_file::{holders, require_space};
use copal_storage::{StorageError, StorageErrorKind};

use target::Target;

/// Restores `content` as `request` says, waiting up to `wait` for a target that another process has locked.
pub(crate) fn restore(
    content: &dyn Content,
    request: &RestoreRequest,
    wait: Duration,
    context: &Context,
) -> EngineResult<Restored> {
    let file = stage::main_file(content)?;
    let target = Target::resolve(&request.target)?;
    let mut notes = Vec::new();
    if !request.dry_run {
        let _alone = lock::alone(&target, wait, context)?;
        notes.extend(record::settle(&target, wait, context)?);
    }
    let occupied = target.occupied()?;
    if occupied && !request.replace {
        return Err(target.exists_error());
    }
    target.require_writable_folder().map_err(storage_failed)?;
    require_space(&target.path, file.length()).map_err(storage_failed)?;
    if request.dry_run {
        notes.extend(holders(&target.path).iter().map(|h| format!("{h} has the target open")));
        let check = CheckReport::default();
        return Ok(Restored { target: target.shown(), replaced: occupied, check, notes });
    }
    stage::sweep(&target);
    let staged = stage::write(content, file, &target, context)?;
    let check = stage::verify(&staged, file, request.check, &target, context)?;
    context.phase("replacing", None);
    context.cancel.check()?;
    let replaced = swap::into_place(staged, &target, request.replace, wait, context, &mut notes)?;
    Ok(Restored { target: target.shown(), replaced, check, notes })
}

/// The engine's error for one of the local file layer.
fn storage_failed(error: StorageError) -> EngineError {
    let kind = match error.kind() {
        StorageErrorKind::NotFound => EngineErrorKind::NotFound,
        StorageErrorKind::AlreadyExists => EngineErrorKind::Exists,
        StorageErrorKind::PermissionDenied => EngineErrorKind::PermissionDenied,
        StorageErrorKind::NoSpace => EngineErrorKind::NoSpace,
        StorageErrorKind::Configuration | StorageErrorKind::Unsupported => EngineErrorKind::Unsupported,
        _ => EngineErrorKind::Other,
    };
    let mut mapped = EngineError::new(kind, error.message.clone());
    mapped.hint = error.hint.clone();
    match error.source {
        Some(source) => mapped.because(source),
        None => mapped,
    }
}

/// The engine's error for one of the operating system's about a path.
fn io_failed(doing: &str, path: &std::path::Path, error: std::io::Error) -> EngineError {
    storage_failed(copal_storage::local_file::io_failed(doing, path, error))
}
