//! Where a restore goes: the real path, and what is there.

use std::fs::Metadata;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use copal_core::{EngineError, EngineErrorKind, EngineResult, Source};
use copal_file_engine::{io_failed, storage_failed};
use copal_storage::local_file::FileTarget;

use crate::place::beside;

/// The suffixes of the files that SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// The place of the restored database; a symbolic link was followed to the file that it names.
#[derive(Clone, Debug)]
pub(super) struct Target(FileTarget);

impl Deref for Target {
    type Target = FileTarget;

    fn deref(&self) -> &FileTarget {
        &self.0
    }
}

impl Target {
    /// Finds the place that `source` names.
    pub(super) fn resolve(source: &Source) -> EngineResult<Self> {
        FileTarget::resolve(&source.file_path()).map(Self).map_err(storage_failed)
    }

    /// The target as the user wrote it, or where a link led.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// A file of SQLite beside it.
    pub(super) fn companion(&self, suffix: &str) -> PathBuf {
        beside(&self.path, suffix)
    }

    /// The main file, if there is one.
    pub(super) fn main_file(&self) -> EngineResult<Option<Metadata>> {
        self.metadata().map_err(storage_failed)
    }

    /// The companions that hold a part of a database: a log, or a journal that is not crossed out.
    pub(super) fn meaningful_companions(&self) -> EngineResult<Vec<PathBuf>> {
        let mut found = Vec::new();
        for suffix in ["-wal", "-journal"] {
            let path = self.companion(suffix);
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.len() > 0 && !is_crossed_out(&path, suffix) => found.push(path),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_failed("look at", &path, e)),
            }
        }
        Ok(found)
    }

    /// Whether something is there that a restore would destroy.
    pub(super) fn occupied(&self) -> EngineResult<bool> {
        Ok(self.main_file()?.is_some() || !self.meaningful_companions()?.is_empty())
    }

    /// The error for a target that may not be replaced.
    pub(super) fn exists_error(&self) -> EngineError {
        let what = match self.main_file() {
            Ok(None) => format!("the log or journal of a database that was at {} is still there", self.path.display()),
            _ => format!("{} exists", self.path.display()),
        };
        EngineError::new(EngineErrorKind::Exists, what)
            .hint("restore to another path, or replace it with --replace; it is kept until the new one is complete")
    }
}

/// Whether a journal begins with zeros, as `journal_mode=PERSIST` leaves it.
fn is_crossed_out(path: &Path, suffix: &str) -> bool {
    use std::io::Read;
    // A journal carries no locks, so it may be opened here.
    let mut beginning = [1; 8];
    suffix == "-journal"
        && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut beginning)).is_ok()
        && beginning == [0; 8]
}
