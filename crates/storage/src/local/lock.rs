//! The lock of one folder, which makes compare-and-replace one step among processes.
//!
//! Owns `.lock~` files. The kernel drops a lock when its holder dies, so none is ever stale; the files stay.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::LOCK_NAME;
use crate::io_error::io_error;
use crate::{Result, StorageError, StorageErrorKind};

/// How long to wait for another process; it holds the lock for one small write only.
const PATIENCE: Duration = Duration::from_secs(60);

/// Held until dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough: a process that was forked off meanwhile has the file open too, and would keep its lock.
        // If this fails, closing it does what it can.
        let _ = self.file.unlock();
    }
}

impl FolderLock {
    /// Waits for the lock of `folder`. Errors: `Transient` if another process keeps it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|e| io_error("lock", &path, e))?;
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another process keeps {} locked", path.display());
                    return Err(StorageError::new(StorageErrorKind::Transient, message)
                        .hint("look for a stopped or hanging process that uses this repository"));
                }
                Err(TryLockError::Error(e)) => {
                    let message = format!("{} cannot be locked", path.display());
                    return Err(StorageError::new(StorageErrorKind::Unsupported, message)
                        .hint("this file system has no file locks; use another one for the repository")
                        .because(e));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_process_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(dir.path()).unwrap();
        // What a fork leaves behind: another descriptor of the same open file.
        let inherited = lock.file.try_clone().unwrap();
        drop(lock);
        let path = dir.path().join(LOCK_NAME);
        assert!(File::open(path).unwrap().try_lock().is_ok());
        drop(inherited);
    }
}
