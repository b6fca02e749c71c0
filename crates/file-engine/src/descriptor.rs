//! Descriptors of database files, which are never closed while their file has a name.
//!
//! POSIX locks belong to the process: closing *any* descriptor of a file drops all locks that the process holds on it.
//! If a DuckDB in this very process owns a database, one `open` and `close` here would let a second process open it for
//! writing. So what was opened once stays open and is used again. A file without a name can no longer be opened by
//! anybody, so its lock protects nothing, and its descriptor is closed with the next call.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What names a file for the operating system: device and inode.
pub type FileId = (u64, u64);

static KEPT: Mutex<BTreeMap<FileId, Vec<Arc<File>>>> = Mutex::new(BTreeMap::new());

/// The identity of a file.
pub fn id_of(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Opens a file for reading, or hands out the descriptor that is open already.
pub fn open(path: &Path) -> io::Result<(Arc<File>, FileId)> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|_, files| {
        files.retain(|file| Arc::strong_count(file) > 1 || file.metadata().map_or(true, |m| m.nlink() > 0));
        !files.is_empty()
    });
    let wanted = id_of(&std::fs::metadata(path)?);
    if let Some(file) = kept.get(&wanted).and_then(|files| files.first()) {
        return Ok((Arc::clone(file), wanted));
    }
    let file = Arc::new(File::open(path)?);
    // The name may have got another file in between, one that is open already: then there are two, and both stay.
    let found = id_of(&file.metadata()?);
    kept.entry(found).or_default().push(Arc::clone(&file));
    Ok((file, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_descriptor_a_file_until_it_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, b"1").unwrap();
        std::fs::write(&b, b"2").unwrap();
        let (first, id) = open(&a).unwrap();
        assert!(Arc::ptr_eq(&first, &open(&a).unwrap().0));
        drop(first);
        assert!(KEPT.lock().unwrap().contains_key(&id));
        std::fs::remove_file(&a).unwrap();
        open(&b).unwrap();
        assert!(!KEPT.lock().unwrap().contains_key(&id));
    }
}
