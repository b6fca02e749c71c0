//! The new database beside its target: written, made durable and checked before anything else is touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use copal_core::{
    CheckLevel, CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, FileEntry, WriteAt,
};
use copal_storage::local_file::{StagingFile, free_space};

use super::step::step;
use super::target::Target;
use super::{io_failed, storage_failed};
use crate::MAIN_FILE;
use crate::database::open_immutable;
use crate::failure::failed;
use crate::watch::interruptible;

/// Staging files of killed restores are removed when they are older than this.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

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
    let out = Output { file: staged.file(), failure: Mutex::new(None) };
    if let Err(error) = content.write_file(file.name(), &out, context) {
        context.cancel.check()?;
        let failure = out.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        return Err(match failure {
            Some(failure) => write_failed(target, file.length(), failure),
            None => EngineError::repository(error),
        });
    }
    context.cancel.check()?;
    let length = staged.file().metadata().map_err(|e| io_failed("look at", staged.path(), e))?.len();
    if length != file.length() {
        let message = format!("{length} bytes were restored where the backup has {}", file.length());
        return Err(EngineError::new(EngineErrorKind::Corrupt, message));
    }
    staged.file().sync_all().map_err(|e| write_failed(target, file.length(), e))?;
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
    let Ok(entries) = std::fs::read_dir(&target.folder) else { return };
    let kept: String = target.name.chars().take(48).collect();
    let is_ours = |name: &str| {
        // Of the database, or of the record beside it, whose own name begins with a dot.
        let rest = name.strip_prefix('.').map(|n| n.strip_prefix('.').unwrap_or(n)).unwrap_or_default();
        let random = rest.strip_prefix(&*kept).and_then(|rest| rest.rsplit_once(".copal~"));
        random.is_some_and(|(between, random)| {
            matches!(between, "" | ".copal-restore")
                && random.len() == 16
                && random.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_ours);
        let age = entry.metadata().ok().filter(std::fs::Metadata::is_file).and_then(|m| m.modified().ok());
        let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
        if is_ours && age.is_some_and(|age| age > ABANDONED) {
            // Best effort: what cannot be removed is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes into the staging file and keeps the first error, which says more than what the repository makes of it.
struct Output<'a> {
    file: &'a File,
    failure: Mutex<Option<io::Error>>,
}

impl WriteAt for Output<'_> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| {
            let told = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::from(error.kind()),
            };
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            told
        })
    }
}

fn write_failed(target: &Target, needed: u64, error: io::Error) -> EngineError {
    let mapped = io_failed("write to", &target.folder, error);
    if mapped.kind != EngineErrorKind::NoSpace {
        return mapped;
    }
    let free = free_space(&target.folder).map_or_else(|_| "less".to_owned(), |free| format!("{free} bytes"));
    EngineError {
        message: format!("no space left in {}: {needed} bytes needed, {free} free", target.folder.display()),
        ..mapped
    }
    .hint("free space on this disk or restore to another one")
}
