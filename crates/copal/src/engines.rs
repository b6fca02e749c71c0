//! The engines that are built in: one line each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copal_core::{Context, Engine, Source};

use crate::{CopalError, ErrorKind, Result, Settings};

/// All engines that are built in, made for these settings.
#[derive(Clone)]
pub(crate) struct Engines {
    all: Vec<Arc<dyn Engine>>,
    /// Where stores are registered; clones share them.
    #[cfg(feature = "memory")]
    pub(crate) memory: copal_memory::MemoryEngine,
}

impl Engines {
    pub(crate) fn new(settings: &Settings) -> Self {
        #[cfg(feature = "memory")]
        let memory = copal_memory::MemoryEngine::new();
        let all: Vec<Arc<dyn Engine>> = vec![
            #[cfg(feature = "sqlite")]
            Arc::new(copal_sqlite::SqliteEngine {
                wait: settings.database_wait,
                ..copal_sqlite::SqliteEngine::default()
            }),
            #[cfg(feature = "duckdb")]
            Arc::new(copal_duckdb::DuckDbEngine {
                deadline: settings.duckdb.deadline,
                program: settings.duckdb.program.clone(),
            }),
            #[cfg(feature = "postgres")]
            Arc::new(postgres(&settings.postgres)),
            #[cfg(feature = "mysql")]
            Arc::new(copal_mysql::MysqlEngine::default()),
            #[cfg(feature = "memory")]
            Arc::new(memory.clone()),
        ];
        // Some settings are of engines that are not built in.
        let _ = settings;
        Self {
            all,
            #[cfg(feature = "memory")]
            memory,
        }
    }

    /// How long writers were held up by the newest view of a source, where its engine knows it.
    pub(crate) fn held(&self, source: &Source) -> Option<Duration> {
        #[cfg(feature = "memory")]
        if let Some(name) = given_name(source) {
            return self.memory.last_held(name);
        }
        let _ = source;
        None
    }

    /// The engine of this name, as it stands in manifests.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<dyn Engine>> {
        let found = self.all.iter().find(|e| e.name() == name).cloned();
        found.ok_or_else(|| match KNOWN.iter().find(|known| known.name == name) {
            Some(known) => known.left_out(),
            None => {
                let message = format!("this copal knows no engine {name:?}");
                CopalError::new(ErrorKind::Unsupported, message).with_hint("update copal")
            }
        })
    }

    /// The names of the engines whose databases are there without the program that asks.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let is_named = |engine: &&Arc<dyn Engine>| {
            engine.capabilities().schemes.iter().any(|scheme| NAMED_SCHEMES.contains(scheme))
        };
        self.all.iter().filter(|engine| !is_named(engine)).map(|engine| engine.name()).collect()
    }

    /// The name of the engine whose files begin like this.
    pub(crate) fn recognise(&self, beginning: &[u8]) -> Option<&'static str> {
        self.all.iter().find(|engine| engine.recognises(beginning)).map(|engine| engine.name())
    }

    /// The names of the engines whose databases are files.
    pub(crate) fn of_files(&self) -> impl Iterator<Item = &'static str> {
        self.all.iter().filter(|engine| engine.capabilities().is_file).map(|engine| engine.name())
    }

    /// The engine of a file that is gone: the one that has snapshots of it.
    pub(crate) fn with_snapshots_of(&self, source: &Source) -> Option<Arc<dyn Engine>> {
        let context = Context::silent();
        let has_some = |engine: &&Arc<dyn Engine>| {
            engine.capabilities().is_file
                && engine.snapshots().and_then(|all| all.list(source, &context).ok()).is_some_and(|all| !all.is_empty())
        };
        self.all.iter().find(has_some).cloned()
    }

    /// The error for the URL of an engine that exists but is not built in.
    pub(crate) fn left_out(&self, source: &Source) -> Option<CopalError> {
        let known = KNOWN.iter().find(|known| source.scheme().is_some_and(|scheme| known.schemes.contains(&scheme)))?;
        (!self.all.iter().any(|engine| engine.name() == known.name)).then(|| known.left_out())
    }

    /// The engine of a source: by its scheme, or by what the file begins with.
    pub(crate) fn of(&self, source: &Source) -> Result<Arc<dyn Engine>> {
        if let Some(scheme) = source.scheme() {
            let found = self.all.iter().find(|e| e.capabilities().schemes.contains(&scheme)).cloned();
            return found.ok_or_else(|| {
                if let Some(left_out) = self.left_out(source) {
                    return left_out;
                }
                let known: Vec<_> = self.all.iter().flat_map(|e| e.capabilities().schemes).copied().collect();
                let message = format!("{source}: there is no engine for {scheme}: URLs");
                CopalError::new(ErrorKind::Unsupported, message)
                    .with_hint(format!("this copal knows: {}, and paths of such files", known.join(", ")))
            });
        }
        let path = source.file_path();
        let beginning = read_beginning(&path)?;
        self.all.iter().find(|e| e.recognises(&beginning)).cloned().ok_or_else(|| {
            if let Some(known) = KNOWN.iter().find(|known| known.is_beginning(&beginning)) {
                return known.left_out();
            }
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

#[cfg(feature = "postgres")]
fn postgres(settings: &crate::PostgresSettings) -> copal_postgres::PostgresEngine {
    let crate::PostgresSettings { bin, jobs, count, lock_wait, role_passwords, temporary } = settings.clone();
    copal_postgres::PostgresEngine { bin, jobs, count, lock_wait, role_passwords, temporary }
}

/// An engine that Copal has, whether or not it is built in; for telling that it is not.
struct Known {
    name: &'static str,
    schemes: &'static [&'static str],
    /// What its files have at this offset, if its databases are files.
    magic: Option<(usize, &'static [u8])>,
}

const KNOWN: [Known; 5] = [
    Known { name: "sqlite", schemes: &["sqlite"], magic: Some((0, b"SQLite format 3\0")) },
    Known { name: "duckdb", schemes: &["duckdb"], magic: Some((8, b"DUCK")) },
    Known { name: "postgres", schemes: &["postgres", "postgresql"], magic: None },
    Known { name: "mysql", schemes: &["mysql", "mariadb"], magic: None },
    Known { name: "memory", schemes: &["memory"], magic: None },
];

impl Known {
    fn is_beginning(&self, beginning: &[u8]) -> bool {
        self.magic.is_some_and(|(at, magic)| beginning.get(at..at + magic.len()) == Some(magic))
    }

    fn left_out(&self) -> CopalError {
        let message = format!("this program was built without the engine {}", self.name);
        let hint =
            format!("build it with copal's feature {:?}, or use the copal command, which has all engines", self.name);
        CopalError::new(ErrorKind::Unsupported, message).with_hint(hint)
    }
}

/// The schemes of URLs that name files, for those who read a configuration and have no engines yet.
pub(crate) const FILE_SCHEMES: [&str; 2] = ["sqlite", "duckdb"];

/// The schemes of URLs that say a name which a program gave to what it keeps itself.
const NAMED_SCHEMES: [&str; 1] = ["memory"];

/// The name that a program gave to a source of its own (`memory:sessions`).
pub(crate) fn given_name(source: &Source) -> Option<&str> {
    let rest = source.reveal_rest();
    source
        .scheme()
        .is_some_and(|scheme| NAMED_SCHEMES.contains(&scheme))
        .then(|| rest.strip_prefix("//").unwrap_or(rest))
}

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
    fn what_is_known_of_the_engines_is_what_they_say() {
        let engines = Engines::new(&Settings::new("/repository"));
        for engine in &engines.all {
            let (can, known) = (engine.capabilities(), KNOWN.iter().find(|known| known.name == engine.name()).unwrap());
            assert_eq!((known.schemes, known.magic.is_some()), (can.schemes, can.is_file));
            assert!(can.schemes.iter().all(|scheme| FILE_SCHEMES.contains(scheme) == can.is_file));
            if let Some((at, magic)) = known.magic {
                let file = [&vec![0; at], magic, &[0; 100]].concat();
                assert!(engine.recognises(&file) && known.is_beginning(&file));
            }
        }
        let built_in = KNOWN.iter().filter(|known| engines.named(known.name).is_ok()).count();
        assert_eq!(built_in, engines.all.len());
    }

    #[test]
    fn an_engine_that_is_left_out_is_named() {
        let (mut engines, folder) = (Engines::new(&Settings::new("/repository")), tempfile::tempdir().unwrap());
        engines.all.clear();
        for known in &KNOWN {
            let mut errors = vec![engines.named(known.name).map(drop)];
            let urls = known.schemes.iter().map(|scheme| Source::parse(&format!("{scheme}:x")).unwrap());
            errors.extend(urls.map(|url| engines.of(&url).map(drop)));
            if let Some((at, magic)) = known.magic {
                let path = folder.path().join(known.name);
                std::fs::write(&path, [&vec![0; at], magic, &[0; 100]].concat()).unwrap();
                errors.push(engines.of(&Source::path(&path)).map(drop));
            }
            for error in errors.into_iter().map(Result::unwrap_err) {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert_eq!(error.to_string(), format!("this program was built without the engine {}", known.name));
            }
        }
        let unknown = engines.named("oracle").map(drop).unwrap_err();
        assert!(unknown.to_string().contains("knows no engine"), "{unknown}");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_defaults_of_the_settings_are_those_of_the_engine() {
        assert_eq!(postgres(&crate::PostgresSettings::default()), copal_postgres::PostgresEngine::default());
    }
}
