//! SQLite's own open files, read without a file descriptor of ours.
//!
//! POSIX locks belong to the process: closing *any* descriptor of a database file drops every lock that SQLite holds
//! on it, also those of a connection that the embedding program has. So this crate never opens a live database
//! file; it reads through the `sqlite3_file` objects of a connection, and looks at the shared wal-index through
//! the mapping that SQLite has made. This is the only module with unsafe code.
//!
//! Invariant: no pointer obtained here outlives the call in which it was obtained.

#![expect(unsafe_code, reason = "SQLite gives its file handles and the wal-index only as C pointers")]

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ffi};

/// An extended SQLite result code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SQLite's file layer answered {}", ffi::Error::new(*.0))]
pub(crate) struct FileError(pub(crate) c_int);

/// Words of the wal-index that are read: two copies of the header (48 bytes each) and the checkpoint information.
pub(crate) const WAL_INDEX_WORDS: usize = 34;
/// SQLite maps the wal-index in regions of this many bytes.
const REGION_BYTES: c_int = 32_768;

/// How SQLite's file objects begin on Unix (`struct unixFile` in os_unix.c, the same since 3.7).
#[repr(C)]
struct UnixFile {
    methods: *const c_void,
    vfs: *const ffi::sqlite3_vfs,
    inode: *const c_void,
    descriptor: c_int,
}

/// The open files of a connection's main database.
#[derive(Clone, Copy)]
pub(crate) struct Handles<'c> {
    connection: &'c Connection,
}

impl<'c> Handles<'c> {
    /// The files of `connection`.
    pub(crate) fn of(connection: &'c Connection) -> Self {
        Self { connection }
    }

    /// Reads the main file at `offset`; returns how many bytes there were, the rest of `into` is zero.
    pub(crate) fn read_main(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        read(self.file(ffi::SQLITE_FCNTL_FILE_POINTER)?, offset, into)
    }

    /// Reads the write-ahead log; only while a read transaction is open in WAL mode.
    pub(crate) fn read_wal(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        read(self.file(ffi::SQLITE_FCNTL_JOURNAL_POINTER)?, offset, into)
    }

    /// The length of the main file in bytes.
    pub(crate) fn main_size(&self) -> Result<u64, FileError> {
        size(self.file(ffi::SQLITE_FCNTL_FILE_POINTER)?)
    }

    /// Whether the main file has another name than the one under which it was opened, or none.
    pub(crate) fn has_moved(&self) -> bool {
        let mut moved: c_int = 0;
        // SAFETY: the connection is open as long as it is borrowed; the operation writes one int to its fourth argument.
        let code = unsafe {
            let operation = ffi::SQLITE_FCNTL_HAS_MOVED;
            ffi::sqlite3_file_control(self.connection.handle(), c"main".as_ptr(), operation, (&raw mut moved).cast())
        };
        code != ffi::SQLITE_OK || moved != 0
    }

    /// The descriptor of the main file, which SQLite has opened and will close; none if its file layer is not that of Unix.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'c>> {
        let file = self.file(ffi::SQLITE_FCNTL_FILE_POINTER).ok()?;
        let mut vfs: *mut ffi::sqlite3_vfs = std::ptr::null_mut();
        // SAFETY: the connection is open as long as it is borrowed; the operation writes one pointer to its fourth argument.
        let code = unsafe {
            let operation = ffi::SQLITE_FCNTL_VFS_POINTER;
            ffi::sqlite3_file_control(self.connection.handle(), c"main".as_ptr(), operation, (&raw mut vfs).cast())
        };
        // SAFETY: a file layer and its name live as long as the library; SQLite gives the pointer to its own or none.
        let is_unix = code == ffi::SQLITE_OK
            && unsafe { vfs.as_ref() }.is_some_and(|vfs| {
                usize::try_from(vfs.szOsFile).is_ok_and(|size| size >= size_of::<UnixFile>())
                    && !vfs.zName.is_null()
                    && unsafe { CStr::from_ptr(vfs.zName) }.to_bytes().starts_with(b"unix")
            });
        if !is_unix {
            return None;
        }
        // SAFETY: files of these layers (`unix`, `unix-none`, `unix-excl` ...) are all `unixFile`s, and this one has room for
        // the fields that are read. That the second one is the layer shows that the fields are where they are thought to be.
        let UnixFile { vfs: own, descriptor, .. } = unsafe { file.cast::<UnixFile>().read() };
        if !std::ptr::eq(own, vfs) || descriptor < 0 {
            return None;
        }
        // SAFETY: SQLite keeps the main file open until the connection is closed, which is borrowed for `'c`.
        Some(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }

    /// The first words of the shared wal-index; only after a transaction in WAL mode.
    pub(crate) fn wal_index(&self) -> Result<[u32; WAL_INDEX_WORDS], FileError> {
        let file = self.file(ffi::SQLITE_FCNTL_FILE_POINTER)?;
        let methods = methods(file)?;
        let map = methods.xShmMap.filter(|_| methods.iVersion >= 2).ok_or(FileError(ffi::SQLITE_IOERR_SHMMAP))?;
        let mut region: *mut c_void = std::ptr::null_mut();
        // SAFETY: `file` is open (see `file`); region 0 with bExtend = 0 neither creates nor grows anything. The VFS
        // keeps the mapping until xShmUnmap, which SQLite calls when it closes the log, which no code here can make
        // it do before this function returns.
        let code = unsafe { map(file, 0, REGION_BYTES, 0, &raw mut region) };
        // READONLY with a region: somebody who may not write to it can still see what the others write.
        if region.is_null() || !matches!(code, ffi::SQLITE_OK | ffi::SQLITE_READONLY) {
            return Err(FileError(if code == ffi::SQLITE_OK { ffi::SQLITE_IOERR_SHMMAP } else { code }));
        }
        let mut words = [0; WAL_INDEX_WORDS];
        for (n, word) in words.iter_mut().enumerate() {
            // SAFETY: the region is 32 KiB, page aligned and mapped readable; n is below 34. Other processes write to
            // it, so it is read with atomic loads, word by word, as SQLite does; the caller checks for torn reads.
            *word = unsafe { AtomicU32::from_ptr(region.cast::<u32>().add(n)) }.load(Ordering::SeqCst);
        }
        Ok(words)
    }

    /// Takes SQLite's EXCLUSIVE lock on the main file without looking into it; it ends with the connection.
    ///
    /// The connection must not be used for anything else, because its pager does not know of the lock.
    pub(crate) fn lock_exclusive(&self) -> Result<(), FileError> {
        let file = self.file(ffi::SQLITE_FCNTL_FILE_POINTER)?;
        let methods = methods(file)?;
        let (Some(lock), Some(unlock)) = (methods.xLock, methods.xUnlock) else {
            return Err(FileError(ffi::SQLITE_IOERR_LOCK));
        };
        for level in [ffi::SQLITE_LOCK_SHARED, ffi::SQLITE_LOCK_EXCLUSIVE] {
            // SAFETY: `file` is open, and the levels are asked for in the order that the VFS requires.
            let code = unsafe { lock(file, level) };
            if code != ffi::SQLITE_OK {
                // SAFETY: as above; going down to NONE is allowed from every level.
                unsafe { unlock(file, ffi::SQLITE_LOCK_NONE) };
                return Err(FileError(code));
            }
        }
        Ok(())
    }

    fn file(&self, which: c_int) -> Result<*mut ffi::sqlite3_file, FileError> {
        let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
        // SAFETY: the connection is open as long as `self.connection` is borrowed; both operations write one pointer
        // to the place that the fourth argument names. The object stays open at least until the connection runs
        // its next statement, and none runs before the caller within this module returns.
        let code = unsafe {
            ffi::sqlite3_file_control(self.connection.handle(), c"main".as_ptr(), which, (&raw mut file).cast())
        };
        if code != ffi::SQLITE_OK || file.is_null() {
            return Err(FileError(if code == ffi::SQLITE_OK { ffi::SQLITE_NOTFOUND } else { code }));
        }
        Ok(file)
    }
}

fn methods<'a>(file: *mut ffi::sqlite3_file) -> Result<&'a ffi::sqlite3_io_methods, FileError> {
    // SAFETY: `file` comes from `Handles::file` in the same call; pMethods is null for a file that is not open, and
    // otherwise points to the VFS's static table.
    unsafe { (*file).pMethods.as_ref() }.ok_or(FileError(ffi::SQLITE_CANTOPEN))
}

fn read(file: *mut ffi::sqlite3_file, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
    let read = methods(file)?.xRead.ok_or(FileError(ffi::SQLITE_IOERR_READ))?;
    // xRead does not tell how short a short read was, so the length is asked for first: what it covers must be there.
    let there = usize::try_from(size(file)?.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
    let (present, missing) = into.split_at_mut(there);
    missing.fill(0);
    if present.is_empty() {
        return Ok(0);
    }
    let (Ok(amount), Ok(start)) = (c_int::try_from(there), i64::try_from(offset)) else {
        return Err(FileError(ffi::SQLITE_TOOBIG));
    };
    // SAFETY: `file` is open, and `present` is writable for `amount` bytes.
    match unsafe { read(file, present.as_mut_ptr().cast(), amount, start) } {
        ffi::SQLITE_OK => Ok(there),
        code => Err(FileError(code)),
    }
}

fn size(file: *mut ffi::sqlite3_file) -> Result<u64, FileError> {
    let size = methods(file)?.xFileSize.ok_or(FileError(ffi::SQLITE_IOERR_FSTAT))?;
    let mut bytes = 0;
    // SAFETY: `file` is open, and `bytes` is a place for one i64.
    match unsafe { size(file, &raw mut bytes) } {
        ffi::SQLITE_OK => Ok(u64::try_from(bytes).unwrap_or(0)),
        code => Err(FileError(code)),
    }
}
