//! A state that can be restored: a backup, and the segments of its journal up to some moment.

use std::collections::BTreeMap;

use copal_core::{BackupId, Inventory};
use copal_repository::{BackupContent, Database, Journal, Manifest, Repository, Segment};
use jiff::{SignedDuration, Timestamp};

use super::{BackupChoice, Copal};
use crate::{CopalError, ErrorKind, Result};

/// A state that can be restored.
pub(super) struct Point {
    pub(super) manifest: Manifest,
    /// What happened after the backup, up to this state.
    pub(super) segments: Vec<Segment>,
}

impl Point {
    /// What the database contained.
    pub(super) fn inventory(&self) -> &Inventory {
        self.segments.last().map_or(&self.manifest.body.inventory, |last| &last.body.inventory)
    }

    /// Bytes of all content that restoring it reads.
    pub(super) fn logical_bytes(&self) -> u64 {
        let of_segments = self.segments.iter().map(|segment| segment.body.logical_bytes).sum();
        self.manifest.body.logical_bytes.saturating_add(of_segments)
    }

    /// Its content.
    pub(super) fn content(self, repository: &Repository, database: &Database) -> BackupContent {
        repository.content_with(database, self.manifest, &self.segments)
    }
}

impl Copal {
    /// The newest state that is meant: a backup with its journal, a backup alone if its id is given, or a segment of a journal.
    pub(super) async fn point(
        &self,
        repository: &Repository,
        database: &Database,
        choice: &BackupChoice,
    ) -> Result<Point> {
        if let BackupChoice::Id(id) = choice
            && let Some(point) = segment_of(repository, database, id).await?
        {
            return Ok(point);
        }
        let manifest = self.choose(repository, database, choice).await?;
        let segments = match choice {
            BackupChoice::Id(_) => return Ok(Point { manifest, segments: Vec::new() }),
            BackupChoice::Latest => repository.journal(database, &manifest).await?.segments,
            BackupChoice::At(time) => journal_until(repository, database, &manifest, moment(*time)).await?,
        };
        // A prune that came in between has taken the segments, too.
        repository.require_backup(database, &manifest.header.backup).await?;
        Ok(Point { manifest, segments })
    }

    /// The newest backup that is not later than a moment, by the time at which its view was opened.
    pub(super) async fn newest_until(
        &self,
        repository: &Repository,
        database: &Database,
        time: Timestamp,
    ) -> Result<Option<Manifest>> {
        let catalog = repository.catalog(&database.name).await?;
        let listing = repository.listing(database).await?;
        let captured: BTreeMap<_, _> = listing.backups.iter().map(|brief| (&brief.id, brief.captured_at)).collect();
        let moment = moment(time);
        // An id is of the second in which its backup began, or later: much later behind one that was made by a wrong clock.
        for id in catalog.backups.keys().rev() {
            let is_it = match captured.get(id) {
                // A list shows the second of the id, and the view may have been opened after it: who had to wait for another
                // operation opens it much later. The time that is shown with a backup means this backup; of two that began
                // within one second, the one that is shown with it.
                Some(captured_at) => {
                    *captured_at <= time || id.time() == time || (*captured_at <= moment && id.time() < time)
                }
                // It cannot be read, and by its id it is the one that is meant.
                None => id.time() <= moment,
            };
            if is_it {
                return Ok(Some(repository.manifest(database, id).await?));
            }
        }
        Ok(None)
    }
}

/// A time in whole seconds, as times are shown, means the whole of that second.
pub(super) fn moment(time: Timestamp) -> Timestamp {
    match time.subsec_nanosecond() {
        0 => time.checked_add(SignedDuration::from_nanos(999_999_999)).unwrap_or(time),
        _ => time,
    }
}

/// The segments up to a moment. What is damaged behind it does not matter.
async fn journal_until(
    repository: &Repository,
    database: &Database,
    manifest: &Manifest,
    moment: Timestamp,
) -> Result<Vec<Segment>> {
    let (journal, problems) = repository.sound_journal(database, manifest).await?;
    let until = journal.until(moment);
    if until.len() == journal.segments.len() {
        // Nobody knows from when that is which cannot be read.
        if let Some(problem) = problems.into_iter().next() {
            return Err(journal.explain(problem).into());
        }
        refuse_missing(repository, database, &journal, moment).await?;
    }
    Ok(until.to_vec())
}

/// The state up to the segment of this id, if there is one.
async fn segment_of(repository: &Repository, database: &Database, id: &BackupId) -> Result<Option<Point>> {
    let Some(base) = base_of(repository, database, id).await? else { return Ok(None) };
    let manifest = repository.manifest(database, &base).await?;
    let (mut journal, problems) = repository.sound_journal(database, &manifest).await?;
    repository.require_backup(database, &base).await?;
    let Some(at) = journal.segments.iter().position(|segment| segment.id() == id) else {
        return Err(match problems.into_iter().next() {
            Some(problem) => journal.explain(problem).into(),
            None => CopalError::new(ErrorKind::NotFound, format!("{} has no segment {id} any more", database.name)),
        });
    };
    journal.segments.truncate(at + 1);
    Ok(Some(Point { manifest, segments: journal.segments }))
}

/// The backup under a segment, if that is what the id names. Errors: damage if its journal is damaged in front of it.
pub(super) async fn base_of(repository: &Repository, database: &Database, id: &BackupId) -> Result<Option<BackupId>> {
    let catalog = repository.catalog(&database.name).await?;
    if catalog.backups.contains_key(id) || !catalog.segments.contains_key(id) {
        return Ok(None);
    }
    let journals = repository.journals(database).await?;
    if let Some((base, _)) = journals.iter().find(|(_, all)| all.iter().any(|segment| segment.id == *id)) {
        return Ok(Some(base.clone()));
    }
    if !repository.catalog(&database.name).await?.segments.contains_key(id) {
        return Err(CopalError::new(
            ErrorKind::Pruned,
            format!("segment {id} of {} was pruned meanwhile", database.name),
        ));
    }
    let segments = journals.values().flatten().map(|segment| &segment.id);
    let before = segments.chain(catalog.backups.keys()).filter(|other| *other < id).max();
    let hint = before.map_or_else(String::new, |before| format!("; the newest state before it has the id {before}"));
    Err(CopalError::new(ErrorKind::Damage, format!("the journal up to {id} of {} is damaged", database.name))
        .with_hint(format!("copal verify {} --backup all tells what is wrong{hint}", database.name)))
}

/// Behind the last segment that is there, more may have been saved before this moment: then nobody knows the state.
async fn refuse_missing(
    repository: &Repository,
    database: &Database,
    journal: &Journal,
    moment: Timestamp,
) -> Result<()> {
    let Some(missing) = repository.missing_after(database, journal).await? else { return Ok(()) };
    let newest = journal.segments.last().map_or(&journal.base.base, Segment::id);
    Err(CopalError::new(ErrorKind::Damage, format!("{missing}, so the state at {moment:.0} is not known"))
        .with_hint(format!("the newest state before that is there: --backup {newest}")))
}

#[cfg(test)]
// A panic is how a test fails.
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
