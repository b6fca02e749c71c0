//! `copal.toml`: finding it, reading it strictly, and resolving it with the environment into [`Settings`].
//!
//! Owns the names of keys and variables. Reads files, never the process environment: that comes in as an
//! [`Environment`]. Opens no repository and no database. docs/configuration.md describes it for users.

mod daemon;
mod database;
mod document;
mod dotenv;
mod environment;
mod nearest;
mod notifier;
mod place;
mod repository;
mod resolve;
mod schedule;
mod starter;
mod substitute;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::FolderName;
use jiff::tz::TimeZone;

pub use copal_core::NotifyEvent;
pub use daemon::{DaemonConfiguration, LogFormat, TlsFiles};
pub use database::DatabaseConfiguration;
pub use environment::Environment;
pub use nearest::nearest;
pub use notifier::Notifier;
pub use repository::RepositoryConfiguration;
pub use resolve::{Overrides, Resolved, read_passphrase_file};
pub use schedule::check_schedule;
pub use starter::{PreparedStarter, Starter, StarterDatabase, StarterRepository, free_name};

use crate::schedule::Policy;
use crate::{Compression, CopalError, ErrorKind, PostgresSettings, Result, Settings};
use document::{Document, Table};

/// The name of a configuration file.
pub const FILE_NAME: &str = "copal.toml";

/// A configuration as it stands in a file, or the empty one.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The file; `None` if there is none.
    pub path: Option<PathBuf>,
    /// Where backups live.
    pub repository: RepositoryConfiguration,
    /// What is protected, by name.
    pub databases: BTreeMap<String, DatabaseConfiguration>,
    /// Who is told, by name.
    pub notifiers: BTreeMap<String, Notifier>,
    /// How content is compressed.
    pub compression: Option<Compression>,
    /// Packs uploaded at the same time.
    pub uploads: Option<usize>,
    /// Packs older than this are stored again piece by piece.
    pub repack_age: Option<Duration>,
    /// How long to wait for a database that another process holds.
    pub database_wait: Option<Duration>,
    /// What concerns DuckDB only: the deadline of a backup, and the program that checks restored databases.
    pub duckdb: (Option<Duration>, Option<PathBuf>),
    /// What concerns PostgreSQL only, as far as it is said.
    pub postgres: Option<PostgresSettings>,
    /// A lease unchanged for this long may be taken over.
    pub lease_ttl: Option<Duration>,
    /// Time zone of schedules and of retention periods.
    pub timezone: Option<TimeZone>,
    /// How the daemon listens, runs and stops.
    pub daemon: DaemonConfiguration,
}

const KEYS: [&str; 12] = [
    "repository",
    "databases",
    "notify",
    "compression",
    "uploads",
    "repack_age",
    "database_wait",
    "duckdb",
    "postgres",
    "lease_ttl",
    "timezone",
    "daemon",
];

impl Configuration {
    /// Reads `explicit`, else the file that `COPAL_CONFIG` names, else the first of `./copal.toml`,
    /// `$XDG_CONFIG_HOME/copal/copal.toml` and `/etc/copal/copal.toml` that exists, else nothing.
    pub fn load(explicit: Option<&Path>, environment: &Environment) -> Result<Self> {
        let named = explicit.map(Path::to_owned).or_else(|| environment.get("COPAL_CONFIG").map(PathBuf::from));
        if let Some(path) = named {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            return Self::read(&path, &text, environment);
        }
        let user = Self::user_file(environment);
        let places = [Some(PathBuf::from(FILE_NAME)), user, Some(Path::new("/etc/copal").join(FILE_NAME))];
        for path in places.into_iter().flatten() {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::read(&path, &text, environment),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(unreadable(&path, error)),
            }
        }
        Ok(Self::default())
    }

    /// The file that is found wherever this user is: `$XDG_CONFIG_HOME/copal/copal.toml`.
    pub fn user_file(environment: &Environment) -> Option<PathBuf> {
        environment.xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("copal").join(FILE_NAME))
    }

    /// Reads the text of a configuration file that is at `path`.
    pub fn read(path: &Path, text: &str, environment: &Environment) -> Result<Self> {
        let folder = std::path::absolute(path).ok().and_then(|path| Some(path.parent()?.to_owned()));
        let base = place::Base { folder: folder.unwrap_or_default(), home: environment.home() };
        let document = Document::new(path, text, environment);
        let root = document.parse()?;
        let top = Table::whole(&document, &root);
        top.only(&KEYS)?;
        let notifiers = notifier::read_all(&top, &base)?;
        Ok(Self {
            path: Some(path.to_owned()),
            repository: RepositoryConfiguration::read(&top, &base)?,
            databases: read_databases(&top, &base, &notifiers)?,
            notifiers,
            compression: read_compression(&top)?,
            uploads: top.number("uploads", 1..=64)?.and_then(|number| usize::try_from(number).ok()),
            repack_age: top.duration("repack_age")?,
            database_wait: top.duration("database_wait")?,
            duckdb: read_duckdb(&top, &base)?,
            postgres: read_postgres(&top, &base)?,
            lease_ttl: read_lease_ttl(&top)?,
            timezone: read_timezone(&top)?,
            daemon: DaemonConfiguration::read(&top, &base)?,
        })
    }

    /// What the planner goes by, for each database; `zone` is for those without a zone of their own.
    ///
    /// Errors: none for a configuration that was read.
    pub fn policies(&self, zone: &TimeZone) -> Result<BTreeMap<String, Policy>> {
        let zone = self.timezone.as_ref().unwrap_or(zone);
        self.databases.iter().map(|(name, database)| Ok((name.clone(), database.policy(zone)?))).collect()
    }

    /// The configured databases as the use cases want them.
    fn apply(&self, settings: &mut Settings) {
        settings.databases =
            self.databases.iter().map(|(name, database)| (name.clone(), database.settings.clone())).collect();
        settings.compression = self.compression.unwrap_or(settings.compression);
        settings.uploads = self.uploads.unwrap_or(settings.uploads);
        settings.database_wait = self.database_wait.unwrap_or(settings.database_wait);
        settings.duckdb.deadline = self.duckdb.0.unwrap_or(settings.duckdb.deadline);
        settings.duckdb.program = self.duckdb.1.clone();
        settings.postgres = self.postgres.clone().unwrap_or_default();
        settings.lease_ttl = self.lease_ttl.unwrap_or(settings.lease_ttl);
        settings.repack_age = self.repack_age.or(settings.repack_age);
        if let Some(zone) = &self.timezone {
            settings.timezone = zone.clone();
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> CopalError {
    let configuration = |message| CopalError::new(ErrorKind::Configuration, message);
    match error.kind() {
        io::ErrorKind::NotFound => configuration(format!("there is no configuration file {}", path.display())),
        _ => configuration(format!("cannot read the configuration file {}", path.display())).because(error),
    }
}

fn read_databases(
    top: &Table<'_>,
    base: &place::Base,
    notifiers: &BTreeMap<String, Notifier>,
) -> Result<BTreeMap<String, DatabaseConfiguration>> {
    let mut databases = BTreeMap::new();
    let mut folders: BTreeMap<FolderName, String> = BTreeMap::new();
    let Some(tables) = top.table("databases")? else { return Ok(databases) };
    for (name, table) in tables.tables()? {
        let folder = FolderName::nearest(&name, 64);
        if let Some(other) = folders.insert(folder.clone(), name.clone()) {
            let message = format!("the databases \"{other}\" and \"{name}\" would share the folder \"{folder}\"");
            return Err(tables.error(table.offset, message).with_hint("give one of them another name"));
        }
        databases.insert(name, DatabaseConfiguration::read(&table, base, notifiers)?);
    }
    Ok(databases)
}

fn read_duckdb(top: &Table<'_>, base: &place::Base) -> Result<(Option<Duration>, Option<PathBuf>)> {
    let Some(table) = top.table("duckdb")? else { return Ok((None, None)) };
    table.only(&["deadline", "program"])?;
    let program = table.text("program")?.map(|program| match program.value.contains('/') {
        true => base.path(Path::new(&program.value)),
        // A bare name is looked for on PATH.
        false => PathBuf::from(program.value),
    });
    Ok((table.duration("deadline")?, program))
}

fn read_postgres(top: &Table<'_>, base: &place::Base) -> Result<Option<PostgresSettings>> {
    let Some(table) = top.table("postgres")? else { return Ok(None) };
    table.only(&["bin", "jobs", "count", "lock_wait", "role_passwords", "temporary"])?;
    let folder =
        |key| -> Result<Option<PathBuf>> { Ok(table.text(key)?.map(|folder| base.path(Path::new(&folder.value)))) };
    let default = PostgresSettings::default();
    Ok(Some(PostgresSettings {
        bin: folder("bin")?,
        jobs: table.number("jobs", 1..=64)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(default.jobs),
        count: table.duration("count")?.unwrap_or(default.count),
        lock_wait: table.duration("lock_wait")?.unwrap_or(default.lock_wait),
        role_passwords: table.flag("role_passwords")?.unwrap_or(default.role_passwords),
        temporary: folder("temporary")?,
    }))
}

fn read_compression(top: &Table<'_>) -> Result<Option<Compression>> {
    if let Ok(Some(text)) = top.text("compression") {
        return match text.value.as_str() {
            "auto" => Ok(Some(Compression::Suitable)),
            "none" => Ok(Some(Compression::None)),
            _ => Err(top.error(text.offset, "\"compression\" must be \"auto\", a level from 1 to 19 or \"none\"")),
        };
    }
    Ok(top.number("compression", 1..=19)?.and_then(|level| i32::try_from(level).ok()).map(Compression::Level))
}

fn read_lease_ttl(top: &Table<'_>) -> Result<Option<Duration>> {
    let ttl = top.duration("lease_ttl")?;
    match (ttl, top.text("lease_ttl")?) {
        (Some(ttl), Some(text)) if ttl < Duration::from_secs(5) => {
            Err(top.error(text.offset, "\"lease_ttl\" must be at least 5s"))
        }
        _ => Ok(ttl),
    }
}

fn read_timezone(table: &Table<'_>) -> Result<Option<TimeZone>> {
    let Some(name) = table.text("timezone")? else { return Ok(None) };
    TimeZone::get(&name.value).map(Some).map_err(|_| {
        let error = table.error(name.offset, format!("\"{}\" is no time zone", name.value));
        error.with_hint("write a name of the IANA database, for example \"Europe/Berlin\" or \"UTC\"")
    })
}
