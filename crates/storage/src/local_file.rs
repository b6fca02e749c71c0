//! Durable handling of local files: staging beside the target, replacing in one step, syncing, space, reflinks.
//!
//! Used by the local storage and by engines when they restore: where the target is, who has it open, one restore at a time in
//! a folder, what killed ones left behind. Its invariant: a target either has its old content
//! or the whole new one, whatever is killed or cut off, and what answered `Ok` survives a power cut. All calls
//! block; asynchronous callers wrap them.

mod folder_lock;
mod holders;
mod sweep;
mod target;

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::io_error::io_error;
use crate::{Result, StorageError, StorageErrorKind};

pub use folder_lock::FolderLock;
pub use holders::{Holder, holders, writers_of};
pub use sweep::sweep_abandoned;
pub use target::FileTarget;

/// A private file (mode 0600) beside the place it will take; removed when dropped before that.
#[derive(Debug)]
pub struct StagingFile {
    file: File,
    path: PathBuf,
    armed: bool,
}

impl StagingFile {
    /// Creates an empty one in the folder of `target`, named `.<target's name>.copal~<random>`.
    pub fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| {
            StorageError::new(StorageErrorKind::Configuration, format!("{} names no file", target.display()))
        })?;
        let name = shortened(&name.to_string_lossy());
        let path = folder_of(target).join(format!(".{name}.copal~{:016x}", rand::random::<u64>()));
        Self::at(path)
    }

    /// Creates an empty one at exactly `path`, which must not exist.
    pub fn at(path: PathBuf) -> Result<Self> {
        let file = create_private(&path).map_err(|e| io_error("create", &path, e))?;
        Ok(Self { file, path, armed: true })
    }

    /// The open file, for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it the owner and the mode of the file that it will replace, as far as we may; whether the owner is the same.
    pub fn adopt(&self, old: &Metadata) -> Result<bool> {
        adopt(&self.file, &self.path, old)
    }

    /// Makes its content durable and puts it in the place of `target`, replacing what is there.
    pub fn replace(mut self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| io_error("sync", &self.path, e))?;
        std::fs::rename(&self.path, target).map_err(|e| io_error("replace", target, e))?;
        self.armed = false;
        fsync_folder(folder_of(target))
    }

    /// Makes its content durable and puts it at `target`, where nothing may be. Errors: `AlreadyExists`.
    pub fn place_new(mut self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| io_error("sync", &self.path, e))?;
        rename_without_replacing(&self.path, target).map_err(|e| io_error("create", target, e))?;
        self.armed = false;
        fsync_folder(folder_of(target))
    }

    /// Leaves the file where it is and returns its path; the caller looks after it from here.
    pub fn keep(mut self) -> PathBuf {
        self.armed = false;
        std::mem::take(&mut self.path)
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if self.armed {
            // Best effort: what stays behind is swept later.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Gives an open file the owner and the mode of another, as far as we may; whether the owner is the same.
pub fn adopt(file: &File, path: &Path, other: &Metadata) -> Result<bool> {
    let failed = |e| io_error("set the mode of", path, e);
    let mine = file.metadata().map_err(failed)?;
    let is_owned = (mine.uid(), mine.gid()) == (other.uid(), other.gid())
        || std::os::unix::fs::fchown(file, Some(other.uid()), Some(other.gid())).is_ok()
        || std::os::unix::fs::fchown(file, None, Some(other.gid())).is_ok();
    // After the owner: a change of owner may take bits away.
    file.set_permissions(Permissions::from_mode(other.mode() & 0o7777)).map_err(failed)?;
    Ok(is_owned)
}

/// Syncs `staging`, renames it over `target` and syncs the folder. A symbolic link at `target` is itself replaced.
pub fn durable_replace(staging: &Path, target: &Path) -> Result<()> {
    fsync_file(staging)?;
    durable_rename(staging, target)
}

/// Renames `from` to `to`, replacing what is there, and syncs the folders of both. The content is not synced.
pub fn durable_rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|e| io_error("replace", to, e))?;
    let (left, entered) = (folder_of(from), folder_of(to));
    fsync_folder(entered)?;
    if left != entered { fsync_folder(left) } else { Ok(()) }
}

/// Renames `from` to `to`, where nothing may be, and syncs the folder of `to`. The content is not synced. Errors:
/// `AlreadyExists`.
pub fn durable_place(from: &Path, to: &Path) -> Result<()> {
    rename_without_replacing(from, to).map_err(|e| io_error("create", to, e))?;
    fsync_folder(folder_of(to))
}

/// Removes a file and makes that durable; one that is not there is no error.
pub fn durable_remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => fsync_folder(folder_of(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_error("remove", path, e)),
    }
}

/// Makes the content of a file durable.
pub fn fsync_file(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| io_error("sync", path, e))?;
    file.sync_all().map_err(|e| io_error("sync", path, e))
}

/// Makes the names in a folder durable.
pub fn fsync_folder(folder: &Path) -> Result<()> {
    // The folder of a name without any: the current one.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let opened = File::open(folder).map_err(|e| io_error("sync", folder, e))?;
    match opened.sync_all() {
        // Some network and user-space file systems cannot sync a folder and say so; there is nothing to be had.
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::OPNOTSUPP)) => Ok(()),
        other => other.map_err(|e| io_error("sync", folder, e)),
    }
}

/// The bytes that an unprivileged process can still write where `path` lies (or would lie).
pub fn free_space(path: &Path) -> Result<u64> {
    let mut place = path;
    loop {
        match rustix::fs::statvfs(place) {
            Ok(stat) => return Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
            Err(Errno::NOENT) => match place.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => place = parent,
                Some(_) if place != Path::new(".") => place = Path::new("."),
                _ => return Err(io_error("look at", path, Errno::NOENT.into())),
            },
            Err(e) => return Err(io_error("look at", path, e.into())),
        }
    }
}

/// Checks that `bytes` fit where `path` lies. Errors: `NoSpace`, naming both numbers.
pub fn require_space(path: &Path, bytes: u64) -> Result<()> {
    let free = free_space(path)?;
    if free >= bytes {
        return Ok(());
    }
    let message = format!("not enough space at {}: {} needed, {} free", path.display(), iec(bytes), iec(free));
    Err(StorageError::new(StorageErrorKind::NoSpace, message)
        .hint("free space on this disk or choose a target on another one"))
}

/// The error of doing `what` ("open", "look at" ...) to a file.
pub fn io_failed(what: &str, path: &Path, error: io::Error) -> StorageError {
    io_error(what, path, error)
}

/// The error of writing `needed` bytes beside `target`; if the disk is full, it says how much was needed and is free.
pub fn write_failed(target: &Path, needed: u64, error: io::Error) -> StorageError {
    let folder = folder_of(target);
    let failed = io_error("write to", folder, error);
    if failed.kind() != StorageErrorKind::NoSpace {
        return failed;
    }
    let free = free_space(folder).map_or_else(|_| "less".to_owned(), |free| format!("{free} bytes"));
    StorageError {
        message: format!("no space left in {}: {needed} bytes needed, {free} free", folder.display()),
        ..failed
    }
    .hint("free space on this disk or restore to another one")
}

/// Makes `to` (which must not exist) share the content of `from` without copying, on file systems that can.
///
/// Errors: `Unsupported` where they cannot or where the two lie on different file systems; `to` is then not there.
pub fn reflink(from: &Path, to: &Path) -> Result<()> {
    let source = File::open(from).map_err(|e| io_error("read", from, e))?;
    reflink_open(&source, from, to)
}

/// The same for a file that is open already, for callers that must not open and close it; `from` is for messages.
pub fn reflink_open(source: &File, from: &Path, to: &Path) -> Result<()> {
    let target = create_private(to).map_err(|e| io_error("create", to, e))?;
    let cloned = clone_file(&target, source.as_fd());
    if cloned.is_err() {
        let _ = std::fs::remove_file(to);
    }
    cloned.map_err(|errno| match errno {
        errno if cannot_clone(errno) => {
            let message = format!("{} cannot share its content with {}", from.display(), to.display());
            StorageError::new(StorageErrorKind::Unsupported, message).because(io::Error::from(errno))
        }
        errno => io_error("write", to, errno.into()),
    })
}

/// Makes an open, empty file a clone of another; `false`: that cannot be had here.
pub fn clone_into(target: &File, source: impl AsFd) -> io::Result<bool> {
    match clone_file(target, source.as_fd()) {
        Ok(()) => Ok(true),
        Err(errno) if cannot_clone(errno) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the file system, not what happened on it, keeps content from being shared.
fn cannot_clone(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS)
}

#[cfg(target_os = "linux")]
fn clone_file(target: &File, source: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    rustix::fs::ioctl_ficlone(target, source)
}

#[cfg(not(target_os = "linux"))]
fn clone_file(_target: &File, _source: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    Err(Errno::OPNOTSUPP)
}

/// Renames `from` to `to` unless `to` exists (`EEXIST`), in one step.
pub(crate) fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without that flag (NFS, older FUSE): a hard link fails the same way if the name is taken.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_without_replacing(from, to),
        other => other.map_err(io::Error::from),
    }
}

/// The same by a hard link, after which the old name goes.
fn link_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        // A repeated request on NFS: "exists" is about our own link if the file has two names.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && from.metadata()?.nlink() < 2 => return Err(e),
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // The new name stands whatever happens to the old one, which is swept later.
    let _ = std::fs::remove_file(from);
    Ok(())
}

/// Creates a file with mode 0600 that must not exist yet.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The part of a name that staging files carry: with their suffix they must stay below the 255 bytes of a file name.
fn shortened(name: &str) -> String {
    name.chars().take(48).collect()
}

/// The folder in which a path lies.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn iec(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        fsync_folder(Path::new("app.db").parent().unwrap()).unwrap();
        assert!(fsync_folder(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn replaces_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("app.db");
        std::fs::write(&target, b"old").unwrap();
        let staging = StagingFile::beside(&target).unwrap();
        staging.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        staging.replace(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dropped_staging_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(StagingFile::beside(&dir.path().join("x")).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn place_new_refuses_what_exists() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        std::fs::write(&target, b"mine").unwrap();
        let error = StagingFile::beside(&target).unwrap().place_new(&target).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_do_for_file_systems_without_exclusive_renames() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"1").unwrap();
        link_without_replacing(&from, &to).unwrap();
        assert!(!from.exists());
        std::fs::write(&from, b"2").unwrap();
        let error = link_without_replacing(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap()), (b"2".to_vec(), b"1".to_vec()));
        std::fs::remove_file(&to).unwrap();
        std::fs::hard_link(&from, &to).unwrap();
        link_without_replacing(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"2");
    }

    #[test]
    fn space_is_measured_also_for_what_does_not_exist_yet() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("no/such/file");
        assert!(free_space(&target).unwrap() > 0);
        assert!(free_space(Path::new("no-such-file")).unwrap() > 0);
        require_space(&target, 1).unwrap();
        let error = require_space(&target, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::NoSpace);
        assert!(error.to_string().contains("16.0 EiB needed"), "{error}");
    }

    #[test]
    fn reflink_shares_or_says_that_it_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"content").unwrap();
        let open = File::create_new(dir.path().join("open")).unwrap();
        let is_cloned = clone_into(&open, File::open(&from).unwrap()).unwrap();
        assert_eq!(open.metadata().unwrap().len(), if is_cloned { 7 } else { 0 });
        match reflink(&from, &to) {
            Ok(()) => assert_eq!(std::fs::read(&to).unwrap(), b"content"),
            Err(e) => {
                assert_eq!(e.kind(), StorageErrorKind::Unsupported, "{e}");
                assert!(!to.exists());
            }
        }
    }

    #[test]
    fn nothing_is_replaced_where_nothing_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"new").unwrap();
        std::fs::write(&to, b"old").unwrap();
        assert_eq!(durable_place(&from, &to).unwrap_err().kind(), StorageErrorKind::AlreadyExists);
        assert_eq!((std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        durable_remove(&to).unwrap();
        durable_place(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"new");
    }

    #[test]
    fn the_folder_of_a_bare_name_is_here() {
        assert_eq!(folder_of(Path::new("x")), Path::new("."));
        assert_eq!(iec(1023), "1023 B");
        assert_eq!(iec(1536), "1.5 KiB");
    }
}
