//! What `stat` says about a database file and its log: enough to see that somebody has written.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

/// What SQLite and DuckDB put behind a database's name to name its write-ahead log.
const LOGS: [&str; 2] = ["-wal", ".wal"];
/// The coarsest clock of a file system that is in use: FAT rounds the times of its files down to it.
const COARSE: SignedDuration = SignedDuration::from_secs(2);

/// A database file and its log as one look found them.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) stamp: Stamp,
    /// When one was written last or the main file came to its place, by the file system's clock.
    touched: SystemTime,
}

/// What is another if somebody has written: the main file, then the logs with content. Readers, a backup among them, make empty
/// logs and take them away again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<FileStamp>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Look {
    /// Looks at the files; `None` while there is no such database.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let Some(named) = there(fs::symlink_metadata(path))? else { return Ok(None) };
        let (main, real) = if named.is_symlink() {
            // Only now, since it asks about each folder on the way.
            let Some(real) = there(fs::canonicalize(path))? else { return Ok(None) };
            let Some(main) = there(fs::metadata(&real))? else { return Ok(None) };
            (main, Some(real))
        } else {
            (named, None)
        };
        let mut touched = moved(&main).max(modified(&main));
        let mut files = vec![FileStamp::of(&main)];
        // SQLite keeps its log beside the real file, DuckDB beside the name that it was given.
        for name in [Some(path), real.as_deref()].into_iter().flatten() {
            for log in LOGS.iter().flat_map(|suffix| beside(name, suffix)) {
                let Some(log) = there(fs::metadata(log))?.filter(|log| log.is_file() && log.len() > 0) else {
                    continue;
                };
                touched = touched.max(modified(&log));
                files.push(FileStamp::of(&log));
            }
        }
        let touched = touched.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Some(Self { stamp: Stamp(files), touched }))
    }

    /// Whether somebody may have written since; without a time, certainly.
    pub(super) fn is_later_than(&self, time: Option<Timestamp>) -> bool {
        let Some(before) = time.and_then(|time| time.checked_sub(COARSE).ok()) else { return true };
        self.touched > SystemTime::from(before)
    }
}

impl FileStamp {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), bytes: file.len(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

fn modified(file: &Metadata) -> Option<SystemTime> {
    file.modified().ok()
}

/// When a file was moved to its place, though somebody may have set its time of modification, as `cp -p` does. Not for logs:
/// SQLite gives them to the main file's owner whenever root opens them, for a backup too.
fn moved(file: &Metadata) -> Option<SystemTime> {
    let since = Duration::new(u64::try_from(file.ctime()).ok()?, u32::try_from(file.ctime_nsec()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// `path` with `suffix` behind it and, where DuckDB does it so, in front of its first `?`.
fn beside(path: &Path, suffix: &str) -> impl Iterator<Item = PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    let with = |at: usize| {
        let (name, query) = bytes.split_at(at);
        PathBuf::from(OsString::from_vec([name, suffix.as_bytes(), query].concat()))
    };
    let query = bytes.iter().position(|byte| *byte == b'?');
    [Some(with(bytes.len())), query.map(with)].into_iter().flatten()
}

fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
