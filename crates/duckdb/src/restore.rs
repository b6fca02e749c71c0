//! Restores: a backup is written and checked beside its target, and then takes the target's place in one step.
//!
//! Invariant: wherever a restore fails or is killed, DuckDB never finds at the target one database's main file with another's
//! log, nor a main file without its own. It finds what was there before, or the new database, or, for the moment in which
//! logs are exchanged, a file that it refuses to open. `swap` tells how.

mod hold;
mod stage;
mod swap;
mod target;
#[cfg(test)]
mod tests;

use std::path::Path;

use copal_core::{CheckLevel, CheckReport, Content, Context, EngineResult, RestoreRequest, Restored, Source};
use copal_file_engine::storage_failed;

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
    if request.check != CheckLevel::None {
        // A snapshot may need none.
        let bytes = files.iter().map(|file| file.length()).sum();
        copal_storage::local_file::require_space(&target.path, bytes).map_err(storage_failed)?;
    }
    if request.dry_run {
        let check = CheckReport::default();
        return Ok(Restored { target: target.shown(), replaced: occupied, check, notes });
    }
    if occupied && !request.force {
        // Early, before anything is written: it is looked at again when it is replaced.
        drop(Hold::take(&target.path)?);
    }
    stage::sweep(&target);
    let staged = Staged::write(content, &files, &target, context)?;
    let check = staged.verify(request.check, program, &target, context)?;
    context.phase("replacing", None);
    context.cancel.check()?;
    let replaced = swap::into_place(staged, &target, request, context, &mut notes)?;
    Ok(Restored { target: target.shown(), replaced, check, notes })
}

/// Puts right what an interrupted restore to `target` left; with `dry_run`, only says so.
pub(crate) fn settle(target: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
    let target = Target::resolve(target, false)?;
    if !swap::is_interrupted(&target) {
        return Ok(Vec::new());
    }
    if dry_run {
        return Ok(vec![format!("a restore of {} was interrupted", target.shown())]);
    }
    let _alone = target.lock_folder(context)?;
    swap::settle(&target)
}
