//! The engines that are built in: one line each.

use std::path::Path;
use std::sync::Arc;

use copal_core::{Engine, Source};
use copal_sqlite::SqliteEngine;

use crate::{CopalError, ErrorKind, Result, Settings};

/// All engines, made for these settings.
#[derive(Clone)]
pub(crate) struct Engines(Vec<Arc<dyn Engine>>);

impl Engines {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self(vec![Arc::new(SqliteEngine { wait: settings.database_wait, ..SqliteEngine::default() })])
    }

    /// The engine of this name, as it stands in manifests.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<dyn Engine>> {
        let found = self.0.iter().find(|e| e.name() == name).cloned();
        found.ok_or_else(|| {
            let message = format!("this copal knows no engine {name:?}");
            CopalError::new(ErrorKind::Unsupported, message).with_hint("update copal")
        })
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

fn read_beginning(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let failed = |e: std::io::Error| {
        let (kind, message) = match e.kind() {
            std::io::ErrorKind::NotFound => (ErrorKind::NotFound, format!("there is no file {}", path.display())),
            std::io::ErrorKind::PermissionDenied => {
                (ErrorKind::PermissionDenied, format!("{} may not be read", path.display()))
            }
            std::io::ErrorKind::IsADirectory => (ErrorKind::Usage, format!("{} is a folder", path.display())),
            _ => (ErrorKind::Failed, format!("{} cannot be read", path.display())),
        };
        CopalError::new(kind, message).because(e)
    };
    // A fifo would block for ever, and only files are databases.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(CopalError::new(ErrorKind::Usage, format!("{} is not a file", path.display())));
    }
    let mut beginning = Vec::new();
    std::fs::File::open(path).and_then(|f| f.take(4096).read_to_end(&mut beginning)).map_err(failed)?;
    Ok(beginning)
}
