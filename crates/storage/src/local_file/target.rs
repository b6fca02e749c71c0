//! Where a file is to be written: the real path behind a name at which nothing need be yet.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use crate::io_error::io_error;
use crate::{Result, StorageError, StorageErrorKind};

/// The place of a file; a symbolic link was followed to the file that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTarget {
    /// The real, absolute path; nothing need be there.
    pub path: PathBuf,
    /// The folder in which it lies.
    pub folder: PathBuf,
    /// The last part of the path.
    pub name: String,
}

impl FileTarget {
    /// Finds the place that `given` names. Errors: `AlreadyExists` for what is no file, `NotFound` without its folder.
    pub fn resolve(given: &Path) -> Result<Self> {
        let path = match std::fs::symlink_metadata(given) {
            Ok(link) if link.is_symlink() => given.canonicalize().map_err(|e| dangling(given, e))?,
            Ok(_) => given.canonicalize().map_err(|e| io_error("reach", given, e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => new_path(given)?,
            Err(e) => return Err(io_error("reach", given, e)),
        };
        match std::fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                let message = format!("{} exists and is not a file", given.display());
                return Err(
                    StorageError::new(StorageErrorKind::AlreadyExists, message).hint("name the file to be written")
                );
            }
            _ => {}
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return Err(unnamed(given));
        };
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), path: path.clone() })
    }

    /// What is there, if anything is.
    pub fn metadata(&self) -> Result<Option<Metadata>> {
        match std::fs::metadata(&self.path) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("look at", &self.path, e)),
        }
    }

    /// Checks that files can be made in the folder.
    pub fn require_writable_folder(&self) -> Result<()> {
        rustix::fs::access(&self.folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|e| io_error("write to", &self.folder, e.into()))
    }
}

fn new_path(given: &Path) -> Result<PathBuf> {
    let name = given.file_name().ok_or_else(|| unnamed(given))?;
    let folder = match given.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|e| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let error = io_error("restore into", folder, e);
        if missing { error.hint("the folder does not exist; create it first") } else { error }
    })?;
    Ok(folder.join(name))
}

fn dangling(given: &Path, error: io::Error) -> StorageError {
    let message = format!("{} is a link that leads nowhere", given.display());
    StorageError::new(StorageErrorKind::NotFound, message)
        .hint("name the file itself, or remove the link")
        .because(error)
}

fn unnamed(given: &Path) -> StorageError {
    StorageError::new(StorageErrorKind::Configuration, format!("{} names no file", given.display()))
}
