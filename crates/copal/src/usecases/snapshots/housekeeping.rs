//! Removing, renaming and clearing up snapshots.

use std::collections::BTreeSet;

use copal_core::{Context, Snapshot, SnapshotId, SnapshotNote};
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
        let set = sets::choose(&sets, Some(snapshot), &tracked)?;
        for (one, _) in &set.parts {
            one.remove(&set.id, context).await?;
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
        let at = sets::choose(&sets, Some(snapshot), &tracked)?.id.clone();
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
    /// snapshot goes only by a limit, and of several databases only if it is beyond the limits of all.
    pub async fn gc_snapshots(
        &self,
        options: &GcOptions,
        context: &Context,
    ) -> Result<Vec<(String, Result<GcOutcome>)>> {
        let tracked = self.tracked(&options.databases, context).await?;
        let mut found = Vec::new();
        for one in &tracked {
            context.cancel.check()?;
            found.push(settled(one, options.dry_run, context).await);
        }
        let going = going(&tracked, &found, options);
        let mut outcomes = Vec::new();
        for (one, found) in tracked.iter().zip(found) {
            let outcome = match found {
                Ok((settled, snapshots)) => clear(one, settled, snapshots, &going, options.dry_run, context).await,
                Err(error) => Err(error),
            };
            outcomes.push((one.name.clone(), outcome));
        }
        Ok(outcomes)
    }
}

type Found = Result<(Vec<String>, Vec<Snapshot>)>;

/// Clears up after killed processes; answers what that was, and the snapshots that there are.
async fn settled(one: &Tracked, dry_run: bool, context: &Context) -> Found {
    of_one(one, context, move |one, context| {
        let snapshots = one.snapshots()?;
        Ok((snapshots.settle(&one.source, dry_run, context)?, snapshots.list(&one.source, context)?))
    })
    .await
}

/// The snapshots that are beyond the limits of every database that has a part of them. What is known of only in part stays.
fn going(tracked: &[Tracked], found: &[Found], options: &GcOptions) -> BTreeSet<SnapshotId> {
    let oldest = options.older_than.and_then(|age| Timestamp::now().checked_sub(age).ok());
    let unknown = tracked.iter().zip(found).filter(|(_, found)| found.is_err()).map(|(one, _)| one.name.as_str());
    let unknown: Vec<&str> = unknown.collect();
    let (mut going, mut staying) = (BTreeSet::new(), BTreeSet::new());
    for (_, snapshots) in found.iter().flatten() {
        let meant = |snapshot: &&Snapshot| options.label.is_none() || snapshot.note.label == options.label;
        let count = snapshots.iter().filter(meant).count();
        for (at, snapshot) in snapshots.iter().filter(meant).enumerate() {
            let is_beyond = options.keep.is_some_and(|keep| count - at > keep as usize);
            let is_old = oldest.is_some_and(|oldest| snapshot.id.time() < oldest);
            let is_hidden = snapshot.note.together.iter().any(|name| unknown.contains(&name.as_str()));
            let to = if (is_beyond || is_old) && !is_hidden { &mut going } else { &mut staying };
            to.insert(snapshot.id.clone());
        }
    }
    going.difference(&staying).cloned().collect()
}

async fn clear(
    one: &Tracked,
    settled: Vec<String>,
    snapshots: Vec<Snapshot>,
    going: &BTreeSet<SnapshotId>,
    dry_run: bool,
    context: &Context,
) -> Result<GcOutcome> {
    let (mut removed, mut kept) = (Vec::new(), 0);
    for snapshot in snapshots {
        if !going.contains(&snapshot.id) {
            kept += 1;
            continue;
        }
        if !dry_run {
            context.cancel.check()?;
            one.remove(&snapshot.id, context).await?;
        }
        removed.push(RemovedSnapshot { name: snapshot.note.name, id: snapshot.id });
    }
    Ok(GcOutcome { database: one.name.clone(), removed, kept, settled, dry_run })
}
