//! One database, one name: a configured database is the same whether it is called by its name, its path or its URL.

use copal_core::{FolderName, Source};

use super::find::{canonical, short_name};
use super::{Copal, blocking};
use crate::engines::given_name;
use crate::{DatabaseSettings, Result};

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

    /// The name under which a database is configured that is given by name, path or URL; anything else stays as it is.
    pub fn configured_name<'a>(&'a self, database: &'a str) -> &'a str {
        self.named(database)
    }

    /// The database whose place this is, as the configuration calls it: `preferred` if it may be that one; `None` if it knows none.
    /// Links are followed, which may take long.
    pub(super) fn configured_at(&self, place: &Source, preferred: &str) -> Option<String> {
        let configured = &self.settings.databases;
        let is_there = |source: Source| self.is_same_place(&source, place);
        let is_configured_there = |settings: &DatabaseSettings| Source::parse(&settings.url).is_ok_and(is_there);
        let is_preferred =
            configured.get(preferred).is_some_and(is_configured_there) || self.member(preferred).is_some_and(is_there);
        if is_preferred {
            return Some(preferred.to_owned());
        }
        if let Some((name, _)) = configured.iter().find(|(_, settings)| is_configured_there(settings)) {
            return Some(name.clone());
        }
        if self.is_file(place) {
            return None;
        }
        // Or it is one of a server that is configured as a whole.
        let member = short_name(place);
        let mut of_servers = configured.keys().map(|server| format!("{server}.{member}"));
        of_servers.find(|name| self.member(name).is_some_and(is_there))
    }

    /// The URL or path of a database, as it is configured or as it was given.
    pub(super) fn url_of<'a>(&'a self, database: &'a str) -> &'a str {
        let named = self.named(database);
        self.settings.databases.get(named).map_or(named, |configured| configured.url.as_str())
    }

    /// The databases that are meant: those of a whole server (`postgres://host/*`), each by a name of its own, or the one itself.
    pub async fn members(&self, database: &str) -> Result<Vec<String>> {
        let (named, text) = (self.named(database), self.url_of(database));
        let one = || Ok(vec![database.to_owned()]);
        let Some(source) = whole_server(text) else { return one() };
        let Ok(engine) = self.engines.of(&source) else { return one() };
        let asked = source.clone();
        let Some(members) = blocking(move || engine.members(&asked)).await?? else { return one() };
        let is_configured = self.settings.databases.contains_key(named);
        let name = |member: copal_core::Member| match is_configured {
            true => format!("{named}.{}", member.name),
            // With its password, which only the text that was given has.
            false => source.member(&member.name).map_or(member.name, |member| member.reveal()),
        };
        Ok(members.into_iter().map(name).collect())
    }

    /// The names of the databases on the server that a URL leads to; `None` if its databases are files.
    pub async fn databases_on_server(&self, url: &str) -> Result<Option<Vec<String>>> {
        let Some(server) = Source::parse(url).ok().and_then(|source| source.whole_server()) else { return Ok(None) };
        let engine = self.engines.of(&server)?;
        let members = blocking(move || engine.members(&server)).await??;
        Ok(members.map(|members| members.into_iter().map(|member| member.name).collect()))
    }

    /// Whether a configured name stands for all databases of a server.
    pub fn is_whole_server(&self, name: &str) -> bool {
        self.settings.databases.get(name).is_some_and(|settings| whole_server(&settings.url).is_some())
    }

    /// The source of `<name>.<database>`, where `<name>` is configured as a whole server.
    pub(super) fn member(&self, database: &str) -> Option<Source> {
        let (parent, member) = self.parent(database)?;
        Source::parse(&parent.url).ok()?.member(member)
    }

    /// The settings that a database goes by: its own, or those of the server that it is on.
    pub(super) fn policy(&self, database: &str) -> Option<&DatabaseSettings> {
        let named = self.named(database);
        self.settings.databases.get(named).or_else(|| self.parent(named).map(|(parent, _)| parent))
    }

    /// The name of the server, configured as a whole, of a database `<server>.<database>`, and the database; the longest name
    /// counts. `None` for a name that is configured itself.
    pub fn server_of<'a>(&self, database: &'a str) -> Option<(&'a str, &'a str)> {
        if self.settings.databases.contains_key(database) {
            return None;
        }
        let dots = database.char_indices().rev().filter(|(_, c)| *c == '.');
        dots.map(|(at, _)| (database.get(..at).unwrap_or_default(), database.get(at + 1..).unwrap_or_default()))
            .filter(|(_, member)| !member.is_empty())
            .find(|(server, _)| self.is_whole_server(server))
    }

    /// The settings of that server, and the database.
    pub(super) fn parent<'a>(&self, database: &'a str) -> Option<(&DatabaseSettings, &'a str)> {
        let (server, member) = self.server_of(database)?;
        Some((self.settings.databases.get(server)?, member))
    }

    pub(super) fn is_same_place(&self, a: &Source, b: &Source) -> bool {
        match (self.is_file(a), self.is_file(b)) {
            (true, true) => canonical(&a.file_path()) == canonical(&b.file_path()),
            (false, false) => self.server_place(a) == self.server_place(b),
            _ => false,
        }
    }

    /// The place of a database on a server: one text for all spellings of its scheme, without secrets.
    pub(super) fn server_place(&self, source: &Source) -> String {
        if let Some(name) = given_name(source) {
            return format!("{}:{name}", source.scheme().unwrap_or_default());
        }
        let text = source.redacted();
        let scheme = self.engines.of(source).ok().and_then(|engine| engine.capabilities().schemes.first().copied());
        match (scheme, text.split_once(':')) {
            (Some(scheme), Some((_, rest))) => format!("{scheme}:{rest}"),
            _ => text,
        }
    }

    /// A path, or a URL of an engine whose databases are files.
    pub(super) fn is_file(&self, source: &Source) -> bool {
        source.scheme().is_none() || self.engines.of(source).is_ok_and(|engine| engine.capabilities().is_file)
    }
}

/// The source of a URL that stands for all databases of a server.
fn whole_server(url: &str) -> Option<Source> {
    Source::parse(url).ok().filter(|source| source.member("").is_some())
}

/// The folder of a database of a server: the name itself where that is one, else the nearest with six digits that tell
/// apart what would be the same.
pub(super) fn member_folder(name: &str) -> FolderName {
    name.parse().unwrap_or_else(|_| {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let nearest = FolderName::nearest(name, 57);
        format!("{nearest}-{}", hash.get(..6).unwrap_or_default()).parse().unwrap_or(nearest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_server_get_folders_of_their_own() {
        let names =
            ["s.shop", "s.Shop", "s.sh op", "s.sh-op", "s.\u{fc}", "s.-d", "s.a/b", &format!("s.{}", "x".repeat(63))];
        let folders: std::collections::BTreeSet<_> = names.iter().map(|name| member_folder(name)).collect();
        assert_eq!(folders.len(), names.len(), "{folders:?}");
        assert_eq!(member_folder("s.shop").to_string(), "s.shop");
    }

    #[test]
    fn a_database_belongs_to_a_whole_server_of_the_longest_name() {
        let configured = [
            ("s", "postgres://h/*"),
            ("s.eu", "postgres://eu/*"),
            ("s.own", "postgres://h/own"),
            ("file", "sqlite:file.db"),
        ];
        let database = |url: &str| DatabaseSettings { url: url.to_owned(), ..DatabaseSettings::default() };
        let databases = configured.map(|(name, url)| (name.to_owned(), database(url))).into();
        let copal = Copal::new(crate::Settings { databases, ..crate::Settings::new("/repository") });
        for (name, server) in [
            ("s.shop", Some(("s", "shop"))),
            ("s.a.b", Some(("s", "a.b"))),
            ("s.eu.shop", Some(("s.eu", "shop"))),
            ("s.own", None),
            ("s.own.x", Some(("s", "own.x"))),
            ("file.x", None),
            ("s.", None),
            ("s", None),
            ("other.shop", None),
        ] {
            assert_eq!(copal.server_of(name), server, "{name}");
        }
    }
}
