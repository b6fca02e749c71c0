//! Operations exclude each other without trusting clocks; docs/format.md, "Leases".
//!
//! One lease a database. Whoever gives up on a holder first makes that holder's commit impossible by a tombstone in the
//! place of its commit object. So being right about who is alive is a matter of politeness, never of safety.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use copal_core::{Context, FolderName};
use copal_storage::lease::{self, Holder, Lease, Observation, Renewal, Waited};
use copal_storage::{Clock, Committed, ObjectPath, Storage, StorageErrorKind};

use crate::error::{RepositoryError, RepositoryErrorKind, Result, is_absent};
use crate::layout;

/// An operation that began longer ago than this, by any clock, no longer commits.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A running operation: the holder of its database's lease.
#[derive(Debug)]
pub(crate) struct Operation {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    database: FolderName,
    commit: ObjectPath,
    began_wall: jiff::Timestamp,
    began_boot: Duration,
    renewal: Renewal,
    is_committed: AtomicBool,
    /// Whether a request that got no answer may still create the commit object.
    is_unsure: AtomicBool,
}

/// What an operation needs from its repository.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ttl: Duration,
}

impl Operation {
    /// Takes the lease of a database for an operation that `commit` will complete. Errors: `Busy`.
    pub(crate) async fn begin(
        ground: &Ground,
        database: &FolderName,
        what: &str,
        commit: ObjectPath,
        context: &Context,
    ) -> Result<Self> {
        let path = layout::lease(database);
        let mut observed = lease::observe(&*ground.storage, &path).await?;
        if !observed.is_free() {
            observed = give_up_on_holder(ground, database, &path, observed, context).await?;
        }
        context.cancel.check()?;
        let began_wall = ground.clock.wall();
        let began_boot = ground.clock.boot();
        let wanted = Lease::held(format!("{what} of {database}"), &commit, Holder::current());
        let held = match lease::acquire(&ground.storage, &path, &observed, wanted).await {
            Ok(held) => held,
            Err(e) if e.kind() == StorageErrorKind::Conflict => return Err(busy(database, None)),
            Err(e) => return Err(e.into()),
        };
        let renewal = Renewal::start(held, began_boot, ground.ttl, Arc::clone(&ground.clock));
        Ok(Self {
            storage: Arc::clone(&ground.storage),
            clock: Arc::clone(&ground.clock),
            database: database.clone(),
            commit,
            began_wall,
            began_boot,
            renewal,
            is_committed: AtomicBool::new(false),
            is_unsure: AtomicBool::new(false),
        })
    }

    /// Fails once the lease is lost; called often while content is written.
    pub(crate) fn check(&self) -> Result<()> {
        if self.renewal.lost() { Err(self.lost()) } else { Ok(()) }
    }

    /// Fails if somebody gave up on this operation, by the tombstone that is put before anything else then. Needs no
    /// clock: what was written before this answers, whoever takes over later will see.
    pub(crate) async fn require_not_cancelled(&self) -> Result<()> {
        match self.storage.head(&self.commit).await {
            Ok(_) => Err(self.lost()),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// What this operation misses may have been removed by whoever took over: then that is no damage.
    pub(crate) async fn explain(&self, error: RepositoryError) -> RepositoryError {
        let misses = matches!(error.kind(), RepositoryErrorKind::NotFound | RepositoryErrorKind::Pruned);
        if !misses && !error.is_damage() {
            return error;
        }
        match self.storage.get(&self.commit).await {
            Ok(found) if found.is_empty() => self.lost().because(error),
            _ => error,
        }
    }

    fn is_too_old(&self) -> bool {
        let wall = self.clock.wall().duration_since(self.began_wall);
        let by_wall = Duration::try_from(wall).unwrap_or_default();
        by_wall.max(self.clock.boot().saturating_sub(self.began_boot)) > MAX_AGE
    }

    /// Creates the commit object: from now on the operation counts. Errors: `Busy` if somebody gave up on it meanwhile.
    pub(crate) async fn commit(&self, bytes: Bytes) -> Result<()> {
        self.check()?;
        if self.is_too_old() {
            let message =
                format!("the operation on {} took more than a day and must not commit any more", self.database);
            return Err(RepositoryError::new(RepositoryErrorKind::Busy, message).hint("start it again"));
        }
        self.is_unsure.store(true, Ordering::SeqCst);
        let tried = copal_storage::commit(&*self.storage, &self.commit, bytes.clone(), &|| self.is_too_old()).await;
        let result = match tried {
            Ok(Committed::Created | Committed::AlreadyThere) => Ok(()),
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => Err(self.lost().because(e)),
            Err(e) if self.is_there_after_all(&bytes).await? => {
                tracing::debug!(error = %e, "committed after all");
                Ok(())
            }
            Err(e) => Err(e.into()),
        };
        self.is_committed.store(result.is_ok(), Ordering::SeqCst);
        self.is_unsure.store(false, Ordering::SeqCst);
        result
    }

    /// Makes sure that no request which is still under way commits when others already rely on its failure: puts the
    /// tombstone itself. Whether the commit object was there before; an error leaves that open.
    async fn is_there_after_all(&self, bytes: &Bytes) -> Result<bool> {
        match self.storage.create(&self.commit, Bytes::new()).await {
            Ok(_) => Ok(false),
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => {
                Ok(self.storage.get(&self.commit).await? == *bytes)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn lost(&self) -> RepositoryError {
        let rest = match self.is_committed.load(Ordering::SeqCst) {
            true => "it finishes what was planned",
            false => "nothing was committed",
        };
        let message =
            format!("another process took over {} because this one stood still for too long; {rest}", self.database);
        let mut error = RepositoryError::new(RepositoryErrorKind::Busy, message).hint("start it again");
        error.database = Some(self.database.clone());
        error
    }

    /// Gives the lease back. A failure only makes the next operation wait, so it is not an error.
    pub(crate) async fn release(self) {
        if self.is_unsure.load(Ordering::SeqCst) {
            // Whoever gives up on this lease first makes the late commit impossible; a free one would not tell.
            let database = &self.database;
            tracing::warn!(%database, "nobody knows whether it was committed: the lease is left to run out");
            return;
        }
        let released = async { self.renewal.stop().await?.release().await };
        if let Err(error) = released.await {
            tracing::warn!(%error, database = %self.database, "the lease could not be released");
        }
    }
}

/// Waits until the holder has certainly been given its chance, then makes its commit impossible.
async fn give_up_on_holder(
    ground: &Ground,
    database: &FolderName,
    path: &ObjectPath,
    observed: Observation,
    context: &Context,
) -> Result<Observation> {
    let is_dead = observed.holder().is_some_and(|lease| lease.holder.is_provably_dead());
    let stale = if is_dead {
        context.note(format!("the last operation on {database} was killed; taking over"));
        observed
    } else {
        let seconds = ground.ttl.as_secs();
        context
            .note(format!("somebody else works on {database}; waiting up to {seconds} s to see whether it still does"));
        let storage = &*ground.storage;
        let waiting = lease::wait_unchanged(storage, path, &observed, ground.ttl, &*ground.clock);
        match or_cancelled(waiting, context).await?? {
            Waited::Changed(now) if now.is_free() => return Ok(now),
            Waited::Changed(now) => return Err(busy(database, now.holder())),
            Waited::Unchanged(stale) => stale,
        }
    };
    if let Some(lease) = stale.holder() {
        let commit = lease.commit_path().filter(|p| is_commit_of(database, p));
        let commit =
            commit.ok_or_else(|| RepositoryError::damage(path, "names a commit object outside of its database"))?;
        match ground.storage.create(&commit, Bytes::new()).await {
            Ok(_) => {}
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
    } else {
        let error = RepositoryError::damage(path, "is not a lease, so nobody can tell which operation it stands for");
        return Err(error.hint("if no copal works on this database anywhere, delete this object by hand"));
    }
    Ok(stale)
}

/// Waits for a future, or for the cancellation of the context.
pub(crate) async fn or_cancelled<T>(future: impl Future<Output = T>, context: &Context) -> Result<T> {
    let cancelled = async {
        while !context.cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        biased;
        value = future => Ok(value),
        () = cancelled => Err(copal_core::Cancelled.into()),
    }
}

/// A lease is not authenticated; its commit object must at least be one that a tombstone cannot hurt elsewhere.
fn is_commit_of(database: &FolderName, path: &ObjectPath) -> bool {
    let parent = path.as_str().rsplit_once('/').map(|(parent, _)| parent);
    let named_well = path.file_name().parse::<copal_core::BackupId>().is_ok();
    let places = [layout::backups(database), layout::journal(database), layout::plans(database)];
    named_well && places.iter().any(|place| Some(place.as_str()) == parent)
}

fn busy(database: &FolderName, holder: Option<&Lease>) -> RepositoryError {
    let who = holder.map(|l| format!(" ({} by process {} on {})", l.operation, l.holder.pid, l.holder.host));
    let message = format!("{database} is busy: another operation is under way{}", who.unwrap_or_default());
    let mut error = RepositoryError::new(RepositoryErrorKind::Busy, message).hint("try again when it has finished");
    error.database = Some(database.clone());
    error
}
