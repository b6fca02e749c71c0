//! Keeping one database safe in the background of a program.
//!
//! A [`BackupManager`] owns when something is saved and what: a full backup, or a segment of the journal where the engine has one. It
//! saves by the use cases, one thing at a time, and holds nothing while it waits. What it leaves out: several databases and times of
//! the day, which are the [`Scheduler`](crate::Scheduler)'s.

mod builder;
mod pace;
mod saver;
mod shared;
mod status;
mod task;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copal_core::Context;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

pub use builder::BackupManagerBuilder;
pub use saver::Saved;
pub use shared::ChangeNotifier;
pub use status::{ManagerFailure, ManagerStatus};

use crate::{
    Copal, CopalError, DatabaseListing, ErrorKind, RestoreOptions, RestoreOutcome, Result, VerifyOptions, VerifyOutcome,
};
use saver::Want;
use shared::Shared;

/// Keeps one database safe in the background: at an interval, after changes, and when asked to.
///
/// - **At the interval**: the first backup begins when the manager starts, the next ones every `backup_interval`.
/// - **After changes**: [`notify_change`](Self::notify_change) brings the next one forward, but not nearer than `min_backup_interval` to
///   the one before. No notification is lost: what comes while something is being saved, or could not be saved, is saved later.
/// - **Incremental**: where the engine has a journal (`memory`), what happened since is appended to it, and a full backup is made
///   after `max_deltas_before_full` segments. If nothing happened, nothing is written. Backups of other engines share all unchanged pages anyway, so each is a
///   full one.
/// - **Failures** are told to `on_backup_failure` and tried again at the interval. That somebody else works on the database is one only after
///   `busy_wait`. A journal that cannot be continued is no failure: a full backup is made at once.
///
/// ```
/// use std::time::Duration;
///
/// use copal::memory::{MemoryStore, Table};
/// use copal::{BackupManager, Keep, Saved};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let copal = copal::Copal::new(copal::Settings::new(folder.path().join("repository").display().to_string()));
/// # copal.init(copal::InitOptions::default()).await?;
/// let store = MemoryStore::new();
/// let users: Table<u64, String> = store.table("users")?;
/// let registered = copal.register("app", store.clone())?;
/// let manager = BackupManager::builder(copal, registered.source())
///     .backup_interval(Duration::from_secs(300))
///     .incremental(true)
///     .keep(Keep { last: Some(10), ..Keep::default() })
///     .on_backup_failure(|error, failures| eprintln!("{failures} in a row: {error}"))
///     .build();
/// manager.start()?;
/// users.insert(1, "Ada".into())?;
/// manager.notify_change();
/// assert!(matches!(manager.backup_full().await?, Saved::Full(_)));
/// users.insert(2, "Grace".into())?;
/// manager.backup_delta().await?; // A delta, or nothing: the work in the background may have been faster.
/// manager.stop().await?;
/// # Ok(()) }
/// ```
///
/// Dropping the manager ends its task; what is being saved then is cancelled and does not exist. [`stop`](Self::stop) waits for it, and saves what changed.
pub struct BackupManager {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// The work in the background, from a start to the stop that ends it.
struct Running {
    ended: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl BackupManager {
    /// Describes a manager of `database`: a configured name, a URL or a path.
    pub fn builder(copal: Copal, database: impl Into<String>) -> BackupManagerBuilder {
        BackupManagerBuilder::new(copal, database.into())
    }

    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, running: Mutex::new(None) }
    }

    /// Starts to work in the background, and saves at once; nothing if it does already. Errors: `Usage` outside of a tokio runtime.
    pub fn start(&self) -> Result<()> {
        let runtime = Handle::try_current().map_err(|e| {
            CopalError::new(ErrorKind::Usage, "a backup manager is started inside a tokio runtime").because(e)
        })?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_none_or(|running| running.task.is_finished()) {
            self.shared.begin();
            let ended = watch::Sender::new(false);
            let task = runtime.spawn(task::run(Arc::clone(&self.shared), ended.subscribe()));
            *running = Some(Running { ended, task });
        }
        Ok(())
    }

    /// Ends the work in the background: waits for what is being saved, and makes a last backup if something changed since.
    ///
    /// Whether something did is known from the journal or from `notify_change`; of a database without a journal about whose changes nobody ever
    /// told, it is assumed. Who calls it while another call is at work waits for that too; the work goes on if this future is dropped. Errors:
    /// those of the last backup, which was told to `on_backup_failure` too, and which another call tries again.
    pub async fn stop(&self) -> Result<()> {
        let task = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.end();
            running.take().map(|running| {
                running.ended.send_replace(true);
                running.task
            })
        };
        let shared = Arc::clone(&self.shared);
        joined(tokio::spawn(async move { shared.finish(task).await }).await)
    }

    /// Tells that something worth saving has changed. Never blocks; from any thread.
    pub fn notify_change(&self) {
        self.shared.change();
    }

    /// Something small to give to whoever tells of changes; it may outlive the manager.
    pub fn notifier(&self) -> ChangeNotifier {
        ChangeNotifier::new(&self.shared)
    }

    /// Saves now: what happened since, or a full backup if it is time for one. Works without `start` too.
    pub async fn backup_now(&self) -> Result<Saved> {
        self.manual(Want::Regular).await
    }

    /// Makes a full backup now.
    pub async fn backup_full(&self) -> Result<Saved> {
        self.manual(Want::Full).await
    }

    /// Saves now what happened since, however many segments there are; a full backup if that cannot be.
    pub async fn backup_delta(&self) -> Result<Saved> {
        self.manual(Want::Delta).await
    }

    /// Failed tries since something was saved.
    pub fn consecutive_failures(&self) -> u32 {
        self.status().consecutive_failures
    }

    /// Segments of the journal since the full backup.
    pub fn deltas_since_full(&self) -> u32 {
        self.status().deltas_since_full
    }

    /// How long writers were held up by the newest view of the database, where the engine knows it.
    pub fn last_hold(&self) -> Option<Duration> {
        self.status().last_hold
    }

    /// How things stand.
    pub fn status(&self) -> ManagerStatus {
        self.shared.status()
    }

    /// The database, as it was given: with its password, if that was in it.
    pub fn database(&self) -> &str {
        &self.shared.database
    }

    /// The backups of the database and their journals. Errors: as [`Copal::list`]; `NotFound` before the first backup.
    pub async fn list(&self) -> Result<DatabaseListing> {
        let listings = self.shared.copal.list(Some(&self.shared.database)).await?;
        let missing = || CopalError::new(ErrorKind::NotFound, format!("{} has no backups yet", self.shared.shown));
        listings.into_iter().next().ok_or_else(missing)
    }

    /// Restores the database, as [`Copal::restore`] does. What is being saved meanwhile is saved first.
    pub async fn restore(&self, options: RestoreOptions, context: &Context) -> Result<RestoreOutcome> {
        let _nothing_else = self.shared.saver.lock().await;
        let restored = self.shared.copal.restore(&self.shared.database, options, context).await?;
        self.shared.change();
        Ok(restored)
    }

    /// Reads backups back, as [`Copal::verify`] does.
    pub async fn verify(&self, options: VerifyOptions, context: &Context) -> Result<Vec<VerifyOutcome>> {
        self.shared.copal.verify(Some(&self.shared.database), options, context).await
    }

    /// Saves in a task of its own, so that it is not dropped half way with the caller's.
    async fn manual(&self, want: Want) -> Result<Saved> {
        let shared = Arc::clone(&self.shared);
        joined(tokio::spawn(async move { shared.save(want).await }).await)
    }
}

/// The answer of a task that nobody aborts.
fn joined<T>(answer: std::result::Result<Result<T>, JoinError>) -> Result<T> {
    answer.unwrap_or_else(|e| {
        Err(CopalError::new(ErrorKind::Interrupted, "the runtime ended while something was being saved").because(e))
    })
}

impl Drop for BackupManager {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl fmt::Debug for BackupManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupManager").field("database", &self.shared.shown).finish_non_exhaustive()
    }
}
