//! What tells one version of a small file from another, without reading it.
//!
//! Not for databases: what only reads them changes some of this ([`crate::watch`] has its own idea).

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

/// Length, modification time, and on Unix inode and the time of the last change of any kind, which nobody can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    bytes: u64,
    modified: Option<SystemTime>,
    more: [i64; 3],
}

impl FileStamp {
    /// Of a file; `None`: there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { bytes: metadata.len(), modified: metadata.modified().ok(), more: more(&metadata) })
    }
}

#[cfg(unix)]
fn more(metadata: &Metadata) -> [i64; 3] {
    use std::os::unix::fs::MetadataExt;
    [metadata.ino().cast_signed(), metadata.ctime(), metadata.ctime_nsec()]
}

#[cfg(not(unix))]
fn more(_metadata: &Metadata) -> [i64; 3] {
    [0; 3]
}
