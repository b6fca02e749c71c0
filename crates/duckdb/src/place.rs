//! Where a database is: the real file behind a path, and the logs that DuckDB keeps beside it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use copal_core::{EngineError, EngineErrorKind, EngineResult, Source};
use copal_file_engine::descriptor::{FileId, id_of};

use crate::LOG;
use crate::owner::Owner;

/// A database file that exists, links resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The real, absolute path.
    pub(crate) path: PathBuf,
    /// The path beside which its logs are: DuckDB keeps them beside the name that it was given, also if that is a link.
    pub(crate) opened_as: PathBuf,
    /// Length of the main file when it was looked up.
    pub(crate) bytes: u64,
    given: PathBuf,
}

impl Place {
    /// Finds the file that `source` names, without opening it.
    pub(crate) fn find(source: &Source) -> EngineResult<Self> {
        Self::at(source.file_path())
    }

    /// Looks the same name up again.
    pub(crate) fn again(&self) -> EngineResult<Self> {
        Self::at(self.given.clone())
    }

    fn at(given: PathBuf) -> EngineResult<Self> {
        if matches!(given.to_str(), Some(":memory:" | "")) && !given.exists() {
            return Err(EngineError::new(EngineErrorKind::Unsupported, "a database in memory cannot be backed up")
                .hint("name a database file"));
        }
        let metadata = std::fs::metadata(&given).map_err(|e| cannot_reach(&given, e))?;
        if !metadata.is_file() {
            let message = format!("{} is not a file", given.display());
            return Err(EngineError::new(EngineErrorKind::NotThisEngine, message));
        }
        let path = given.canonicalize().map_err(|e| cannot_reach(&given, e))?;
        let opened_as = opened_as(&given, &path, id_of(&metadata))?;
        Ok(Self { path, opened_as, bytes: metadata.len(), given })
    }

    /// The file of DuckDB's beside the database that has `suffix`.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.opened_as, suffix)
    }

    /// Whether `other`, which was looked up later, is the same database with its log in the same place.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        // Without a log it makes no difference which name is DuckDB's.
        self.path == other.path && (self.opened_as == other.opened_as || !other.log().exists())
    }

    /// Whether a log stands beside the given name although this is not where it was found.
    pub(crate) fn has_other_log(&self) -> bool {
        [&self.given, &self.path].into_iter().any(|name| {
            let log = beside(name, LOG);
            log != self.log() && std::fs::metadata(&log).is_ok_and(|m| m.len() > 0)
        })
    }

    /// The write-ahead log.
    pub(crate) fn log(&self) -> PathBuf {
        self.beside(LOG)
    }
}

/// `path` with `suffix` behind it or, as DuckDB does it, in front of its first `?` (`Path::AddSuffixToPath`).
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let (name, query) = bytes.split_at(bytes.iter().position(|b| *b == b'?').unwrap_or(bytes.len()));
    PathBuf::from(OsString::from_vec([name, suffix.as_bytes(), query].concat()))
}

/// The error for a path that the operating system does not let us look at.
pub(crate) fn cannot_reach(path: &Path, error: io::Error) -> EngineError {
    let (kind, what) = match error.kind() {
        io::ErrorKind::NotFound => (EngineErrorKind::NotFound, "there is no database at"),
        io::ErrorKind::PermissionDenied => (EngineErrorKind::PermissionDenied, "no permission to reach"),
        _ => (EngineErrorKind::Other, "cannot reach"),
    };
    EngineError::new(kind, format!("{what} {}", path.display())).because(error)
}

/// The name by which DuckDB knows a database: of the given one, the real one and, if the owner shows it, the owner's, the
/// one that has a log beside it. Errors: more than one has.
fn opened_as(given: &Path, real: &Path, file: FileId) -> EngineResult<PathBuf> {
    let mut names = vec![real.to_owned()];
    if let Ok(absolute) = std::path::absolute(given) {
        names.push(absolute);
    }
    names.extend(Owner::of(file).names(real));
    names.sort();
    names.dedup();
    let has_log = |name: &&PathBuf| std::fs::metadata(beside(name, LOG)).is_ok_and(|m| m.len() > 0);
    let mut logs = Vec::new();
    let mut found = Vec::new();
    for name in names.iter().filter(has_log) {
        // Two names may lead to one log.
        let log = match beside(name, LOG).canonicalize() {
            Ok(log) => log,
            // A checkpoint has removed it since it was seen.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(cannot_reach(name, e)),
        };
        if !logs.contains(&log) {
            logs.push(log);
            found.push(name.clone());
        }
    }
    match found.as_slice() {
        [] => Ok(real.to_owned()),
        [one] => Ok(one.clone()),
        [one, two, ..] => {
            let (one, two) = (beside(one, LOG), beside(two, LOG));
            let message = format!("{} and {} both claim to be the log of one database", one.display(), two.display());
            Err(EngineError::new(EngineErrorKind::Other, message).hint(
                "it was opened under two names; open it under its right name with DuckDB and look what is missing",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn logs_lie_where_duckdb_puts_them() {
        let cases =
            [("/x/a.duckdb", "/x/a.duckdb.wal"), ("/x/a?b.db", "/x/a.wal?b.db"), ("/x/ä 'q\".db", "/x/ä 'q\".db.wal")];
        for (path, log) in cases {
            assert_eq!(beside(Path::new(path), LOG), Path::new(log));
        }
    }

    #[test]
    fn a_log_that_comes_and_goes_hides_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.db");
        std::fs::write(&real, b"x").unwrap();
        let (log, is_done) = (beside(&real, LOG), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    std::fs::write(&log, b"log").unwrap();
                    std::fs::remove_file(&log).unwrap();
                }
            });
            let found: Vec<_> = (0..20_000).map(|_| Place::find(&Source::path(&real))).collect();
            is_done.store(true, Ordering::Relaxed);
            let failed = found.into_iter().find_map(Result::err);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn the_log_beside_a_link_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
        std::fs::write(&real, b"x").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let place = || Place::find(&Source::path(&link));
        assert!(place().unwrap().log().ends_with("real.db.wal"));
        std::fs::write(beside(&link, LOG), b"log").unwrap();
        assert_eq!(place().unwrap().log(), beside(&link, LOG));
        std::fs::write(beside(&real, LOG), b"log").unwrap();
        assert!(place().unwrap_err().message.contains("both claim"));
    }
}
