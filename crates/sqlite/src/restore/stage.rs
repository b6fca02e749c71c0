//! The new database beside its target: written, made durable and checked before anything else is touched.

use std::fs::File;
use std::os::unix::fs::FileExt;

use copal_core::{
    CheckLevel, CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, FileEntry, FirstError,
};
use copal_file_engine::{io_failed, step, storage_failed};
use copal_storage::local_file::{StagingFile, clone_into, sweep_abandoned, write_failed};

use super::target::Target;
use crate::MAIN_FILE;
use crate::database::open_immutable;
use crate::failure::failed;
use crate::watch::interruptible;

/// The one file of a backup of this engine.
pub(super) fn main_file(content: &dyn Content) -> EngineResult<&FileEntry> {
    match content.files() {
        [file @ FileEntry::Pages { .. }] if file.name() == MAIN_FILE => Ok(file),
        _ => Err(EngineError::new(EngineErrorKind::NotThisEngine, "the backup is not one of a SQLite database")),
    }
}

/// Writes the backup's file beside the target; nobody but its owner can read it.
pub(super) fn write(
    content: &dyn Content,
    file: &FileEntry,
    target: &Target,
    context: &Context,
) -> EngineResult<StagingFile> {
    let staged = StagingFile::beside(&target.path).map_err(storage_failed)?;
    step("staging file made")?;
    context.phase("writing", Some(file.length()));
    let out = FirstError::new(|offset, bytes: &[u8]| staged.file().write_all_at(bytes, offset))
        .with_reflink(|from| clone_into(staged.file(), &File::open(from)?));
    let write_failed = |error| storage_failed(write_failed(&target.path, file.length(), error));
    if let Err(error) = content.write_file(file.name(), &out, context) {
        context.cancel.check()?;
        return Err(match out.into_failure() {
            Some(failure) => write_failed(failure),
            None => EngineError::repository(error),
        });
    }
    context.cancel.check()?;
    let length = staged.file().metadata().map_err(|e| io_failed("look at", staged.path(), e))?.len();
    if length != file.length() {
        let message = format!("{length} bytes were restored where the backup has {}", file.length());
        return Err(EngineError::new(EngineErrorKind::Corrupt, message));
    }
    staged.file().sync_all().map_err(write_failed)?;
    step("written")?;
    Ok(staged)
}

/// Checks the staged database; nothing is created beside it.
pub(super) fn verify(
    staged: &StagingFile,
    file: &FileEntry,
    level: CheckLevel,
    target: &Target,
    context: &Context,
) -> EngineResult<CheckReport> {
    if level == CheckLevel::None {
        return Ok(CheckReport::default());
    }
    if file.length() == 0 {
        return Ok(CheckReport { ran: vec!["empty file".to_owned()], ..CheckReport::default() });
    }
    context.phase("checking", None);
    // Nobody else knows the file, so it may be opened as immutable, which also keeps a log from being made.
    let connection = open_immutable(staged.path())?;
    let report = interruptible(&connection, context, || crate::check::run(&connection, level))
        .map_err(|e| failed(staged.path(), "check", e))?;
    context.cancel.check()?;
    step("checked")?;
    match report.problems.as_slice() {
        [] => Ok(report),
        [first, others @ ..] => {
            let more = if others.is_empty() { String::new() } else { format!(" (and {} more problems)", others.len()) };
            let message = format!("the restored database is not sound: {first}{more}");
            Err(EngineError::new(EngineErrorKind::Corrupt, message)
                .hint(format!("{} is as it was; restore an earlier backup", target.path.display())))
        }
    }
}

/// Removes what restores to the same target left when they were killed more than a day ago.
pub(super) fn sweep(target: &Target) {
    sweep_abandoned(&target.path, &[".copal-restore"], &[]);
}
