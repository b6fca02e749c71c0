//! Evidence that a database nobody can lock did not change while it was read.
//!
//! A database in WAL mode cannot be opened the usual way where SQLite may not create its `-shm` file (read-only media
//! or folder). SQLite can then read it as *immutable*: main file only, no locks. That is right exactly if
//!
//! 1. no `-wal` or `-journal` with content stands beside it, so that the main file alone is the whole database, and
//! 2. the main file does not change between that look and the end of the reading.
//!
//! The second is proven by the file's time stamps: every write sets both to the current time, and a stamp counts only
//! once it is older than the clock's coarsest tick, so a later write cannot repeat it.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use copal_core::EngineResult;

use crate::place::Place;

/// File systems keep times to at worst two seconds (FAT).
const COARSEST_TICK: Duration = Duration::from_millis(2_100);

/// The main file as it was at one moment, at which it was the whole database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Settled {
    /// Looks at the file; `None` if other files hold a part of the database, or it was written to just now.
    pub(crate) fn observe(place: &Place) -> EngineResult<Option<Self>> {
        // The stamp first: if it is still the same at the end, the file was the same when the others were looked for.
        let stamp = Self::stamp(place)?;
        if place.bytes_beside("-wal") > 0 || place.bytes_beside("-journal") > 0 {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let newest = stamp.modified.max(stamp.changed).0;
        let old_enough = now.saturating_sub(COARSEST_TICK).as_secs();
        Ok(i64::try_from(old_enough).is_ok_and(|limit| newest < limit).then_some(stamp))
    }

    /// Whether the file is still what it was.
    pub(crate) fn holds(&self, place: &Place) -> EngineResult<bool> {
        Ok(Self::stamp(place)? == *self)
    }

    fn stamp(place: &Place) -> EngineResult<Self> {
        let metadata = place.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use copal_core::Source;

    use super::*;

    #[test]
    fn only_an_old_file_that_stands_alone_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        std::fs::write(&path, b"x").unwrap();
        let place = Place::find(&Source::path(&path)).unwrap();
        assert_eq!(Settled::observe(&place).unwrap(), None, "written just now");
        std::thread::sleep(Duration::from_secs(4));
        let settled = Settled::observe(&place).unwrap().expect("settled");
        assert!(settled.holds(&place).unwrap());
        std::fs::write(place.beside("-wal"), b"frames").unwrap();
        assert_eq!(Settled::observe(&place).unwrap(), None, "a log stands beside it");
        std::fs::write(&path, b"y").unwrap();
        assert!(!settled.holds(&place).unwrap());
    }
}
