//! A local folder as storage: one file per object, durable before it answers.
//!
//! Owns the folder below its root. Invariants: a file with an object's name is always whole (content and name are
//! synced, in that order, before the call answers); files are private (0600, folders 0700); the root is made only
//! by [`LocalStorage::create`], so a folder that vanished or was not mounted is an error and never an empty
//! repository. Staging and lock files have a `~` in their names, which no object name can have.

use std::collections::HashSet;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::io_error::io_error;
use crate::local_file::fsync_folder;
use crate::{ObjectInfo, ObjectPath, Result, Storage, StorageError, StorageErrorKind, Version};

mod lock;
mod read;
mod write;

#[cfg(test)]
mod tests;

/// Begins the names of files that are being written.
const STAGING_PREFIX: &str = ".staging~";
/// The name of a folder's lock file.
const LOCK_NAME: &str = ".lock~";

/// A storage in a local folder.
#[derive(Clone, Debug)]
pub struct LocalStorage {
    folder: Arc<LocalFolder>,
}

/// The blocking half, shared with the threads that do the work.
#[derive(Debug)]
struct LocalFolder {
    root: PathBuf,
    url: String,
    /// Folders below the root that this process has made sure of: real folders whose names are synced.
    settled: Mutex<HashSet<PathBuf>>,
}

impl LocalStorage {
    /// Opens an existing folder. Errors: `NotFound`.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let canonical = root.canonicalize().map_err(|e| io_error("open the folder", root, e))?;
        let is_folder = canonical.metadata().map_err(|e| io_error("open the folder", root, e))?.is_dir();
        if !is_folder {
            let message = format!("{} is not a folder", root.display());
            return Err(StorageError::new(StorageErrorKind::Configuration, message));
        }
        let url = format!("file://{}", canonical.display());
        let folder = LocalFolder { root: canonical, url, settled: Mutex::default() };
        Ok(Self { folder: Arc::new(folder) })
    }

    /// Creates the folder durably (mode 0700) unless it is there, then opens it.
    pub fn create(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref()).map_err(|e| io_error("create", root.as_ref(), e))?;
        let missing: Vec<&Path> = root.ancestors().take_while(|p| !p.exists()).collect();
        for folder in missing.into_iter().rev() {
            match std::fs::DirBuilder::new().mode(0o700).create(folder) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.map_err(|e| io_error("create the folder", folder, e))?,
            }
            if let Some(parent) = folder.parent() {
                fsync_folder(parent)?;
            }
        }
        Self::open(root)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.folder.root
    }

    /// Does blocking work on a thread of its own; it runs to its end even when the caller goes away.
    async fn blocking<T: Send + 'static>(
        &self,
        path: Option<&ObjectPath>,
        work: impl FnOnce(&LocalFolder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = Arc::clone(&self.folder);
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        let done = done.unwrap_or_else(|e| {
            Err(StorageError::new(StorageErrorKind::Other, "a file operation was aborted").because(e))
        });
        done.map_err(|e| match (path, e.path.is_none() && !e.is_storage_gone()) {
            (Some(path), true) => e.at(path),
            _ => e,
        })
    }
}

impl LocalFolder {
    /// The file of an object.
    fn file(&self, path: &ObjectPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// The error for something missing below the root: that object, or the whole storage.
    fn missing(&self, path: &ObjectPath) -> StorageError {
        self.check_root()
            .err()
            .unwrap_or_else(|| StorageError::new(StorageErrorKind::NotFound, "no such object").at(path))
    }

    /// Checks that the root is still there.
    fn check_root(&self) -> Result<()> {
        match self.root.metadata() {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(StorageError::storage_gone(format!("{} is no longer a folder", self.root.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("the folder {} is gone", self.root.display());
                Err(StorageError::storage_gone(message)
                    .hint("it was removed, renamed or is not mounted; it is not made again by itself"))
            }
            Err(e) => Err(io_error("open the folder", &self.root, e)),
        }
    }
}

#[async_trait]
impl Storage for LocalStorage {
    fn url(&self) -> &str {
        &self.folder.url
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        let wanted = path.clone();
        self.blocking(Some(path), move |f| f.get(&wanted)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        let wanted = path.clone();
        self.blocking(Some(path), move |f| f.get_range(&wanted, range)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        let wanted = path.clone();
        self.blocking(Some(path), move |f| f.head(&wanted)).await
    }

    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)> {
        let bytes = self.get(path).await?;
        let version = Version::of_content(&bytes);
        Ok((bytes, version))
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version> {
        let wanted = path.clone();
        self.blocking(Some(path), move |f| f.create(&wanted, &bytes).map(|()| Version::of_content(&bytes))).await
    }

    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version> {
        let (wanted, expected) = (path.clone(), expected.clone());
        let replaced =
            move |f: &LocalFolder| f.replace(&wanted, &bytes, &expected).map(|()| Version::of_content(&bytes));
        self.blocking(Some(path), replaced).await
    }

    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        let wanted = folder.clone();
        self.blocking(Some(folder), move |f| f.list(&wanted)).await
    }

    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        let wanted = folder.cloned();
        self.blocking(folder, move |f| f.list_folders(wanted.as_ref())).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        let wanted = path.clone();
        self.blocking(Some(path), move |f| f.delete(&wanted)).await
    }

    async fn sweep_staging(&self, folder: &ObjectPath, older_than: Duration) -> Result<u64> {
        let wanted = folder.clone();
        self.blocking(Some(folder), move |f| f.sweep_staging(&wanted, older_than)).await
    }
}
