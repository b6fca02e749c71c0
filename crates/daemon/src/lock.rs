//! One daemon for one state folder: two would close each other's runs and tell everything twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

const FILE_NAME: &str = "daemon.lock";

/// Why the state folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum StateLockError {
    /// Another daemon has it.
    #[error("another copal daemon works with the state folder {0}")]
    Held(String),
    /// It cannot be locked; a daemon can go on without.
    #[error("the state folder {0} cannot be locked")]
    Impossible(String, #[source] io::Error),
}

/// The state folder is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the folder, which is created if it is not there.
    pub fn take(folder: &Path) -> Result<Self, StateLockError> {
        let impossible = |error| StateLockError::Impossible(folder.display().to_string(), error);
        create_private(folder).map_err(impossible)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(folder.join(FILE_NAME)).map_err(impossible)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateLockError::Held(folder.display().to_string())),
            Err(TryLockError::Error(error)) => Err(impossible(error)),
        }
    }
}

/// Makes a folder that only its owner may look into; one that is there stays as it is.
pub(crate) fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_daemon() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state");
        let first = StateLock::take(&folder).unwrap();
        assert!(matches!(StateLock::take(&folder), Err(StateLockError::Held(_))));
        drop(first);
        StateLock::take(&folder).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
        std::fs::write(home.path().join("file"), "").unwrap();
        assert!(matches!(StateLock::take(&home.path().join("file")), Err(StateLockError::Impossible(..))));
    }
}
