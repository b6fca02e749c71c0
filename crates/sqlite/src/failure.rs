//! What SQLite's result codes mean for a user.

use std::path::Path;

use copal_core::{EngineError, EngineErrorKind};
use rusqlite::ffi;

use crate::handles::FileError;

/// The extended result code of an error of SQLite; 0 if the error is rusqlite's own.
pub(crate) fn code_of(error: &rusqlite::Error) -> i32 {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code,
        _ => 0,
    }
}

/// Whether trying again later may help.
pub(crate) fn is_busy(code: i32) -> bool {
    matches!(code & 0xff, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL)
}

/// Whether the content of the file is to blame.
pub(crate) fn is_damage(code: i32) -> bool {
    const IOERR_CORRUPTFS: i32 = ffi::SQLITE_IOERR | (33 << 8);
    matches!(code & 0xff, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB)
        || code == ffi::SQLITE_IOERR_SHORT_READ
        || code == IOERR_CORRUPTFS
}

/// The engine's error for an error of SQLite that happened to the database at `path`.
pub(crate) fn failed(path: &Path, doing: &str, error: rusqlite::Error) -> EngineError {
    let code = code_of(&error);
    classified(path, doing, code).because(error)
}

/// The engine's error for an error of SQLite's file layer.
pub(crate) fn file_failed(path: &Path, doing: &str, error: FileError) -> EngineError {
    classified(path, doing, error.0).because(error)
}

/// The error for a damaged database.
pub(crate) fn damaged(path: &Path, what: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Corrupt, format!("{} is damaged: {what}", path.display()))
        .hint("`sqlite3 FILE .recover` may save what is left; an earlier backup is not touched")
}

fn classified(path: &Path, doing: &str, code: i32) -> EngineError {
    let shown = path.display();
    if is_busy(code) {
        return EngineError::new(EngineErrorKind::Busy, format!("cannot {doing} {shown}: another process holds it"));
    }
    if is_damage(code) {
        return damaged(path, "SQLite cannot read it");
    }
    let (kind, text) = match code & 0xff {
        ffi::SQLITE_INTERRUPT => (EngineErrorKind::Cancelled, "interrupted".to_owned()),
        ffi::SQLITE_FULL => (EngineErrorKind::NoSpace, format!("no space left to {doing} {shown}")),
        ffi::SQLITE_PERM | ffi::SQLITE_READONLY | ffi::SQLITE_AUTH | ffi::SQLITE_CANTOPEN => {
            (EngineErrorKind::PermissionDenied, format!("no permission to {doing} {shown}"))
        }
        _ => (EngineErrorKind::Other, format!("cannot {doing} {shown}")),
    };
    EngineError::new(kind, text)
}
