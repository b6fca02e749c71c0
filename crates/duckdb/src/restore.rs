//! Restores: a backup is written and checked beside its target, and then takes the target's place in one step.
//!
//! Invariant: wherever a restore fails or is killed, DuckDB never finds at the target one database's main file with another's
//! log, nor a main file without its own. It finds what was there before, or the new database, or, for the moment in which
//! logs are exchanged, a file that it refuses to open. `swap` tells how.

mod hold;
mod stage;
mod step;
mod swap;
mod target;
#[cfg(test)]
mod tests;

use std::path::Path;

use copal_core::{CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored};
use copal_storage::{StorageError, StorageErrorKind};

use hold::Hold;
use stage::Staged;
pub(crate) use swap::is_beginning_of_barrier;
use target::Target;

/// Restores `content` as `request` says; `program` is the DuckDB that a full check uses.
pub(crate) fn restore(
    content: &dyn Content,
    request: &RestoreRequest,
    program: Option<&Path>,
    context: &Context,
) -> EngineResult<Restored> {
    let files = stage::files_of(content)?;
    let target = Target::resolve(&request.target, files.len() > 1)?;
    let mut notes = Vec::new();
    if !request.dry_run {
        let _alone = target.lock_folder(context)?;
        notes.extend(swap::settle(&target)?);
    }
    let occupied = target.occupied()?;
    if occupied && !request.replace {
        return Err(target.exists_error());
    }
    target.require_writable_folder().map_err(storage_failed)?;
    let bytes = files.iter().map(|file| file.length()).sum();
    copal_storage::local_file::require_space(&target.path, bytes).map_err(storage_failed)?;
    if request.dry_run {
        let check = CheckReport::default();
        return Ok(Restored { target: target.shown(), replaced: occupied, check, notes });
    }
    if occupied {
        // Early, before anything is written: it is looked at again when it is replaced.
        drop(Hold::take(&target.path)?);
    }
    stage::sweep(&target);
    let staged = Staged::write(content, &files, &target, context)?;
    let check = staged.verify(request.check, program, &target, context)?;
    context.phase("replacing", None);
    context.cancel.check()?;
    let replaced = swap::into_place(staged, &target, request.replace, context, &mut notes)?;
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
fn io_failed(doing: &str, path: &Path, error: std::io::Error) -> EngineError {
    storage_failed(copal_storage::local_file::io_failed(doing, path, error))
}
