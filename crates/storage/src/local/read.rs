//! Reading and listing of a local folder.
//!
//! Symbolic links are followed for reading, so that a repository of which a part was moved to another disk stays
//! readable. Whatever has no object's name (staging, locks, foreign files) is not there for a listing.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::io::Errno;

use super::LocalFolder;
use crate::io_error::io_error;
use crate::storage::range_length;
use crate::{ObjectInfo, ObjectPath, Result, StorageError, StorageErrorKind};

impl LocalFolder {
    pub(super) fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        let (mut file, info) = self.open_object(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(info.len()).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(|e| io_error("read", &self.file(path), e))?;
        Ok(bytes.into())
    }

    pub(super) fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        let (file, info) = self.open_object(path)?;
        let length = range_length(&range)?;
        if range.end > info.len() {
            return Err(StorageError::truncated(&range, info.len()).at(path));
        }
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes.into()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(StorageError::truncated(&range, file.metadata().map_or(0, |m| m.len())).at(path))
            }
            Err(e) => Err(io_error("read", &self.file(path), e)),
        }
    }

    pub(super) fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        let file = self.file(path);
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(object_info(path.clone(), &found)),
            Ok(found) if found.is_dir() => Err(self.missing(path)),
            Ok(_) => Err(not_regular(&file)),
            Err(e) if is_missing(&e) => Err(self.missing(path)),
            Err(e) => Err(io_error("read", &file, e)),
        }
    }

    pub(super) fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        let start = self.file(folder);
        if !start.is_dir() {
            self.check_root()?;
        }
        self.walk(&start, folder.as_str(), &mut Vec::new(), &mut |name, _, info| {
            if info.is_file()
                && let Ok(path) = ObjectPath::parse(name)
            {
                found.push(object_info(path, info));
            }
            Ok(())
        })?;
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    pub(super) fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        let start = folder.map_or_else(|| self.root.clone(), |f| self.file(f));
        self.check_root()?;
        let mut names = Vec::new();
        for entry in entries(&start)? {
            if ObjectPath::parse(&entry.name).is_ok() && self.holds_object(&entry.path)? {
                names.push(entry.name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether there is an object anywhere in a folder: as in an object store, an empty folder is none.
    fn holds_object(&self, folder: &Path) -> Result<bool> {
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in entries(&folder)? {
                let Some(info) = metadata_if_there(&entry.path)? else { continue };
                let is_named = ObjectPath::parse(&entry.name).is_ok();
                if is_named && info.is_file() {
                    return Ok(true);
                }
                // Deeper than any name can be: a link back to a folder above.
                if is_named && info.is_dir() && depth < 256 {
                    folders.push((entry.path, depth + 1));
                }
            }
        }
        Ok(false)
    }

    /// Calls `visit` with relative name, file and metadata of everything in `folder` that is no folder, recursively.
    pub(super) fn walk(
        &self,
        folder: &Path,
        name: &str,
        above: &mut Vec<(u64, u64)>,
        visit: &mut dyn FnMut(&str, &Path, &Metadata) -> Result<()>,
    ) -> Result<()> {
        let Some(here) = metadata_if_there(folder)? else { return Ok(()) };
        let identity = (here.dev(), here.ino());
        if !here.is_dir() || above.contains(&identity) {
            return Ok(()); // A symbolic link back to a folder above.
        }
        above.push(identity);
        for entry in entries(folder)? {
            let name = format!("{name}/{}", entry.name);
            let Some(info) = metadata_if_there(&entry.path)? else { continue };
            if !info.is_dir() {
                visit(&name, &entry.path, &info)?;
            } else if ObjectPath::parse(&name).is_ok() {
                self.walk(&entry.path, &name, above, visit)?;
            }
        }
        above.pop();
        Ok(())
    }

    /// Opens an object's file; nothing but a regular one, and without waiting on a pipe.
    fn open_object(&self, path: &ObjectPath) -> Result<(File, Metadata)> {
        let place = self.file(path);
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&place);
        let file = match opened {
            Ok(file) => file,
            Err(e) if is_missing(&e) => return Err(self.missing(path)),
            Err(e) => return Err(io_error("read", &place, e)),
        };
        let info = file.metadata().map_err(|e| io_error("read", &place, e))?;
        if info.is_dir() {
            return Err(self.missing(path));
        }
        if !info.is_file() {
            return Err(not_regular(&place));
        }
        Ok((file, info))
    }
}

/// The metadata of a file, unless it vanished since it was listed or is a link to nowhere.
fn metadata_if_there(path: &Path) -> Result<Option<Metadata>> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        Err(e) if is_missing(&e) || Errno::from_io_error(&e) == Some(Errno::LOOP) => Ok(None),
        Err(e) => Err(io_error("list", path, e)),
    }
}

/// One name in a folder.
struct Entry {
    name: String,
    path: PathBuf,
}

/// The names in a folder that are UTF-8; a folder that is not there has none.
fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let opened = match std::fs::read_dir(folder) {
        Ok(opened) => opened,
        Err(e) if is_missing(&e) => return Ok(Vec::new()),
        Err(e) => return Err(io_error("list", folder, e)),
    };
    let mut found = Vec::new();
    for entry in opened {
        let entry = entry.map_err(|e| io_error("list", folder, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push(Entry { name, path: entry.path() });
        }
    }
    Ok(found)
}

fn object_info(path: ObjectPath, found: &Metadata) -> ObjectInfo {
    let modified = jiff::Timestamp::new(found.mtime(), i32::try_from(found.mtime_nsec()).unwrap_or(0))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    ObjectInfo { path, size: found.len(), modified }
}

fn not_regular(place: &Path) -> StorageError {
    StorageError::new(StorageErrorKind::Other, format!("{} is not a regular file", place.display()))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
