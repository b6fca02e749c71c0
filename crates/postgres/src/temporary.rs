//! Temporary folders that go even if their maker is killed: the next one to need such a folder removes them.
//!
//! A maker holds the lock of a file in its folder for as long as it lives, so a lock that is free tells a dead one. (It is
//! no `FolderLock`: that is given where a file system has no locks, and here it would stand for a dead maker.)

use std::fs::File;
use std::io::Result;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

/// The file whose lock is held.
const LOCK: &str = "lock";
/// A folder younger than this may be about to be locked.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    folder: TempDir,
    _lock: File,
}

impl TemporaryFolder {
    /// Makes a folder named `copal-<purpose>-…`, after those that dead makers have left there are gone.
    pub(crate) fn make(parent: &Path, purpose: &str) -> Result<Self> {
        let prefix = format!("copal-{purpose}-");
        sweep(parent, &prefix, YOUNG);
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What cannot be removed stays: it is somebody else's, or in the way of nobody.
fn sweep(parent: &Path, prefix: &str, young: Duration) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        let is_old = || {
            let made = entry.metadata().and_then(|m| m.modified());
            made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age >= young))
        };
        if is_ours
            && is_old()
            && let Ok(lock) = File::options().write(true).open(entry.path().join(LOCK))
            && lock.try_lock().is_ok()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_have_left_goes_and_what_the_living_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let living = TemporaryFolder::make(parent.path(), "dump").unwrap();
        let dead = parent.path().join("copal-dump-dead");
        let other = parent.path().join("copal-dump-without-lock");
        for folder in [&dead, &other] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("data"), "x").unwrap();
        }
        std::fs::write(dead.join(LOCK), "").unwrap();
        sweep(parent.path(), "copal-dump-", YOUNG);
        assert!(dead.exists(), "it may be about to be locked");
        sweep(parent.path(), "copal-dump-", Duration::ZERO);
        assert!(!dead.exists() && other.exists() && living.path().exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
