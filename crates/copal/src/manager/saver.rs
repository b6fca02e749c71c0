//! What is saved: a full backup, or what happened since as a segment of the journal.

use std::time::Duration;

use copal_core::Context;
use serde::Serialize;

use super::builder::Terms;
use crate::{
    AppendOutcome, BackupOptions, BackupOutcome, Copal, CopalError, ErrorKind, JournalEnd, PruneOptions, Result,
};

/// What one run of a manager saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "saved", rename_all = "lowercase")]
pub enum Saved {
    /// A full backup.
    Full(BackupOutcome),
    /// A segment of the journal.
    Delta(AppendOutcome),
    /// Nothing, since nothing happened.
    Unchanged,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// What the manager's terms say.
    Regular,
    /// A full backup.
    Full,
    /// A segment, if that can be.
    Delta,
    /// As `Regular`, but nothing unless something changed.
    Changes,
}

/// What the next save needs to know of those before it.
#[derive(Debug, Default)]
pub(super) struct Saver {
    /// What a segment would go on from.
    end: Option<JournalEnd>,
    /// Segments since the full backup.
    pub(super) deltas: u32,
    /// Why the newest prune failed.
    pub(super) prune_failure: Option<String>,
}

impl Saver {
    /// Saves once; `shown` is the database without its password. A journal that cannot be continued leads to a full backup at once.
    pub(super) async fn save(
        &mut self,
        copal: &Copal,
        (database, shown): (&str, &str),
        terms: &Terms,
        want: Want,
        context: &Context,
    ) -> Result<Saved> {
        let delta = match want {
            Want::Full => false,
            Want::Delta => true,
            Want::Regular | Want::Changes => terms.incremental && self.deltas < terms.max_deltas,
        };
        if let (true, Some(end)) = (delta, &self.end) {
            match copal.append(database, end, context).await {
                Ok(Some(appended)) => {
                    self.end = Some(appended.end.clone());
                    self.deltas = self.deltas.saturating_add(1);
                    return Ok(Saved::Delta(appended));
                }
                Ok(None) => return Ok(Saved::Unchanged),
                Err(error) if error.kind() == ErrorKind::Gap => {
                    tracing::info!(database = shown, %error, "the journal cannot go on; a full backup follows");
                }
                Err(error) => return Err(error),
            }
        } else if terms.incremental && want != Want::Full && self.is_unchanged(copal, database, context).await? {
            return Ok(Saved::Unchanged);
        }
        self.save_all(copal, (database, shown), terms, context).await
    }

    /// Whether the journal says that nothing happened since the newest save, and the repository still has that as its newest state.
    pub(super) async fn is_unchanged(&self, copal: &Copal, database: &str, context: &Context) -> Result<bool> {
        match &self.end {
            Some(end) => match copal.has_changed(database, end, context).await {
                Ok(true) => Ok(false),
                // Somebody may have deleted it, put another repository in its place, or gone on with it.
                Ok(false) => copal.is_newest(database, end).await,
                Err(error) if error.kind() == ErrorKind::Gap => Ok(false),
                Err(error) => Err(error),
            },
            None => Ok(false),
        }
    }

    async fn save_all(
        &mut self,
        copal: &Copal,
        (database, shown): (&str, &str),
        terms: &Terms,
        context: &Context,
    ) -> Result<Saved> {
        let options = BackupOptions::default();
        let outcome = match &self.end {
            Some(end) => copal.backup_following(database, end, options, context).await?,
            None => copal.backup(database, options, context).await?,
        };
        self.end = copal.has_journal(database).then(|| outcome.end.clone());
        self.deltas = 0;
        if let Some(keep) = &terms.keep {
            let options = PruneOptions { keep: Some(keep.clone()), ..PruneOptions::default() };
            // The backup exists, and the next one is followed by another prune.
            let pruned = copal.prune(database, options, context).await;
            self.prune_failure = pruned.err().map(|error| {
                tracing::warn!(database = shown, %error, "the prune after the backup failed");
                full_text(&error)
            });
        }
        Ok(Saved::Full(outcome))
    }
}

/// An error and its causes in one line.
pub(super) fn full_text(error: &CopalError) -> String {
    let causes = error.causes();
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

/// The waits between tries while somebody else works on the database.
pub(super) fn busy_waits() -> impl Iterator<Item = Duration> {
    (0..).map(|n: u32| Duration::from_millis(100).saturating_mul(1 << n.min(5)))
}
