//! Where a database is: the real file behind a path, and the files that SQLite keeps beside it.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use copal_core::{EngineError, EngineErrorKind, EngineResult, Source};

/// A database file that exists, links resolved (SQLite keeps its other files beside the real one).
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The real, absolute path.
    pub(crate) path: PathBuf,
    /// Length of the main file when it was looked up.
    pub(crate) bytes: u64,
}

impl Place {
    /// Finds the file that `source` names, without opening it.
    pub(crate) fn find(source: &Source) -> EngineResult<Self> {
        let given = source.file_path();
        if given == Path::new(":memory:") && !given.exists() {
            return Err(EngineError::new(EngineErrorKind::Unsupported, "a database in memory cannot be backed up")
                .hint("name a database file"));
        }
        let metadata = std::fs::metadata(&given).map_err(|e| cannot_reach(&given, e))?;
        if !metadata.is_file() {
            let message = format!("{} is not a file", given.display());
            return Err(EngineError::new(EngineErrorKind::NotThisEngine, message));
        }
        let path = given.canonicalize().map_err(|e| cannot_reach(&given, e))?;
        Ok(Self { path, bytes: metadata.len() })
    }

    /// The file beside the database whose name ends in `suffix`.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.path, suffix)
    }

    /// Length of the file beside the database, 0 if there is none.
    pub(crate) fn bytes_beside(&self, suffix: &str) -> u64 {
        std::fs::metadata(self.beside(suffix)).map_or(0, |m| m.len())
    }

    /// Whether a rollback journal or a log of SQLite stands beside the database. They carry no locks and may be opened.
    pub(crate) fn has_journal_or_log(&self) -> bool {
        use std::io::Read;
        let begins = |suffix, magics: &[&[u8]]| {
            let mut beginning = [0; 8];
            std::fs::File::open(self.beside(suffix)).and_then(|mut f| f.read_exact(&mut beginning)).is_ok()
                && magics.iter().any(|magic| beginning.starts_with(magic))
        };
        begins("-journal", &[&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]])
            || begins("-wal", &[&[0x37, 0x7f, 0x06, 0x82], &[0x37, 0x7f, 0x06, 0x83]])
    }

    /// The main file's data now.
    pub(crate) fn metadata(&self) -> EngineResult<Metadata> {
        std::fs::metadata(&self.path).map_err(|e| cannot_reach(&self.path, e))
    }
}

/// `path` with `suffix` behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
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
