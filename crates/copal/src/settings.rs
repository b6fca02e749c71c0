//! What the use cases are told: resolved already, wherever it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use copal_core::{Keep, Secret};
use copal_storage::S3Options;

use crate::Result;

/// Asks somebody for a passphrase; the argument says what for.
pub type Asker = Arc<dyn Fn(&str) -> Result<Secret> + Send + Sync>;

/// Where a passphrase or identity comes from when one is needed.
#[derive(Clone, Default)]
pub enum PassphraseSource {
    /// There is none.
    #[default]
    None,
    /// It is known (environment, file, call).
    Known(Secret),
    /// It is asked for when needed; the argument says what for.
    Ask(Asker),
}

impl PassphraseSource {
    /// Whether a passphrase was given beforehand, so that an unencrypted repository would be a surprise.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

impl fmt::Debug for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Known(_) => "Known(***)",
            Self::Ask(_) => "Ask",
        })
    }
}

/// One configured database.
#[derive(Clone, Debug, Default)]
pub struct DatabaseSettings {
    /// Its URL or path, as written.
    pub url: String,
    /// The schedule, as written.
    pub schedule: Option<String>,
    /// The age that its newest backup should not exceed.
    pub max_age: Option<Duration>,
    /// Its retention.
    pub keep: Keep,
    /// When it is drilled, as written.
    pub drill: Option<String>,
    /// Keep a spare copy of the newest snapshot ready.
    pub spare: bool,
    /// Its own time zone.
    pub timezone: Option<jiff::tz::TimeZone>,
    /// Its regular runs start up to this much later than the schedule says.
    pub jitter: Duration,
}

/// Settings of the DuckDB engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuckDbSettings {
    /// How long a backup tries to read a database that is written to; time for its size comes on top.
    pub deadline: Duration,
    /// The `duckdb` program, or a Python with the module, that checks restored databases; `None`: one on `PATH`.
    pub program: Option<PathBuf>,
}

impl Default for DuckDbSettings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), program: None }
    }
}

/// Settings of the PostgreSQL engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The folder of the client programs; `None`: on `PATH` and where packages put them.
    pub bin: Option<PathBuf>,
    /// Connections that dump at the same time, through a temporary folder if there are several.
    pub jobs: usize,
    /// How long rows are counted; tables that are left are estimated.
    pub count: Duration,
    /// How long to wait for a lock that another session holds.
    pub lock_wait: Duration,
    /// Whether the hashed passwords of roles are backed up.
    pub role_passwords: bool,
    /// Where temporary files go; `None`: where the system puts them.
    pub temporary: Option<PathBuf>,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            bin: None,
            jobs: 1,
            count: Duration::from_secs(10),
            lock_wait: Duration::from_secs(30),
            role_passwords: false,
            temporary: None,
        }
    }
}

/// Everything a `Copal` needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The repository's URL or path.
    pub repository: String,
    /// Whether `repository` is the automatic local default, created on first use.
    pub repository_is_default: bool,
    /// Access to S3-compatible stores; empty values come from the environment.
    pub s3: S3Options,
    /// The passphrase.
    pub passphrase: PassphraseSource,
    /// An age identity (recovery key) to use instead of a passphrase.
    pub identity: Option<Secret>,
    /// The configured databases by name.
    pub databases: BTreeMap<String, DatabaseSettings>,
    /// Where caches and local memory live, for example `~/.local/state/copal`; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// How frames are compressed.
    pub compression: Compression,
    /// Packs uploaded at the same time.
    pub uploads: usize,
    /// How long to wait for a database that another process holds.
    pub database_wait: Duration,
    /// What concerns DuckDB only.
    pub duckdb: DuckDbSettings,
    /// What concerns PostgreSQL only.
    pub postgres: PostgresSettings,
    /// A lease unchanged for this long may be taken over.
    pub lease_ttl: Duration,
    /// Packs older than this are stored again piece by piece; `None`: never.
    pub repack_age: Option<Duration>,
    /// Time zone of retention periods, and of schedules of databases without one of their own.
    pub timezone: jiff::tz::TimeZone,
}

/// How content is compressed before it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As suits the kind of database: zstd level 3 for SQLite, 1 for DuckDB, which compresses its columns itself.
    #[default]
    Suitable,
    /// This zstd level, 1 to 19.
    Level(i32),
    /// Not at all.
    None,
}

impl Settings {
    /// Settings for a repository, everything else by default.
    pub fn new(repository: impl Into<String>) -> Self {
        Self {
            repository: repository.into(),
            repository_is_default: false,
            s3: S3Options::default(),
            passphrase: PassphraseSource::None,
            identity: None,
            databases: BTreeMap::new(),
            state: None,
            compression: Compression::default(),
            uploads: 3,
            database_wait: Duration::from_secs(30),
            duckdb: DuckDbSettings::default(),
            postgres: PostgresSettings::default(),
            lease_ttl: Duration::from_secs(60),
            repack_age: None,
            timezone: jiff::tz::TimeZone::system(),
        }
    }
}
