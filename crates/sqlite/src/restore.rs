//! Restores: a backup is written and checked beside its target, and then takes the target's place in one step.
//!
//! Invariant: wherever a restore fails or is killed, SQLite finds at the target exactly what was there before or
//! exactly the new database, never one's main file with the other's log or journal. `swap` tells how.

mod lock;
mod record;
mod stage;
mod swap;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use copal_core::{CheckLevel, CheckReport, Content, Context, EngineResult, RestoreRequest, Restored, Source};
use copal_file_engine::storage_failed;
use copal_storage::local_file::{holders, require_space};

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
        let wait = if request.force { Duration::ZERO } else { wait };
        notes.extend(record::settle(&target, wait, request.force, context)?);
    }
    let occupied = target.occupied()?;
    if occupied && !request.replace {
        return Err(target.exists_error());
    }
    target.require_writable_folder().map_err(storage_failed)?;
    if request.check != CheckLevel::None {
        // A snapshot may need none.
        require_space(&target.path, file.length()).map_err(storage_failed)?;
    }
    if request.dry_run {
        if request.check != CheckLevel::None {
            // A rewind looks for itself who is in its way.
            notes.extend(holders(&target.path).iter().map(|h| format!("{h} has the target open")));
        }
        let check = CheckReport::default();
        return Ok(Restored { target: target.shown(), replaced: occupied, check, notes });
    }
    stage::sweep(&target);
    let staged = stage::write(content, file, &target, context)?;
    let check = stage::verify(&staged, file, request.check, &target, context)?;
    context.phase("replacing", None);
    context.cancel.check()?;
    let replaced = swap::into_place(staged, &target, request, wait, context, &mut notes)?;
    Ok(Restored { target: target.shown(), replaced, check, notes })
}

/// Puts right what an interrupted restore to `target` left; with `dry_run`, only says so.
pub(crate) fn settle(target: &Source, dry_run: bool, wait: Duration, context: &Context) -> EngineResult<Vec<String>> {
    let target = Target::resolve(target)?;
    if !record::is_there(&target) {
        return Ok(Vec::new());
    }
    if dry_run {
        return Ok(vec![format!("a restore of {} was interrupted", target.shown())]);
    }
    let _alone = lock::alone(&target, wait, context)?;
    record::settle(&target, wait, false, context)
}
