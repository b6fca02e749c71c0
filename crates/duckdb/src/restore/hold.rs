//! Keeping everybody away from the file that is going to be replaced.
//!
//! Three things together: DuckDB's own lock, which other processes respect; a look at what this process itself has locked
//! or opened, because POSIX locks are no obstacle within one process; and, once no name leads to the file any more, a look
//! at who opened it before, but has not come to taking the lock. A replaced file is crossed out before the lock ends, so
//! that whoever opened it nevertheless finds no database, rather than the old one beside the new one's log.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use copal_file_engine::descriptor::{FileId, id_of};
use copal_file_engine::io_failed;
use copal_storage::local_file::writers_of;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::owner::{Owner, is_place_of};

/// What stands in the place of the headers of a file that was replaced.
const REPLACED: &[u8; 64] = b"This DuckDB database was replaced by a restored one.\n\0\0\0\0\0\0\0\0\0\0\0";
/// How long a process that has the file open is given to close it; a program that is just being started has all of the
/// files of the process that starts it, for a moment.
const PATIENCE: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_millis(20);

/// Descriptors that were opened for locking and may not be closed as long as their file has a name: that would end the
/// locks that a DuckDB of this very process may have taken meanwhile.
static KEPT: Mutex<BTreeMap<FileId, Arc<File>>> = Mutex::new(BTreeMap::new());

/// DuckDB's lock on a database that is about to be replaced, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    path: PathBuf,
    file: Arc<File>,
    id: FileId,
}

impl Hold {
    /// Takes the lock on the main file at `path` that DuckDB takes while it has the file open; `None` without a file.
    /// Errors: `Busy`.
    pub(super) fn take(path: &Path) -> EngineResult<Option<Self>> {
        let wanted = match std::fs::metadata(path) {
            Ok(metadata) => id_of(&metadata),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_failed("look at", path, e)),
        };
        let owner = Owner::of(wanted);
        // Before the file is opened: our own lock is no obstacle to us, and closing a descriptor would end it.
        if matches!(&owner, Owner::Processes(ids) if ids.contains(&std::process::id())) {
            return Err(held(path, &owner.shown()));
        }
        let (file, id) = open(path, wanted).map_err(|e| io_failed("open", path, e))?;
        match rustix::fs::fcntl_lock(&*file, FlockOperation::NonBlockingLockExclusive) {
            // A file system without locks: DuckDB could not take one either.
            Ok(()) | Err(Errno::NOLCK | Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(held(path, &Owner::of(id).shown())),
            Err(e) => return Err(io_failed("lock", path, e.into())),
        }
        let hold = Self { path: path.to_owned(), file, id };
        match std::fs::metadata(path).map(|m| id_of(&m)) {
            Ok(now) if now == id => Ok(Some(hold)),
            _ => Err(EngineError::new(EngineErrorKind::Busy, format!("{} was replaced just now", path.display()))
                .hint("look who writes there, then restore again")),
        }
    }

    /// Looks for somebody who has the file open for writing, under one of the names that it has or had. Conclusive if no
    /// name leads to the file any more. Errors: `Busy`.
    pub(super) fn require_alone(&self, names: &[&OsStr]) -> EngineResult<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = writers_of(self.id, names, self.file.as_raw_fd());
            if is_locked_for_reading(self.id) {
                return Err(held(&self.path, " (read by this process itself)"));
            }
            let Some(first) = found.first() else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(held(&self.path, &format!(" (open in {first})")));
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Whether something else in this process uses the file: it has it open for writing, or has made the lock its own.
    fn is_shared(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default();
        let own = std::process::id();
        writers_of(self.id, &[name], self.file.as_raw_fd()).iter().any(|writer| writer.process == own)
            || is_locked_for_reading(self.id)
    }

    /// Makes the file useless for programs that opened it and wait for the lock, unless it has another name somewhere.
    pub(super) fn cross_out(&self) {
        if self.file.metadata().is_ok_and(|m| m.nlink() == 0) {
            // Best effort: the restore is done.
            let _ = self.file.write_all_at(REPLACED, 0);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // To unlock is as bad as to close: it ends what a DuckDB of this process has locked meanwhile.
        if self.file.metadata().map_or(true, |m| m.nlink() > 0) && !self.is_shared() {
            let _ = rustix::fs::fcntl_lock(&*self.file, FlockOperation::NonBlockingUnlock);
        }
        sweep();
    }
}

/// Whether our lock has become one for reading: a DuckDB of this process has taken it over, to read.
///
/// Lines read `1: POSIX  ADVISORY  READ 1234 08:01:131 0 EOF`.
fn is_locked_for_reading(file: FileId) -> bool {
    let own = std::process::id().to_string();
    std::fs::read_to_string("/proc/locks").is_ok_and(|locks| {
        locks.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, "POSIX", _, "READ", process, place, ..] = words.as_slice() else { return false };
            *process == own && is_place_of(place, file)
        })
    })
}

/// Opens a file for writing, or hands out the descriptor that is open already.
fn open(path: &Path, wanted: FileId) -> std::io::Result<(Arc<File>, FileId)> {
    sweep();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = kept.get(&wanted) {
        return Ok((Arc::clone(file), wanted));
    }
    let file = Arc::new(OpenOptions::new().read(true).write(true).open(path)?);
    let id = id_of(&file.metadata()?);
    // The name may have got a file in between that is open already: then the first descriptor is the one that is kept,
    // and this one, too, is never closed.
    let file = match kept.entry(id) {
        std::collections::btree_map::Entry::Vacant(entry) => Arc::clone(entry.insert(file)),
        std::collections::btree_map::Entry::Occupied(entry) => {
            std::mem::forget(file);
            Arc::clone(entry.get())
        }
    };
    Ok((file, id))
}

/// Closes what has no name any more and is not used.
fn sweep() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|_, file| Arc::strong_count(file) > 1 || file.metadata().map_or(true, |m| m.nlink() > 0));
}

fn held(path: &Path, by: &str) -> EngineError {
    let message = format!("{} is open in another program{by}", path.display());
    EngineError::new(EngineErrorKind::Busy, message)
        .hint("stop that program, or let it close the database, then restore again; or restore to another path")
}
