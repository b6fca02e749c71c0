//! The engines that are built in: one line each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use copal_core::{Context, Engine, Source};
use copal_duckdb::DuckDbEngine;
use copal_mysql::MysqlEngine;
use copal_sqlite::SqliteEngine;

use crate::{CopalError, ErrorKind, Result, Settings};

/// All engines, made for these settings.
#[derive(Clone)]
pub(crate) struct Engines(Vec<Arc<dyn Engine>>);

impl Engines {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self(vec![
            Arc::new(SqliteEngine { wait: settings.database_wait, ..SqliteEngine::default() }),
            Arc::new(DuckDbEngine { deadline: settings.duckdb.deadline, program: settings.duckdb.program.clone() }),
            Arc::new(settings.postgres.clone()),
            Arc::new(MysqlEngine::default()),
        ])
    }

    /// The engine of this name, as it stands in manifests.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<dyn Engine>> {
        let found = self.0.iter().find(|e| e.name() == name).cloned();
        found.ok_or_else(|| {
            let message = format!("this copal knows no engine {name:?}");
            CopalError::new(ErrorKind::Unsupported, message).with_hint("update copal")
        })
    }

    /// The names of the engines whose databases are files.
    pub(crate) fn of_files(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|engine| engine.capabilities().is_file).map(|engine| engine.name())
    }

    /// The engine of a file that is gone: the one that has snapshots of it.
    pub(crate) fn with_snapshots_of(&self, source: &Source) -> Option<Arc<dyn Engine>> {
        let context = Context::silent();
        let has_some = |engine: &&Arc<dyn Engine>| {
            engine.capabilities().is_file
                && engine.snapshots().and_then(|all| all.list(source, &context).ok()).is_some_and(|all| !all.is_empty())
        };
        self.0.iter().find(has_some).cloned()
    }

    /// The engine of a source: by its scheme, or by what the file begins with.
    pub(crate) fn of(&self, source: &Source) -> Result<Arc<dyn Engine>> {
        if let Some(scheme) = source.scheme() {
            let found = self.0.iter().find(|e| e.capabilities().schemes.contains(&scheme)).cloned();
            return found.ok_or_else(|| {
                let known: Vec<_> = self.0.iter().flat_map(|e| e.capabilities().schemes).copied().collect();
                let message = format!("{source}: there is no engine for {scheme}: URLs");
                CopalError::new(ErrorKind::Unsupported, message)
                    .with_hint(format!("this copal knows: {}, and paths of such files", known.join(", ")))
            });
        }
        let path = source.file_path();
        let beginning = read_beginning(&path)?;
        self.0.iter().find(|e| e.recognises(&beginning)).cloned().ok_or_else(|| {
            let message = format!("{} is not a database that copal knows", path.display());
            let hint = match beginning.is_empty() {
                true => {
                    format!("the file is empty; if it is meant as an empty database, say so: sqlite:{}", path.display())
                }
                false => {
                    format!("if it is an encrypted SQLite database, say so to learn more: sqlite:{}", path.display())
                }
            };
            CopalError::new(ErrorKind::Unsupported, message).with_hint(hint)
        })
    }
}

/// The schemes of URLs that name files, for those who read a configuration and have no engines yet.
pub(crate) const FILE_SCHEMES: [&str; 2] = ["sqlite", "duckdb"];

/// Files whose beginning was read, by device and inode.
///
/// Their descriptors stay open for as long as the file has a name: closing one would drop the POSIX locks that an engine or
/// the embedding program holds on the same file.
static LOOKED_AT: Mutex<BTreeMap<(u64, u64), File>> = Mutex::new(BTreeMap::new());

fn read_beginning(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| {
        let (kind, message) = match e.kind() {
            std::io::ErrorKind::NotFound => (ErrorKind::NotFound, format!("there is no file {}", path.display())),
            std::io::ErrorKind::PermissionDenied => {
                (ErrorKind::PermissionDenied, format!("{} may not be read", path.display()))
            }
            _ => (ErrorKind::Failed, format!("{} cannot be read", path.display())),
        };
        CopalError::new(kind, message).because(e)
    };
    // A fifo would block for ever, and only files are databases.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "is a folder" } else { "is not a file" };
        return Err(CopalError::new(ErrorKind::Usage, format!("{} {what}, not a database", path.display())));
    }
    let mut looked_at = LOOKED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    looked_at.retain(|_, file| file.metadata().map_or(true, |metadata| metadata.nlink() > 0));
    let file = match looked_at.entry((metadata.dev(), metadata.ino())) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(File::open(path).map_err(failed)?),
    };
    let mut beginning = vec![0; 4096];
    let mut filled = 0;
    while let Some(rest) = beginning.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64).map_err(failed)? {
            0 => break,
            n => filled += n,
        }
    }
    beginning.truncate(filled);
    Ok(beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_file_is_read_and_its_descriptor_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"beginning").unwrap();
        assert_eq!(read_beginning(&path).unwrap(), b"beginning");
        std::fs::write(&path, b"another").unwrap();
        assert_eq!(read_beginning(&path).unwrap(), b"another");
        let metadata = std::fs::metadata(&path).unwrap();
        assert!(LOOKED_AT.lock().unwrap().contains_key(&(metadata.dev(), metadata.ino())));
        assert_eq!(read_beginning(folder.path()).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(read_beginning(&folder.path().join("b")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn the_schemes_of_files_are_those_of_the_engines() {
        let engines = Engines::new(&Settings::new("/repository"));
        let files = engines.0.iter().map(|engine| engine.capabilities()).filter(|can| can.is_file);
        assert!(files.flat_map(|can| can.schemes).eq(&FILE_SCHEMES));
    }
}
