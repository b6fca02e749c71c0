//! Snapshots: taking, listing and rewinding to copies beside the databases, of several databases under one name.
//!
//! A snapshot of several databases is taken of all or of none. It has no home of its own: every database's engine keeps its
//! part, and what belongs together has the same id.

mod backups;
mod before_migration;
mod git;
mod housekeeping;
mod name;
mod rewind;
mod sets;
mod tracked;

use std::path::PathBuf;

use copal_core::{Context, Snapshot, SnapshotId, SnapshotNote, SnapshotRequest, Taken};
use jiff::Timestamp;

pub use before_migration::{snapshot_before_migration, try_snapshot_before_migration};
pub use housekeeping::GcOptions;
pub use rewind::RewindRequest;

use super::{CLOCK_TOLERANCE, Copal};
use crate::outcome::{DatabaseNote, SnapOutcome, SnapshotListing};
use crate::{CopalError, ErrorKind, Result};
use sets::Set;
use tracked::{Tracked, on_each};

/// Options of `snap`.
#[derive(Clone, Debug, Default)]
pub struct SnapOptions {
    /// What to call it; `None`: the local time.
    pub name: Option<String>,
    /// The databases, by name, URL or path; empty: all of the configuration.
    pub databases: Vec<String>,
    /// What it is taken for: `[A-Za-z0-9._-]{1,64}`.
    pub label: Option<String>,
    /// Make a spare copy ready, so that the first rewind, too, is but a renaming.
    pub spare: bool,
    /// Remove snapshots of these databases that have the same name, once the new one is taken.
    pub replace: bool,
    /// The working folder, whose git branch is noted.
    pub folder: Option<PathBuf>,
}

impl SnapOptions {
    /// Refuses a name or a label that no snapshot can have.
    pub fn check(&self) -> Result<()> {
        self.label.as_deref().map_or(Ok(()), name::check_label)?;
        self.name.as_deref().map_or(Ok(()), name::check)
    }
}

impl Copal {
    /// Takes a snapshot of databases that are in use. If one of them fails, there is none of any.
    pub async fn snap(&self, options: SnapOptions, context: &Context) -> Result<SnapOutcome> {
        options.check()?;
        let tracked = self.tracked(&options.databases, context).await?;
        let sets = sets::known(&tracked, context).await?;
        let name = match &options.name {
            Some(name) => name.clone(),
            None => name::of_now(&sets),
        };
        let same: Vec<&Set> = sets.iter().filter(|set| set.name() == name).collect();
        if let (Some(first), false) = (same.first(), options.replace) {
            let message = format!("there is a snapshot {name:?} of {}", first.databases().join(", "));
            return Err(CopalError::new(ErrorKind::Exists, message)
                .with_hint("take it under another name, or in the place of that one with --replace"));
        }
        let id = new_id(sets.last().map(|set| set.id.clone()), context);
        let note = SnapshotNote {
            name,
            revision: 0,
            label: options.label,
            together: tracked.iter().map(|one| one.name.clone()).collect(),
            git_branch: options.folder.as_deref().and_then(git::branch),
        };
        let spares: Vec<bool> =
            tracked.iter().map(|one| options.spare || self.policy(&one.name).is_some_and(|p| p.spare)).collect();
        let requests = spares.into_iter().map(|spare| SnapshotRequest { id: id.clone(), note: note.clone(), spare });
        let taken = on_each(&tracked, requests, context, |one, request, context| {
            one.snapshots()?.take(&one.source, &request, context)
        });
        let taken = all_or_none(&tracked, taken.await, &id, context).await?;
        let mut replaced = Vec::new();
        for set in &same {
            let mut is_gone = true;
            for (one, snapshot) in &set.parts {
                if let Err(error) = one.remove(&snapshot.id, context).await {
                    context.warn(format!("{}: the snapshot {} was not removed: {error}", one.name, snapshot.id));
                    is_gone = false;
                }
            }
            replaced.extend(is_gone.then(|| set.id.clone()));
        }
        let mut notes = Vec::new();
        let mut parts: Vec<(Tracked, Snapshot)> = Vec::new();
        for (one, taken) in tracked.iter().zip(taken) {
            notes.extend(taken.notes.into_iter().map(|note| DatabaseNote { database: one.name.clone(), note }));
            parts.push((one.clone(), taken.snapshot));
        }
        Ok(SnapOutcome { snapshot: Set { id, parts }.summary(), replaced, notes })
    }

    /// The snapshots of these databases (of all of the configuration if none is named), oldest first.
    pub async fn snapshots(&self, databases: &[String], context: &Context) -> Result<SnapshotListing> {
        let tracked = self.tracked(databases, context).await?;
        let mut failures = Vec::new();
        let mut parts = Vec::new();
        for (one, found) in tracked.iter().zip(sets::look(&tracked, context).await) {
            match found {
                Ok(found) => parts.extend(found.into_iter().map(|snapshot| (one.clone(), snapshot))),
                Err(error) => failures.push((one.name.clone(), error)),
            }
        }
        let snapshots = sets::group(parts).iter().map(Set::summary).collect();
        Ok(SnapshotListing { snapshots, failures })
    }
}

/// What was taken, if all could be; else what could be is removed again.
async fn all_or_none(
    tracked: &[Tracked],
    taken: Vec<Result<Taken>>,
    id: &SnapshotId,
    context: &Context,
) -> Result<Vec<Taken>> {
    if taken.iter().all(Result::is_ok) {
        return taken.into_iter().collect();
    }
    // Not to be cancelled: that may be why one of them failed.
    let calm = Context { cancel: copal_core::CancelToken::default(), progress: context.progress.clone() };
    let mut failure = None;
    for (one, taken) in tracked.iter().zip(taken) {
        match taken {
            Err(error) => failure = failure.or(Some(one.blame(error, tracked.len()))),
            Ok(_) => {
                if let Err(error) = one.remove(id, &calm).await {
                    context.warn(format!("{}: what was taken of it could not be removed: {error}", one.name));
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| CopalError::new(ErrorKind::Failed, "no snapshot was taken")))
}

/// An id that sorts behind all that are there, also if the clock was set back.
fn new_id(newest: Option<SnapshotId>, context: &Context) -> SnapshotId {
    let now = Timestamp::now();
    let Some(newest) = newest else { return SnapshotId::new(now) };
    if newest.time().duration_since(now) > CLOCK_TOLERANCE {
        let time = newest.time();
        context.warn(format!("the newest snapshot is of {time}, which is later than this machine's clock says it is"));
    }
    SnapshotId::behind(&newest, now)
}
