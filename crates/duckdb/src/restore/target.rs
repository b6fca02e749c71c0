//! Where a restore goes: the real path, and what is there.

use std::fs::Metadata;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, Source};
use copal_file_engine::{io_failed, storage_failed};
use copal_storage::local_file::{FileTarget, FolderLock};

use crate::place::beside;
use crate::{CHECKPOINT_LOG, LOG, RECOVERY_LOG};

/// How long another restore in the same folder is waited for.
const WAIT: Duration = Duration::from_secs(30);

/// The place of the restored database; a symbolic link was followed to the file that it names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    real: FileTarget,
    /// The link that led there, beside which older DuckDBs look for logs.
    link: Option<PathBuf>,
}

impl Deref for Target {
    type Target = FileTarget;

    fn deref(&self) -> &FileTarget {
        &self.real
    }
}

impl Target {
    /// Finds the place that `source` names. Errors: a link, if logs are to be restored.
    pub(super) fn resolve(source: &Source, has_logs: bool) -> EngineResult<Self> {
        let given = source.file_path();
        let is_link = std::fs::symlink_metadata(&given).is_ok_and(|found| found.is_symlink());
        let real = FileTarget::resolve(&given).map_err(storage_failed)?;
        if has_logs && is_link {
            let message = format!("{} is a link, and the backup has a log", given.display());
            return Err(EngineError::new(EngineErrorKind::Unsupported, message).hint(format!(
                "versions of DuckDB differ in where they look for it; restore to {} and open it under that name",
                real.path.display()
            )));
        }
        let link = if is_link { Some(std::path::absolute(&given)) } else { None };
        Ok(Self { real, link: link.transpose().map_err(|e| io_failed("reach", &given, e))? })
    }

    /// The target as the user wrote it, or where a link led.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// A file of DuckDB's beside it.
    pub(super) fn companion(&self, suffix: &str) -> PathBuf {
        beside(&self.path, suffix)
    }

    /// Where its logs can be, also beside the link.
    pub(super) fn possible_logs(&self) -> Vec<PathBuf> {
        let names = std::iter::once(&self.path).chain(&self.link);
        names.flat_map(|name| [LOG, CHECKPOINT_LOG, RECOVERY_LOG].map(|suffix| beside(name, suffix))).collect()
    }

    /// The logs that are there.
    pub(super) fn logs(&self) -> EngineResult<Vec<PathBuf>> {
        let mut found = Vec::new();
        for path in self.possible_logs() {
            match std::fs::symlink_metadata(&path) {
                Ok(_) => found.push(path),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_failed("look at", &path, e)),
            }
        }
        Ok(found)
    }

    /// The main file, if there is one.
    pub(super) fn main_file(&self) -> EngineResult<Option<Metadata>> {
        self.metadata().map_err(storage_failed)
    }

    /// Whether something is there that a restore would destroy.
    pub(super) fn occupied(&self) -> EngineResult<bool> {
        Ok(self.main_file()?.is_some() || !self.logs()?.is_empty())
    }

    /// The error for a target that may not be replaced.
    pub(super) fn exists_error(&self) -> EngineError {
        let what = match self.main_file() {
            Ok(None) => format!("the log of a database that was at {} is still there", self.path.display()),
            _ => format!("{} exists", self.path.display()),
        };
        EngineError::new(EngineErrorKind::Exists, what)
            .hint("restore to another path, or replace it with --replace; it is kept until the new one is complete")
    }

    /// Keeps other restores out of the folder until it is dropped.
    pub(super) fn lock_folder(&self, context: &Context) -> EngineResult<FolderLock> {
        let taken = FolderLock::take(&self.folder, WAIT, || !context.cancel.is_cancelled());
        context.cancel.check()?;
        taken.ok_or_else(|| {
            let message = format!("another restore works in {}", self.folder.display());
            EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is done")
        })
    }
}
