//! Looks whether every database has a backup as young as promised, whoever should have made it.
//!
//! What this daemon made itself it knows. Only where that is too old, the repository is asked, one database after the other, so
//! that a daemon whose history is gone, or that watches what other hosts back up, tells the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use copal::{Copal, ErrorKind, Settings};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::runner::{RunEvent, Runner};

/// What is promised.
#[derive(Clone, Debug)]
pub struct Promise {
    /// For the use cases.
    pub settings: Settings,
    /// The age that no newest backup should exceed, by database.
    pub max_ages: BTreeMap<String, Duration>,
    /// How often it is looked.
    pub every: Duration,
}

/// The watch over promises. Clones are for the same task, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Staleness {
    promise: watch::Sender<Promise>,
}

impl Staleness {
    /// Begins to look, at once and then again and again; what is stale goes out through the runner each time.
    pub fn start(promise: Promise, runner: Runner) -> Self {
        let (promise, changes) = watch::channel(promise);
        tokio::spawn(run(changes, runner));
        Self { promise }
    }

    /// Puts another promise in force.
    pub fn reload(&self, promise: Promise) {
        self.promise.send_replace(promise);
    }
}

async fn run(mut changes: watch::Receiver<Promise>, runner: Runner) {
    loop {
        let promise = changes.borrow_and_update().clone();
        look(&promise, &runner).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(promise.every) => {}
        }
    }
}

async fn look(promise: &Promise, runner: &Runner) {
    let (known, copal) = (runner.newest_backups(), Copal::new(promise.settings.clone()));
    for (database, max_age) in &promise.max_ages {
        if is_young(known.get(database).copied(), *max_age) {
            continue;
        }
        let own = known.get(database).copied();
        let newest = match newest_of(&copal, database).await {
            Ok(newest) => newest.max(own),
            Err(error) => {
                tracing::warn!(%error, database, "the repository cannot be asked for the newest backup");
                // Nothing is known of it at all, and that is no reason for an alarm.
                if own.is_none() {
                    continue;
                }
                own
            }
        };
        if !is_young(newest, *max_age) {
            tracing::warn!(database, ?newest, "there is no backup as young as promised");
            runner.tell(RunEvent::Stale { database: database.clone(), newest, max_age: *max_age });
        }
    }
}

/// A backup whose time lies in the future is young: some clock was set.
fn is_young(newest: Option<Timestamp>, max_age: Duration) -> bool {
    let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    newest.is_some_and(|newest| Timestamp::now().duration_since(newest) <= max_age)
}

/// When the newest backup in the repository was made; of a whole server, that of the database with the oldest.
async fn newest_of(copal: &Copal, database: &str) -> copal::Result<Option<Timestamp>> {
    let mut oldest = None;
    for member in copal.members(database).await? {
        let newest = match copal.list(Some(&member)).await {
            Ok(listings) => listings.iter().flat_map(|listing| &listing.backups).map(|backup| backup.time).max(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(newest) = newest else { return Ok(None) };
        oldest = Some(oldest.map_or(newest, |oldest: Timestamp| oldest.min(newest)));
    }
    Ok(oldest)
}
