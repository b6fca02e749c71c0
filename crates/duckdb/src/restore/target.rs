//! Where a restore goes: the real path, what is there, and the locks that keep others away from it.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, Source};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::io_failed;
use crate::descriptor::id_of;
use crate::owner::Owner;
use crate::place::beside;
use crate::{CHECKPOINT_LOG, LOG, RECOVERY_LOG};

/// How long another restore in the same folder is waited for.
const WAIT: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(50);

/// The place of the restored database; a symbolic link was followed to the file that it names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The real, absolute path; nothing need be there.
    pub(super) path: PathBuf,
    /// The folder in which it lies.
    pub(super) folder: PathBuf,
    /// The last part of the path.
    pub(super) name: String,
    /// The link that led there, beside which older DuckDBs look for logs.
    link: Option<PathBuf>,
}

impl Target {
    /// Finds the place that `source` names. Errors: a link, if logs are to be restored.
    pub(super) fn resolve(source: &Source, has_logs: bool) -> EngineResult<Self> {
        let given = source.file_path();
        let mut link = None;
        let path = match std::fs::symlink_metadata(&given) {
            Ok(found) if found.is_symlink() => {
                link = Some(std::path::absolute(&given).map_err(|e| io_failed("reach", &given, e))?);
                given.canonicalize().map_err(|e| dangling(&given, e))?
            }
            Ok(_) => given.canonicalize().map_err(|e| io_failed("reach", &given, e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => new_path(&given)?,
            Err(e) => return Err(io_failed("reach", &given, e)),
        };
        if has_logs && link.is_some() {
            let message = format!("{} is a link, and the backup has a log", given.display());
            return Err(EngineError::new(EngineErrorKind::Unsupported, message).hint(format!(
                "versions of DuckDB differ in where they look for it; restore to {} and open it under that name",
                path.display()
            )));
        }
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
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), path: path.clone(), link })
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
        match std::fs::metadata(&self.path) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_failed("look at", &self.path, e)),
        }
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

    /// Checks that files can be made in the folder.
    pub(super) fn require_writable_folder(&self) -> EngineResult<()> {
        rustix::fs::access(&self.folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|e| io_failed("write to", &self.folder, e.into()))
    }

    /// Keeps two restores out of one folder's swaps until it is dropped. It leaves nothing behind: the lock is on the folder.
    pub(super) fn lock_folder(&self, context: &Context) -> EngineResult<Option<File>> {
        let Ok(folder) = File::open(&self.folder) else { return Ok(None) };
        let deadline = Instant::now() + WAIT;
        loop {
            context.cancel.check()?;
            match folder.try_lock() {
                Ok(()) => return Ok(Some(folder)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another restore works in {}", self.folder.display());
                    return Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is done"));
                }
                // A file system without such locks: DuckDB's own lock is still to come.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    /// Takes the lock on the main file that DuckDB takes, as long as the file is open. Errors: `Busy`.
    pub(super) fn hold(&self) -> EngineResult<Option<File>> {
        let Some(metadata) = self.main_file()? else { return Ok(None) };
        let owner = Owner::of(id_of(&metadata));
        // Before the file is opened: our own lock is no obstacle to us, and closing a descriptor would end it.
        if matches!(&owner, Owner::Processes(ids) if ids.contains(&std::process::id())) {
            return Err(self.held(&owner));
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.map_err(|e| io_failed("open", &self.path, e))?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::AGAIN | Errno::ACCESS) => Err(self.held(&Owner::of(id_of(&metadata)))),
            // A file system without locks: DuckDB could not take one either.
            Err(Errno::NOLCK | Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(file)),
            Err(e) => Err(io_failed("lock", &self.path, e.into())),
        }
    }

    fn held(&self, owner: &Owner) -> EngineError {
        let message = format!("{} is open in another program{}", self.path.display(), owner.shown());
        EngineError::new(EngineErrorKind::Busy, message)
            .hint("stop that program, or let it close the database, then restore again; or restore to another path")
    }
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
