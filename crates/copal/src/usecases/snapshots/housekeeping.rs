//! Removing, renaming and clearing up snapshots.

use copal_core::{Context, SnapshotNote};
use jiff::{SignedDuration, Timestamp};

use super::tracked::{Tracked, of_one};
use super::{name, sets};
use crate::outcome::{GcOutcome, RemovedSnapshot, SnapshotSummary};
use crate::usecases::Copal;
use crate::{CopalError, ErrorKind, Result};

/// Options of `gc`. Without a limit only what killed processes left is cleared up.
#[derive(Clone, Debug, Default)]
pub struct GcOptions {
    /// The databases, by name, URL or path; empty: all of the configuration.
    pub databases: Vec<String>,
    /// Remove what is older than this.
    pub older_than: Option<SignedDuration>,
    /// Remove all but the newest so many of each database.
    pub keep: Option<u32>,
    /// Both limits count only snapshots with this label.
    pub label: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Copal {
    /// Removes a snapshot, of all databases of the configuration or of those that are named.
    pub async fn remove_snapshot(
        &self,
        snapshot: &str,
        databases: &[String],
        context: &Context,
    ) -> Result<SnapshotSummary> {
        let tracked = self.tracked(databases, context).await?;
        let sets = sets::known(&tracked, context).await?;
        let set = sets::choose(&sets, Some(snapshot))?;
        for (one, _) in &set.parts {
            let id = set.id.clone();
            of_one(one, context, move |one, context| one.snapshots()?.remove(&one.source, &id, context)).await?;
        }
        Ok(set.summary())
    }

    /// Gives a snapshot another name, in all databases that have a part of it.
    pub async fn rename_snapshot(
        &self,
        snapshot: &str,
        new: &str,
        databases: &[String],
        context: &Context,
    ) -> Result<SnapshotSummary> {
        name::check(new)?;
        let tracked = self.tracked(databases, context).await?;
        let mut sets = sets::known(&tracked, context).await?;
        let at = sets::choose(&sets, Some(snapshot))?.id.clone();
        if let Some(other) = sets.iter().find(|set| set.name() == new && set.id != at) {
            let message = format!("there is a snapshot {new:?} of {}", other.databases().join(", "));
            return Err(
                CopalError::new(ErrorKind::Exists, message).with_hint("choose another name, or remove it first")
            );
        }
        let Some(set) = sets.iter_mut().find(|set| set.id == at) else {
            return Err(CopalError::new(ErrorKind::NotFound, format!("there is no snapshot {snapshot:?}")));
        };
        let revision = set.parts.iter().map(|(_, snapshot)| snapshot.note.revision).max().unwrap_or(0) + 1;
        for (one, snapshot) in &mut set.parts {
            let note = SnapshotNote { name: new.to_owned(), revision, ..snapshot.note.clone() };
            let (id, given) = (at.clone(), note.clone());
            of_one(one, context, move |one, context| one.snapshots()?.describe(&one.source, &id, &given, context))
                .await?;
            snapshot.note = note;
        }
        Ok(set.summary())
    }

    /// Finishes or undoes what killed processes left, and removes snapshots beyond the limits; one answer per database. A complete
    /// snapshot goes only by a limit.
    pub async fn gc_snapshots(
        &self,
        options: &GcOptions,
        context: &Context,
    ) -> Result<Vec<(String, Result<GcOutcome>)>> {
        let tracked = self.tracked(&options.databases, context).await?;
        let mut outcomes = Vec::new();
        for one in &tracked {
            context.cancel.check()?;
            outcomes.push((one.name.clone(), clear(one, options, context).await));
        }
        Ok(outcomes)
    }
}

async fn clear(one: &Tracked, options: &GcOptions, context: &Context) -> Result<GcOutcome> {
    let dry_run = options.dry_run;
    let settled =
        of_one(one, context, move |one, context| one.snapshots()?.settle(&one.source, dry_run, context)).await?;
    let mut snapshots = of_one(one, context, |one, context| one.snapshots()?.list(&one.source, context)).await?;
    let kept = snapshots.len();
    snapshots.retain(|snapshot| options.label.is_none() || snapshot.note.label == options.label);
    let oldest = options.older_than.and_then(|age| Timestamp::now().checked_sub(age).ok());
    let count = snapshots.len();
    let is_beyond = |at: usize| options.keep.is_some_and(|keep| count - at > keep as usize);
    let is_old = |time: Timestamp| oldest.is_some_and(|oldest| time < oldest);
    let mut removed = Vec::new();
    for (at, snapshot) in snapshots.into_iter().enumerate() {
        if !is_beyond(at) && !is_old(snapshot.id.time()) {
            continue;
        }
        if !dry_run {
            context.cancel.check()?;
            let id = snapshot.id.clone();
            of_one(one, context, move |one, context| one.snapshots()?.remove(&one.source, &id, context)).await?;
        }
        removed.push(RemovedSnapshot { name: snapshot.note.name, id: snapshot.id });
    }
    Ok(GcOutcome { database: one.name.clone(), kept: kept - removed.len(), removed, settled, dry_run })
}
