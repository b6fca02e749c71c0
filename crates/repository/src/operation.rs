//! Operations exclude each other without trusting clocks; docs/format.md, "Leases".
//!
//! One lease a database. Whoever gives up on a holder first makes that holder's commit impossible by a tombstone in the
//! place of its commit object. So being right about who is alive is a matter of politeness, never of safety.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copal_core::{Context, FolderName};
use copal_storage::lease::{self, Holder, Lease, Observation, Renewal, Waited};
use copal_storage::{Clock, Committed, ObjectPath, Storage, StorageErrorKind};

use crate::error::{RepositoryError, RepositoryErrorKind, Result};
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
        })
    }

    /// Fails once the lease is lost; called often while content is written.
    pub(crate) fn check(&self) -> Result<()> {
        if self.renewal.lost() { Err(lost(&self.database)) } else { Ok(()) }
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
        match copal_storage::commit(&*self.storage, &self.commit, bytes, &|| self.is_too_old()).await {
            Ok(Committed::Created | Committed::AlreadyThere) => Ok(()),
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => Err(lost(&self.database).because(e)),
            Err(e) => Err(e.into()),
        }
    }

    /// Gives the lease back. A failure only makes the next operation wait, so it is not an error.
    pub(crate) async fn release(self) {
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
    let places = [layout::backups(database), layout::plans(database)];
    named_well && places.iter().any(|place| Some(place.as_str()) == parent)
}

fn busy(database: &FolderName, holder: Option<&Lease>) -> RepositoryError {
    let who = holder.map(|l| format!(" ({} by process {} on {})", l.operation, l.holder.pid, l.holder.host));
    let message = format!("{database} is busy: another operation is under way{}", who.unwrap_or_default());
    let mut error = RepositoryError::new(RepositoryErrorKind::Busy, message).hint("try again when it has finished");
    error.database = Some(database.clone());
    error
}

fn lost(database: &FolderName) -> RepositoryError {
    let message = format!(
        "another process took over {database} because this one stood still for too long; nothing was committed"
    );
    let mut error = RepositoryError::new(RepositoryErrorKind::Busy, message).hint("start it again");
    error.database = Some(database.clone());
    error
}
