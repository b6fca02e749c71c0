//! The use cases. `Copal` is cheap to make; it opens the repository when a use case needs it.

mod append;
mod backup;
mod discard;
mod doctor;
mod find;
mod histories;
mod identify;
mod keys;
mod leases;
mod list;
mod names;
mod newest;
mod open;
mod outlook;
mod point;
mod prune;
mod restore;
mod size;
mod snapshots;
mod status;
mod verify;

use std::collections::BTreeSet;
use std::sync::Arc;

use copal_core::{BackupId, CheckLevel, Keep, Objects, Secret};
use copal_repository::Repository;
use jiff::SignedDuration;
use tokio::sync::OnceCell;

pub use find::host_name;
pub use identify::Identified;
pub use restore::{PlanOptions, RestorePlace};
pub use snapshots::{GcOptions, RewindRequest, SnapOptions, snapshot_before_migration, try_snapshot_before_migration};

use crate::engines::Engines;
use crate::{CopalError, ErrorKind, Result, Settings};

/// A clock may be this much behind what was made by it or another one; more is a clock that was wrong.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// Which single backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackupChoice {
    /// The newest, with its journal.
    #[default]
    Latest,
    /// This one alone; the id of a segment means the state up to it.
    Id(BackupId),
    /// The newest that is not later, with its journal up to then. A time in whole seconds means the whole of that second.
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
    /// Back up this snapshot (by name or id) instead of the database as it is now.
    pub from_snapshot: Option<String>,
}

/// Options of `restore`.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Which backup.
    pub backup: BackupChoice,
    /// The target as a path or URL; `None`: the original place.
    pub to: Option<String>,
    /// Make it a snapshot of this name, instead of restoring it to a target.
    pub as_snapshot: Option<String>,
    /// Replace what is there.
    pub replace: bool,
    /// Only look whether it could be done.
    pub dry_run: bool,
    /// How thoroughly to check before the target takes its place.
    pub check: CheckLevel,
    /// Leave the database that is replaced beside the new one, where the engine can.
    pub keep_old: bool,
    /// Tables and schemas to restore into a database that stays; empty: the whole database.
    pub objects: Objects,
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
    /// Delete nothing if another backup than these would go: those that were shown to somebody.
    pub only: Option<BTreeSet<BackupId>>,
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

/// The use cases over one repository. Clones share the open repository.
#[derive(Clone)]
pub struct Copal {
    settings: Arc<Settings>,
    engines: Engines,
    repository: Arc<OnceCell<Repository>>,
}

impl Copal {
    /// Takes the settings; nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        let engines = Engines::new(&settings);
        Self { settings: Arc::new(settings), engines, repository: Arc::new(OnceCell::new()) }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

#[cfg(feature = "memory")]
impl Copal {
    /// Makes a store of this program known as `memory:NAME`, a database like any other, until the registration is dropped.
    ///
    /// Clones of these use cases know it too. Errors: `Exists` if a store has that name, `Usage` for what is no name.
    pub fn register(
        &self,
        name: &str,
        store: impl crate::memory::Store + 'static,
    ) -> Result<crate::memory::Registration> {
        Ok(self.engines.memory.register(name, store)?)
    }

    /// The engine of what lives in this program.
    pub fn memory(&self) -> &crate::memory::MemoryEngine {
        &self.engines.memory
    }
}

impl std::fmt::Debug for Copal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copal").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Runs work that blocks on a thread made for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| CopalError::new(ErrorKind::Failed, "the work stopped unexpectedly").because(e))
}

/// The same on a thread of its own, whose priority the work may lower for good.
async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let stopped =
        |e: &dyn std::error::Error| CopalError::new(ErrorKind::Failed, format!("the work stopped unexpectedly: {e}"));
    let run = move || {
        // Nobody listens any more if the caller was dropped.
        let _ = reply.send(work());
    };
    std::thread::Builder::new().name("copal-capture".into()).spawn(run).map_err(|e| stopped(&e))?;
    answer.await.map_err(|e| stopped(&e))
}
