//! Writing to a local folder: create, replace, delete and the sweeping of what killed writers left.
//!
//! The order is the invariant: folders are made and their names synced, content goes to a staging file and is
//! synced, the file takes its name in one step, the folder is synced, and only then the call answers.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::io::Errno;

use super::lock::FolderLock;
use super::{LocalFolder, STAGING_PREFIX};
use crate::io_error::io_error;
use crate::local_file::{StagingFile, fsync_folder, rename_without_replacing};
use crate::{ObjectPath, Result, StorageError, StorageErrorKind, Version};

/// Large objects are written and synced in steps of so many bytes: a database on the same disk waits for one step, when it
/// commits, and not for a whole pack.
const STEP_BYTES: usize = 1 << 20;

impl LocalFolder {
    pub(super) fn create(&self, path: &ObjectPath, bytes: &Bytes) -> Result<()> {
        let (folder, target) = self.prepare(path)?;
        let exists = |folder: &Path| {
            // Its writer may have been killed before it synced the folder, and our caller may be about to rely on it.
            fsync_folder(folder)?;
            Err(StorageError::new(StorageErrorKind::AlreadyExists, "the object already exists").at(path))
        };
        if target.symlink_metadata().is_ok() {
            return exists(&folder);
        }
        let staging = self.stage(path, &folder, bytes)?;
        match rename_without_replacing(staging.path(), &target) {
            Ok(()) => {
                staging.keep();
                self.sync_names(&folder, &target)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => exists(&folder),
            Err(e) if cannot_link(&e) => self.create_under_lock(&folder, &target, staging, exists),
            Err(e) => Err(self.lost_or(&target, "create", e)),
        }
    }

    /// For file systems with neither `RENAME_NOREPLACE` nor hard links (exFAT, some network ones).
    fn create_under_lock(
        &self,
        folder: &Path,
        target: &Path,
        staging: StagingFile,
        exists: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        let _lock = FolderLock::take(folder)?;
        if target.symlink_metadata().is_ok() {
            return exists(folder);
        }
        std::fs::rename(staging.path(), target).map_err(|e| self.lost_or(target, "create", e))?;
        staging.keep();
        self.sync_names(folder, target)
    }

    pub(super) fn replace(&self, path: &ObjectPath, bytes: &Bytes, expected: &Version) -> Result<()> {
        let conflict = |message: &str| StorageError::new(StorageErrorKind::Conflict, message).at(path);
        if !self.folder_of(path).is_dir() {
            self.check_root()?;
            return Err(conflict("the object to replace is gone"));
        }
        let (folder, target) = self.prepare(path)?;
        let _lock = FolderLock::take(&folder)?;
        match target.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                let message = format!("{} is a symbolic link and is not written to", target.display());
                return Err(StorageError::new(StorageErrorKind::Other, message).at(path));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.check_root()?;
                return Err(conflict("the object to replace is gone"));
            }
            _ => {}
        }
        if Version::of_content(&self.get(path)?) != *expected {
            return Err(conflict("the object was changed meanwhile"));
        }
        let staging = self.stage(path, &folder, bytes)?;
        std::fs::rename(staging.path(), &target).map_err(|e| self.lost_or(&target, "replace", e))?;
        staging.keep();
        self.sync_names(&folder, &target)
    }

    pub(super) fn delete(&self, path: &ObjectPath) -> Result<()> {
        let target = self.file(path);
        let folder = self.folder_of(path);
        if !folder.is_dir() {
            return self.check_root();
        }
        let _lock = match FolderLock::take(&folder) {
            // A full disk must not keep anyone from making room on it. Without the file nobody holds the lock.
            Err(e) if e.kind() == StorageErrorKind::NoSpace => None,
            other => Some(other?),
        };
        match target.symlink_metadata() {
            Ok(found) if found.is_dir() => return Ok(()),
            _ => match std::fs::remove_file(&target) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("delete", &target, e)),
            },
        }
        // Also if it was gone: whoever removed it may have been killed before syncing.
        fsync_folder(&folder)
    }

    pub(super) fn sweep_staging(&self, folder: &ObjectPath, older_than: Duration) -> Result<u64> {
        self.check_root()?;
        let now = SystemTime::now();
        let mut swept = 0;
        self.walk(&self.file(folder), folder.as_str(), &mut Vec::new(), &mut |name, file, info| {
            let is_staging = name.rsplit('/').next().is_some_and(|n| n.starts_with(STAGING_PREFIX));
            let modified = info.modified().unwrap_or(now);
            // A time far ahead is of a clock that was wrong then; a file being written now has about our time.
            let age = now.duration_since(modified).unwrap_or_else(|ahead| ahead.duration());
            if is_staging && age > older_than {
                match std::fs::remove_file(file) {
                    Ok(()) => swept += 1,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(io_error("delete", file, e)),
                }
            }
            Ok(())
        })?;
        Ok(swept)
    }

    /// Writes and syncs a staging file in `folder`, making the folder again if it was removed meanwhile.
    fn stage(&self, path: &ObjectPath, folder: &Path, bytes: &Bytes) -> Result<StagingFile> {
        let name = || folder.join(format!("{STAGING_PREFIX}{:016x}", rand::random::<u64>()));
        let staging = match StagingFile::at(name()) {
            Err(e) if e.kind() == StorageErrorKind::NotFound => {
                self.check_root()?;
                self.settled().clear();
                self.prepare(path)?;
                StagingFile::at(name())?
            }
            other => other?,
        };
        reserve(staging.file(), bytes.len()).map_err(|e| io_error("write", staging.path(), e))?;
        for step in bytes.chunks(STEP_BYTES) {
            staging.file().write_all(step).map_err(|e| io_error("write", staging.path(), e))?;
            if step.len() == STEP_BYTES {
                staging.file().sync_data().map_err(|e| io_error("sync", staging.path(), e))?;
            }
        }
        staging.file().sync_all().map_err(|e| io_error("sync", staging.path(), e))?;
        Ok(staging)
    }

    /// Makes the folders of an object, durably; returns its folder and its file.
    fn prepare(&self, path: &ObjectPath) -> Result<(PathBuf, PathBuf)> {
        let target = self.file(path);
        let folder = self.folder_of(path);
        if self.settled().contains(&folder) {
            return Ok((folder, target));
        }
        let mut above = self.root.clone();
        let mut segments: Vec<&str> = path.as_str().split('/').collect();
        segments.pop();
        for segment in segments {
            let here = above.join(segment);
            if !self.settled().contains(&here) {
                self.make_folder(&here)?;
                // Also if it was there: whoever made it may not have come to syncing its name.
                fsync_folder(&above)?;
                self.settled().insert(here.clone());
            }
            above = here;
        }
        Ok((folder, target))
    }

    fn make_folder(&self, folder: &Path) -> Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let found = folder.symlink_metadata().map_err(|e| io_error("open", folder, e))?;
                if found.is_dir() {
                    return Ok(());
                }
                let message = format!("{} is not a folder, so nothing is written through it", folder.display());
                Err(StorageError::new(StorageErrorKind::Other, message).hint(
                    "a symbolic link inside a repository is read but not written through; link the whole repository",
                ))
            }
            Err(e) => Err(self.lost_or(folder, "create the folder", e)),
        }
    }

    /// Syncs the folder after its new name; what is there but not certain to stay is said so.
    fn sync_names(&self, folder: &Path, target: &Path) -> Result<()> {
        fsync_folder(folder).map_err(|e| {
            let message = format!("{} was written, but it is not certain to survive a power cut", target.display());
            StorageError::new(StorageErrorKind::Other, message).because(e)
        })
    }

    /// The error of a call that fails because the whole root is gone, or its own.
    fn lost_or(&self, place: &Path, what: &str, error: io::Error) -> StorageError {
        match error.kind() {
            io::ErrorKind::NotFound => self.check_root().err().unwrap_or_else(|| io_error(what, place, error)),
            _ => io_error(what, place, error),
        }
    }

    fn folder_of(&self, path: &ObjectPath) -> PathBuf {
        let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.is_empty() { self.root.clone() } else { self.root.join(folder) }
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<PathBuf>> {
        self.settled.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reserves the room of a large file at once. On ext4 the syncs of other programs then need not write out our data, too.
fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if bytes >= STEP_BYTES {
        use rustix::fs::{FallocateFlags, fallocate};
        return match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
            Err(Errno::NOSPC | Errno::DQUOT) => Err(Errno::NOSPC.into()),
            // A file system that cannot do that loses nothing.
            _ => Ok(()),
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, bytes);
    Ok(())
}

/// Whether a file system refuses hard links altogether.
fn cannot_link(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK))
}
