//! A lock on a folder, so that only one restore at a time swaps files in it, and one call at a time works with snapshots.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Keeps two calls from working in one folder. It leaves nothing behind: the lock is on the folder itself.
#[derive(Debug)]
pub struct FolderLock {
    folder: Option<File>,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // Closing is not enough: a process that was forked off meanwhile has the folder open too, and would keep its lock.
            let _ = folder.unlock();
        }
    }
}

impl FolderLock {
    /// Takes it, waiting up to `wait` and no longer than `go_on` says; `None` if another process kept it.
    ///
    /// On a file system without such locks there is nothing to take, and it is given at once.
    pub fn take(folder: &Path, wait: Duration, mut go_on: impl FnMut() -> bool) -> Option<Self> {
        let Ok(folder) = File::open(folder) else { return Some(Self { folder: None }) };
        let deadline = Instant::now() + wait;
        loop {
            match folder.try_lock() {
                Ok(()) => return Some(Self { folder: Some(folder) }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline && go_on() => {
                    std::thread::sleep(RETRY.min(wait));
                }
                Err(TryLockError::WouldBlock) => return None,
                Err(TryLockError::Error(_)) => return Some(Self { folder: None }),
            }
        }
    }

    /// Whether there is a lock, so that others are kept out for certain.
    pub fn is_held(&self) -> bool {
        self.folder.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path(), Duration::ZERO, || true).unwrap();
        assert!(FolderLock::take(dir.path(), Duration::from_millis(80), || true).is_none());
        assert!(FolderLock::take(dir.path(), Duration::from_secs(3600), || false).is_none());
        assert!(first.is_held());
        drop(first);
        let lock = FolderLock::take(dir.path(), Duration::from_secs(20), || true).unwrap();
        // What a fork leaves behind: another descriptor of the same open folder.
        let inherited = lock.folder.as_ref().map(|folder| folder.try_clone().unwrap());
        drop(lock);
        assert!(FolderLock::take(dir.path(), Duration::ZERO, || true).is_some());
        drop(inherited);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
