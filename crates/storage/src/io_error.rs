//! Translates errors of the operating system into storage errors, with advice where there is any.
//!
//! Owns the one table from `errno` to kind, for the local storage and for local files of engines.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::{StorageError, StorageErrorKind};

/// An error of doing `what` ("write", "read" …) to `place`.
pub(crate) fn io_error(what: &str, place: &Path, error: io::Error) -> StorageError {
    let kind = kind_of(&error);
    let place = place.display();
    let message = match kind {
        StorageErrorKind::NoSpace => format!("no space left: cannot {what} {place}"),
        StorageErrorKind::PermissionDenied => format!("not permitted to {what} {place}"),
        StorageErrorKind::NotFound => format!("cannot {what} {place}: it does not exist"),
        _ => format!("cannot {what} {place}"),
    };
    let made = StorageError::new(kind, message);
    let made = match Errno::from_io_error(&error) {
        Some(Errno::ROFS) => made.hint("the file system is mounted read-only; it can be read but not written"),
        Some(Errno::DQUOT) => made.hint("the quota of this user is used up; raise it or prune old backups"),
        _ => match kind {
            StorageErrorKind::NoSpace => {
                made.hint("free space on this disk, prune old backups or choose another place")
            }
            StorageErrorKind::PermissionDenied => {
                made.hint("check the owner and the permissions of the folder, and the user this runs as")
            }
            _ => made,
        },
    };
    made.because(error)
}

/// The kind of an operating system's error.
fn kind_of(error: &io::Error) -> StorageErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => StorageErrorKind::NotFound,
        Some(Errno::EXIST) => StorageErrorKind::AlreadyExists,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StorageErrorKind::NoSpace,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StorageErrorKind::PermissionDenied,
        // A network file system that lost its server or its handle, or a process short of descriptors.
        Some(Errno::STALE | Errno::TIMEDOUT | Errno::MFILE | Errno::NFILE | Errno::INTR | Errno::AGAIN) => {
            StorageErrorKind::Transient
        }
        _ => StorageErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_decides_the_kind_and_the_hint() {
        let of = |errno: Errno| io_error("write", Path::new("/r/x"), errno.into());
        assert_eq!(of(Errno::NOSPC).kind(), StorageErrorKind::NoSpace);
        assert_eq!(of(Errno::DQUOT).kind(), StorageErrorKind::NoSpace);
        assert!(of(Errno::DQUOT).hint.unwrap().contains("quota"));
        assert_eq!(of(Errno::ACCESS).kind(), StorageErrorKind::PermissionDenied);
        assert_eq!(of(Errno::ROFS).kind(), StorageErrorKind::PermissionDenied);
        assert!(of(Errno::ROFS).hint.unwrap().contains("read-only"));
        assert_eq!(of(Errno::NOENT).kind(), StorageErrorKind::NotFound);
        assert_eq!(of(Errno::STALE).kind(), StorageErrorKind::Transient);
        assert_eq!(of(Errno::IO).kind(), StorageErrorKind::Other);
        assert!(of(Errno::NOSPC).to_string().contains("/r/x"));
    }
}
