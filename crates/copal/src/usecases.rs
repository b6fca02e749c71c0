//! The use cases. `Copal` is cheap to make; it opens the repository when a use case needs it.

use copal_core::{BackupId, CheckLevel, Context, Keep, Secret};

use crate::{
    BackupDetails, BackupSummary, CopalError, DatabaseListing, Diagnosis, ErrorKind, InitOutcome, KeyInfo, PruneOutcome,
    RestoreOutcome, Result, Settings, VerifyOutcome,
};

/// Which single backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackupChoice {
    /// The newest.
    #[default]
    Latest,
    /// This one.
    Id(BackupId),
    /// The newest that is not later.
    At(jiff::Timestamp),
}

/// Which backups to verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WhichBackups {
    /// The newest.
    #[default]
    Latest,
    /// This one.
    Id(BackupId),
    /// All of them.
    All,
}

/// Options of `init`.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// Encrypt; the passphrase comes from the settings.
    pub encrypt: bool,
    /// age recipients that can open the repository too (`age1…`).
    pub recovery_keys: Vec<String>,
}

/// Options of `backup`.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// The user's label.
    pub label: Option<String>,
    /// Keep it for ever.
    pub pin: bool,
    /// Accept that the name stands for another source from now on.
    pub adopt: bool,
}

/// Options of `restore`.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Which backup.
    pub backup: BackupChoice,
    /// The target as a path or URL; `None`: the original place.
    pub to: Option<String>,
    /// Replace what is there.
    pub replace: bool,
    /// Only look whether it could be done.
    pub dry_run: bool,
    /// How thoroughly to check before the target takes its place.
    pub check: CheckLevel,
}

/// Options of `verify`.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Which backups.
    pub backups: WhichBackups,
    /// Restore to a scratch place and check there.
    pub drill: bool,
}

/// Options of `prune`.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// Only say what would be deleted.
    pub dry_run: bool,
    /// Rules that replace the policy's for this run.
    pub keep: Option<Keep>,
    /// Apply rules of time although the clock is in doubt.
    pub trust_clock: bool,
}

/// What to do to the wraps of the repository's key.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// Add a passphrase.
    AddPassphrase(Secret),
    /// Add an age recipient.
    AddRecipient(String),
    /// Replace the wrap that opened the repository by this passphrase.
    ChangePassphrase(Secret),
    /// Remove the wrap with this id; the last one stays.
    Remove(String),
}

/// The use cases over one repository.
#[derive(Clone, Debug)]
pub struct Copal {
    settings: Settings,
}

fn unbuilt<T>() -> Result<T> {
    Err(CopalError::new(ErrorKind::Failed, "use case under construction"))
}

impl Copal {
    /// Takes the settings; nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Creates the repository.
    pub async fn init(&self, _options: InitOptions) -> Result<InitOutcome> {
        unbuilt()
    }

    /// Backs up one database: a configured name, a URL or a path.
    pub async fn backup(&self, _database: &str, _options: BackupOptions, _context: &Context) -> Result<BackupSummary> {
        unbuilt()
    }

    /// Lists the backups of one database or of all. Cheap: content is not read.
    pub async fn list(&self, _database: Option<&str>) -> Result<Vec<DatabaseListing>> {
        unbuilt()
    }

    /// Tells everything about one backup.
    pub async fn show(&self, _database: &str, _backup: BackupChoice) -> Result<BackupDetails> {
        unbuilt()
    }

    /// Restores one backup.
    pub async fn restore(&self, _database: &str, _options: RestoreOptions, _context: &Context) -> Result<RestoreOutcome> {
        unbuilt()
    }

    /// Reads backups back, all content, and drills them if asked to. Damage is in the outcome, not an error.
    pub async fn verify(
        &self,
        _database: Option<&str>,
        _options: VerifyOptions,
        _context: &Context,
    ) -> Result<Vec<VerifyOutcome>> {
        unbuilt()
    }

    /// Drops the backups of one database that no rule wants.
    pub async fn prune(&self, _database: &str, _options: PruneOptions, _context: &Context) -> Result<PruneOutcome> {
        unbuilt()
    }

    /// Keeps a backup for ever, or no longer.
    pub async fn set_pinned(&self, _database: &str, _backup: BackupChoice, _pinned: bool) -> Result<BackupSummary> {
        unbuilt()
    }

    /// Lists the wraps of the repository's key.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>> {
        unbuilt()
    }

    /// Adds, changes or removes a wrap.
    pub async fn change_keys(&self, _change: KeyChange) -> Result<Vec<KeyInfo>> {
        unbuilt()
    }

    /// Names of all databases: configured ones and those in the repository.
    pub async fn database_names(&self) -> Result<Vec<String>> {
        unbuilt()
    }

    /// Looks at everything that a backup of each configured database (or of those named) needs.
    pub async fn doctor(&self, _databases: &[String]) -> Result<Vec<Diagnosis>> {
        unbuilt()
    }
}
