//! The new database beside its target: written, made durable and checked before anything else is touched.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use copal_core::{
    CheckLevel, CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, FileEntry, FirstError,
};
use copal_file_engine::{io_failed, step, storage_failed};
use copal_storage::local_file::{StagingFile, clone_into, sweep_abandoned, write_failed};

use super::target::Target;
use crate::check;
use crate::place::beside;
use crate::{CHECKPOINT_LOG, LOG, MAIN_FILE};

/// The new database: its main file and its logs by suffix.
pub(super) struct Staged {
    pub(super) main: StagingFile,
    pub(super) logs: Vec<(&'static str, StagingFile)>,
}

/// The files of a backup of this engine, the main file first.
pub(super) fn files_of(content: &dyn Content) -> EngineResult<Vec<&FileEntry>> {
    let find = |name: String| content.files().iter().find(|file| file.name() == name);
    let main = find(MAIN_FILE.to_owned());
    let logs = [LOG, CHECKPOINT_LOG].into_iter().filter_map(|suffix| find(format!("{MAIN_FILE}{suffix}")));
    let files: Vec<&FileEntry> = main.into_iter().chain(logs).collect();
    if main.is_none() || files.len() != content.files().len() {
        return Err(EngineError::new(EngineErrorKind::NotThisEngine, "the backup is not one of a DuckDB database"));
    }
    Ok(files)
}

impl Staged {
    /// Writes the backup's files beside the target; nobody but their owner can read them.
    pub(super) fn write(
        content: &dyn Content,
        files: &[&FileEntry],
        target: &Target,
        context: &Context,
    ) -> EngineResult<Self> {
        context.phase("writing", Some(files.iter().map(|file| file.length()).sum()));
        let no_main = || EngineError::new(EngineErrorKind::NotThisEngine, "the backup has no main file");
        let [main_entry, log_entries @ ..] = files else { return Err(no_main()) };
        let main = StagingFile::beside(&target.path).map_err(storage_failed)?;
        write(content, main_entry, &main, target, context)?;
        let mut logs = Vec::new();
        for entry in log_entries {
            let suffix = if entry.name().ends_with(CHECKPOINT_LOG) { CHECKPOINT_LOG } else { LOG };
            // Where a DuckDB finds it that opens the main file under the name that it has now.
            let log = StagingFile::at(beside(main.path(), suffix)).map_err(storage_failed)?;
            write(content, entry, &log, target, context)?;
            logs.push((suffix, log));
        }
        step("written")?;
        Ok(Self { main, logs })
    }

    /// Checks the staged database.
    pub(super) fn verify(
        &self,
        level: CheckLevel,
        program: Option<&Path>,
        target: &Target,
        context: &Context,
    ) -> EngineResult<CheckReport> {
        let report = check::check_private(self.main.path(), level, program, context)?;
        context.cancel.check()?;
        step("checked")?;
        match report.problems.as_slice() {
            [] => Ok(report),
            [first, others @ ..] => {
                let more =
                    if others.is_empty() { String::new() } else { format!(" (and {} more problems)", others.len()) };
                let message = format!("the restored database is not sound: {first}{more}");
                Err(EngineError::new(EngineErrorKind::Corrupt, message)
                    .hint(format!("{} is as it was; restore an earlier backup", target.path.display())))
            }
        }
    }
}

fn write(
    content: &dyn Content,
    file: &FileEntry,
    staged: &StagingFile,
    target: &Target,
    context: &Context,
) -> EngineResult<()> {
    step("staging file made")?;
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
    staged.file().sync_all().map_err(write_failed)
}

/// Removes what restores to the same target left when they were killed more than a day ago.
pub(super) fn sweep(target: &Target) {
    sweep_abandoned(&target.path, &[".copal-restore"], &[LOG, CHECKPOINT_LOG]);
}
