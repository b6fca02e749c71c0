//! One database, one name: a configured database is the same whether it is called by its name, its path or its URL.

use copal_core::Source;

use super::Copal;
use super::find::canonical;

impl Copal {
    /// The configured name of a database that was given by path or URL; anything else stays as it is.
    pub(super) fn named<'a>(&'a self, database: &'a str) -> &'a str {
        let configured = &self.settings.databases;
        if configured.contains_key(database) {
            return database;
        }
        let Ok(wanted) = Source::parse(database) else { return database };
        let is_same = |url: &str| Source::parse(url).is_ok_and(|known| self.is_same_place(&known, &wanted));
        configured.iter().find(|(_, settings)| is_same(&settings.url)).map_or(database, |(name, _)| name)
    }

    fn is_same_place(&self, a: &Source, b: &Source) -> bool {
        match (self.is_file(a), self.is_file(b)) {
            (true, true) => canonical(&a.file_path()) == canonical(&b.file_path()),
            (false, false) => a.redacted() == b.redacted(),
            _ => false,
        }
    }

    /// A path, or a URL of an engine whose databases are files.
    fn is_file(&self, source: &Source) -> bool {
        source.scheme().is_none() || self.engines.of(source).is_ok_and(|engine| engine.capabilities().is_file)
    }
}
