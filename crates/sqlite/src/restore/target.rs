//! Where a restore goes: the real path, and what is there.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use copal_core::{EngineError, EngineErrorKind, EngineResult, Source};

use super::io_failed;
use crate::place::beside;

/// The suffixes of the files that SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// The place of the restored database; a symbolic link was followed to the file that it names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The real, absolute path; nothing need be there.
    pub(super) path: PathBuf,
    /// The folder in which it lies.
    pub(super) folder: PathBuf,
    /// The last part of the path.
    pub(super) name: String,
}

impl Target {
    /// Finds the place that `source` names.
    pub(super) fn resolve(source: &Source) -> EngineResult<Self> {
        let given = source.file_path();
        let path = match std::fs::symlink_metadata(&given) {
            Ok(link) if link.is_symlink() => given.canonicalize().map_err(|e| dangling(&given, e))?,
            Ok(_) => given.canonicalize().map_err(|e| io_failed("reach", &given, e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => new_path(&given)?,
            Err(e) => return Err(io_failed("reach", &given, e)),
        };
        match std::fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                let message = format!("{} exists and is not a file", given.display());
                return Err(EngineError::new(EngineErrorKind::Exists, message).hint("name the file to be written"));
            }
            _ => {}
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return Err(unnamed(&given));
        };
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), path: path.clone() })
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
        match std::fs::metadata(&self.path) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_failed("look at", &self.path, e)),
        }
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

    /// Checks that files can be made in the folder.
    pub(super) fn require_writable_folder(&self) -> EngineResult<()> {
        rustix::fs::access(&self.folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|e| io_failed("write to", &self.folder, e.into()))
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

fn new_path(given: &Path) -> EngineResult<PathBuf> {
    let name = given.file_name().ok_or_else(|| unnamed(given))?;
    let folder = match given.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|e| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let error = io_failed("restore into", folder, e);
        if missing { error.hint("the folder does not exist; create it first") } else { error }
    })?;
    Ok(folder.join(name))
}

fn dangling(given: &Path, error: io::Error) -> EngineError {
    let message = format!("{} is a link that leads nowhere", given.display());
    EngineError::new(EngineErrorKind::NotFound, message).hint("name the file itself, or remove the link").because(error)
}

fn unnamed(given: &Path) -> EngineError {
    EngineError::new(EngineErrorKind::Unsupported, format!("{} names no file", given.display()))
}
