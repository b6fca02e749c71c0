//! Listing journals quickly: what their segments say in short, kept in the local state once it was read.

use std::collections::{BTreeMap, HashSet};

use copal_core::{BackupId, Follows};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Segment, is_gone};
use crate::catalog::{Catalog, Database};
use crate::error::{RepositoryError, Result};
use crate::layout;
use crate::listing::DamagedBackup;
use crate::repository::Repository;

const CACHE: &str = "journals.json";

/// What a listing says about one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentSummary {
    /// Its id.
    pub id: BackupId,
    /// Up to when it tells what happened.
    pub time: Timestamp,
    /// Its number in the journal, from 1.
    pub sequence: u64,
    /// Bytes of the packs that it wrote.
    pub added_bytes: u64,
    /// Bytes of its streams.
    pub logical_bytes: u64,
}

/// All journals of a database, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub struct JournalListing {
    /// The segments of every backup that has any, in order, up to the first that cannot be read or does not follow.
    pub journals: BTreeMap<BackupId, Vec<SegmentSummary>>,
    /// Segments that cannot be read, do not follow the one before them, or are missing.
    pub damaged: Vec<DamagedBackup>,
}

/// What is remembered about a segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// Size of the object.
    size: u64,
    follows: Follows,
    hash: String,
    summary: SegmentSummary,
}

impl Known {
    fn of(segment: &Segment, size: u64) -> Self {
        let summary = SegmentSummary {
            id: segment.id().clone(),
            time: segment.header.time,
            sequence: segment.sequence(),
            added_bytes: segment.body.added_bytes,
            logical_bytes: segment.body.logical_bytes,
        };
        Self { size, follows: segment.header.follows.clone(), hash: segment.hash.clone(), summary }
    }
}

type Cache = BTreeMap<BackupId, Known>;

impl Repository {
    /// The segments of every backup that has any, oldest first. Damage does not fail this: what is behind it is left out.
    pub async fn journals(&self, database: &Database) -> Result<BTreeMap<BackupId, Vec<SegmentSummary>>> {
        Ok(self.journal_listing(database).await?.journals)
    }

    /// The same, and what is wrong. Content is not read, and bases are not compared with their digests.
    pub async fn journal_listing(&self, database: &Database) -> Result<JournalListing> {
        let catalog = self.catalog(&database.name).await?;
        let state = self.database_state(database);
        let mut cache = self.known_segments(database, &catalog);
        let missing: Vec<BackupId> = catalog.segments.keys().filter(|id| !cache.contains_key(*id)).cloned().collect();
        let is_new = !missing.is_empty();
        let mut listing = JournalListing::default();
        let mut unreadable = HashSet::new();
        for (id, segment) in self.segments(database, missing).await {
            match segment {
                Ok(segment) => {
                    let size = catalog.segments.get(&id).map_or(0, |info| info.size);
                    cache.insert(id, Known::of(&segment, size));
                }
                Err(e) if e.is_damage() => {
                    // Of a backup that is gone, nobody misses anything.
                    if let Some(base) = catalog.base_by_order(&id).filter(|base| catalog.backups.contains_key(*base)) {
                        listing.damaged.extend(DamagedBackup::of(&e, base));
                        unreadable.insert(base.clone());
                    }
                }
                // Pruned since the listing.
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
        if is_new {
            state.write(CACHE, &cache);
        }
        let mut of_bases: BTreeMap<BackupId, Vec<Known>> = BTreeMap::new();
        for known in cache.into_values().filter(|known| catalog.backups.contains_key(&known.follows.base)) {
            of_bases.entry(known.follows.base.clone()).or_default().push(known);
        }
        for (base, segments) in of_bases {
            let (sound, broken) = sound_part(database, segments);
            let broken = broken.filter(|_| !unreadable.contains(&base));
            listing.damaged.extend(broken.and_then(|error| DamagedBackup::of(&error, &base)));
            if !sound.is_empty() {
                listing.journals.insert(base, sound);
            }
        }
        listing.damaged = self.without_pruned(database, listing.damaged).await?;
        listing.damaged.extend(self.journal_rollback(database, &catalog).await?);
        let newest = listing.journals.values().filter_map(|segments| segments.last()).map(|last| &last.id).max();
        if let Some(newest) = newest.filter(|_| listing.damaged.is_empty())
            && state.journal_end().is_none_or(|known| known.segment < *newest)
        {
            let segment = self.segment(database, newest).await;
            self.remember_end(database, segment.ok().as_ref());
        }
        Ok(listing)
    }

    /// The segments that are known to belong to other backups than this one.
    pub(super) fn segments_of_others(
        &self,
        database: &Database,
        catalog: &Catalog,
        base: &BackupId,
    ) -> HashSet<BackupId> {
        let known = self.known_segments(database, catalog).into_iter();
        known.filter(|(_, known)| known.follows.base != *base).map(|(id, _)| id).collect()
    }

    fn known_segments(&self, database: &Database, catalog: &Catalog) -> Cache {
        let mut cache: Cache = self.database_state(database).read(CACHE).unwrap_or_default();
        cache.retain(|id, known| catalog.segments.get(id).is_some_and(|info| info.size == known.size));
        cache
    }

    /// The damage that is not of journals whose backups were pruned since the catalog was listed.
    async fn without_pruned(&self, database: &Database, damaged: Vec<DamagedBackup>) -> Result<Vec<DamagedBackup>> {
        let mut gone = HashSet::new();
        for base in damaged.iter().filter_map(|d| d.backup.as_ref()).collect::<HashSet<_>>() {
            if !self.exists(&layout::backup(&database.name, base)).await? {
                gone.insert(base.clone());
            }
        }
        Ok(damaged.into_iter().filter(|d| d.backup.as_ref().is_none_or(|base| !gone.contains(base))).collect())
    }

    /// Whether this machine remembers a segment that is not there, though its base is.
    pub(crate) async fn journal_rollback(
        &self,
        database: &Database,
        catalog: &Catalog,
    ) -> Result<Option<DamagedBackup>> {
        let Some(known) = self.database_state(database).journal_end() else { return Ok(None) };
        if !catalog.backups.contains_key(&known.end.base) || catalog.segments.contains_key(&known.segment) {
            return Ok(None);
        }
        // What is remembered may be younger than the catalog. The base is asked for last, as it goes first.
        let object = layout::segment(&database.name, &known.segment);
        if self.exists(&object).await? || !self.exists(&layout::backup(&database.name, &known.end.base)).await? {
            return Ok(None);
        }
        let problem = if catalog.segment_tombstones.contains_key(&known.segment) {
            "is empty, though this machine saw it and its backup is there"
        } else {
            "is missing, though this machine saw it: the repository was rolled back to an earlier state"
        };
        Ok(Some(DamagedBackup { object, problem: problem.into(), backup: Some(known.end.base) }))
    }
}

/// The summaries in front of the first segment that does not follow, and why that does not.
fn sound_part(database: &Database, mut segments: Vec<Known>) -> (Vec<SegmentSummary>, Option<RepositoryError>) {
    segments.sort_by(|a, b| (a.follows.sequence, &a.summary.id).cmp(&(b.follows.sequence, &b.summary.id)));
    let mut sound: Vec<SegmentSummary> = Vec::new();
    let mut hash: Option<String> = None;
    for known in segments {
        let number = sound.len() as u64;
        let problem = if known.follows.sequence < number {
            sound.pop();
            Some("has the number of another one")
        } else if known.follows.sequence > number {
            Some("follows one that is missing")
        } else if hash.as_ref().is_some_and(|hash| *hash != known.follows.hash) {
            Some("does not follow the one before it as it is there: one of the two was exchanged")
        } else if sound.last().is_some_and(|last| last.time > known.summary.time) {
            Some("is earlier than what it follows")
        } else {
            None
        };
        if let Some(problem) = problem {
            let object = layout::segment(&database.name, &known.summary.id);
            return (sound, Some(RepositoryError::damage(&object, problem)));
        }
        hash = Some(known.hash);
        sound.push(known.summary);
    }
    (sound, None)
}
