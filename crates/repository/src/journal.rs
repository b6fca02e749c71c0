//! The journal of a backup: segments that each know what they follow; docs/format.md, "Journal".
//!
//! Reading gives a chain that was compared link by link, or an error that names the object which breaks it. Nothing behind a
//! broken link is ever given.

mod append;
mod listing;

use bytes::Bytes;
use copal_core::{BackupId, Follows, SegmentBody, SegmentHeader};
use copal_storage::ObjectPath;
use futures::StreamExt;
use jiff::Timestamp;

use crate::catalog::{Database, Manifest};
use crate::document::Document;
use crate::error::{RepositoryError, RepositoryErrorKind, Result, is_absent};
use crate::frame::Kind;
use crate::layout;
use crate::repository::Repository;

pub use append::{CommittedSegment, SegmentFacts, SegmentSession};
pub use listing::{JournalListing, SegmentSummary};

/// Segments read at the same time.
const PARALLEL: usize = 32;

/// A segment, authenticated.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The clear header.
    pub header: SegmentHeader,
    /// The sealed body.
    pub body: SegmentBody,
    pub(crate) hash: String,
}

impl Segment {
    /// Its id.
    pub fn id(&self) -> &BackupId {
        &self.header.segment
    }

    /// Its number in the journal, from 1.
    pub fn sequence(&self) -> u64 {
        self.header.follows.sequence.saturating_add(1)
    }

    /// The state that it saved, for the segment after it.
    pub fn end(&self) -> Follows {
        Follows { base: self.header.follows.base.clone(), sequence: self.sequence(), hash: self.hash.clone() }
    }
}

/// What happened after a backup: a chain without gaps.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The state of the backup itself.
    pub base: Follows,
    /// The segments, in order.
    pub segments: Vec<Segment>,
}

impl Journal {
    /// The segments up to a moment.
    pub fn until(&self, time: Timestamp) -> &[Segment] {
        let count = self.segments.partition_point(|segment| segment.header.time <= time);
        self.segments.get(..count).unwrap_or_default()
    }

    /// Says of what breaks it which states in front of that are there.
    pub fn explain(&self, problem: RepositoryError) -> RepositoryError {
        let alone = format!("the backup alone can be restored by its id, {}", self.base.base);
        problem.hint(match self.segments.last() {
            Some(last) => format!("the newest state before that can be restored by the id {}; {alone}", last.id()),
            None => alone,
        })
    }

    /// The newest state, of the last segment or of the backup.
    pub fn end(&self) -> Follows {
        self.segments.last().map_or_else(|| self.base.clone(), Segment::end)
    }
}

/// Segments at the end of a journal that are not there, although a later backup says that they were saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingSegments {
    /// The backup under the journal.
    pub base: BackupId,
    /// The number of the first one.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// The backup that says so.
    pub said_by: BackupId,
}

impl std::fmt::Display for MissingSegments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { base, first, last, said_by } = self;
        write!(f, "of what was saved after backup {base}, segments {first} to {last} are missing: backup {said_by} ")?;
        write!(f, "follows them")
    }
}

impl Repository {
    /// Reads the whole journal of a backup. Errors: damage that names the object which breaks the chain, or a segment at its
    /// end that this machine saw and that is missing; `Pruned`, if something is amiss because the backup is gone.
    ///
    /// A backup that was pruned has no segments. So whoever read its manifest before asks [`require_backup`](Self::require_backup) after this.
    pub async fn journal(&self, database: &Database, base: &Manifest) -> Result<Journal> {
        let (journal, mut problems) = self.sound_journal(database, base).await?;
        if problems.is_empty() {
            self.remember_end(database, journal.segments.last());
            return Ok(journal);
        }
        Err(journal.explain(problems.swap_remove(0)))
    }

    /// The part of a journal in front of the first damage, and all damage that was found.
    pub async fn sound_journal(&self, database: &Database, base: &Manifest) -> Result<(Journal, Vec<RepositoryError>)> {
        let backup = &base.header.backup;
        let catalog = self.catalog(&database.name).await?;
        let others = self.segments_of_others(database, &catalog, backup);
        let ids = catalog.segments.keys().filter(|id| !others.contains(*id)).cloned().collect();
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for (id, segment) in self.segments(database, ids).await {
            let is_ours = || catalog.is_next_below(backup, &id);
            match segment {
                Ok(segment) if segment.header.follows.base == *backup => found.push(segment),
                Ok(_) => {}
                Err(e) if is_gone(&e) && is_ours() => {
                    self.require_backup(database, backup).await?;
                    // It may have been one of a backup between that was pruned.
                    if catalog.tombstones.range(backup..&id).next().is_some() {
                        continue;
                    }
                    problems.push(RepositoryError::damage(&layout::segment(&database.name, &id), "is missing"));
                }
                Err(e) if e.is_damage() && is_ours() => problems.push(e),
                Err(e) if e.is_damage() || is_gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
        let (segments, broken) = chain(database, base, found);
        // What cannot be read leaves a gap, which is no damage of its own.
        problems.extend(broken.filter(|_| problems.is_empty()));
        let missing = self.journal_rollback(database, &catalog).await?;
        let missing = missing.filter(|missing| missing.backup.as_ref() == Some(backup));
        problems.extend(missing.map(|missing| RepositoryError::damage(&missing.object, missing.problem)));
        if !problems.is_empty() {
            // Segments go with their base, and after it: what is missing then is no damage.
            self.require_backup(database, backup).await?;
        }
        let problems = problems.into_iter().map(|e| e.about(&database.name, Some(backup))).collect();
        Ok((Journal { base: base.end(), segments }, problems))
    }

    /// Segments behind the end of a journal of which the next backup says that they were saved.
    pub async fn missing_after(&self, database: &Database, journal: &Journal) -> Result<Option<MissingSegments>> {
        let base = &journal.base.base;
        let catalog = self.catalog(&database.name).await?;
        let later = (std::ops::Bound::Excluded(base), std::ops::Bound::Unbounded);
        let Some((next, _)) = catalog.backups.range(later).next() else { return Ok(None) };
        let follows = match self.manifest(database, next).await {
            Ok(manifest) => manifest.body.follows.filter(|follows| follows.base == *base),
            // Whoever reads that backup is told.
            Err(e) if e.is_damage() || is_gone(&e) => None,
            Err(e) => return Err(e),
        };
        let Some(follows) = follows else { return Ok(None) };
        let has_it = |segment: &Segment| segment.end() == follows;
        if follows == journal.base || journal.segments.iter().any(has_it) {
            return Ok(None);
        }
        let first = follows.sequence.min(journal.end().sequence + 1);
        let (base, said_by) = (base.clone(), next.clone());
        Ok(Some(MissingSegments { base, first, last: follows.sequence, said_by }))
    }

    /// Reads and authenticates a segment. Errors: `NotFound`, `Pruned`, `Replay`, damage.
    pub(crate) async fn segment(&self, database: &Database, id: &BackupId) -> Result<Segment> {
        let path = layout::segment(&database.name, id);
        match self.storage.get(&path).await {
            Ok(bytes) => self.open_segment(database, id, &path, bytes),
            Err(e) if is_absent(&e) => {
                let message = format!("{} has no segment {id}", database.name);
                Err(RepositoryError::new(RepositoryErrorKind::NotFound, message))
            }
            Err(e) => Err(e.into()),
        }
    }

    fn open_segment(&self, database: &Database, id: &BackupId, path: &ObjectPath, bytes: Bytes) -> Result<Segment> {
        if bytes.is_empty() {
            let message = format!("segment {id} of {} was pruned or cancelled", database.name);
            return Err(RepositoryError::new(RepositoryErrorKind::Pruned, message));
        }
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let document = Document::<SegmentHeader>::parse(path, bytes)?;
        let header = &document.header;
        if header.database != database.id || header.segment != *id {
            let message = if header.database == database.id {
                format!("{path} is segment {}, put in the place of {id}", header.segment)
            } else {
                format!("{path} is a segment of another database, put in this one's place")
            };
            let mut error = RepositoryError::new(RepositoryErrorKind::Replay, message)
                .hint("somebody moved objects within the repository; what is not named here is unharmed");
            error.object = Some(path.clone());
            return Err(error);
        }
        let body = document.open(Kind::Segment, &self.keys.segment(&database.id, id))?;
        crate::manifest_rules::check_segment(path, header, &body)?;
        Ok(Segment { header: document.header, body, hash })
    }

    /// Reads many segments, several at a time.
    pub(crate) async fn segments(&self, database: &Database, ids: Vec<BackupId>) -> Vec<(BackupId, Result<Segment>)> {
        futures::stream::iter(ids)
            .map(|id| async move {
                let segment = self.segment(database, &id).await;
                (id, segment)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await
    }

    /// Fails with `Pruned` if a backup is gone whose manifest was read before. If it is there, so was all of its journal until now.
    pub async fn require_backup(&self, database: &Database, backup: &BackupId) -> Result<()> {
        if self.exists(&layout::backup(&database.name, backup)).await? {
            return Ok(());
        }
        let message = format!("backup {backup} of {} was pruned meanwhile", database.name);
        Err(RepositoryError::new(RepositoryErrorKind::Pruned, message).about(&database.name, Some(backup)))
    }

    /// Whether there is an object now that is no tombstone.
    pub(crate) async fn exists(&self, path: &ObjectPath) -> Result<bool> {
        match self.storage.head(path).await {
            Ok(info) => Ok(info.size > 0),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Whether an object was removed, as opposed to damaged.
pub(crate) fn is_gone(error: &RepositoryError) -> bool {
    matches!(error.kind(), RepositoryErrorKind::NotFound | RepositoryErrorKind::Pruned)
}

/// Puts segments of one base in order, up to the first that does not follow the one before it.
fn chain(database: &Database, base: &Manifest, mut found: Vec<Segment>) -> (Vec<Segment>, Option<RepositoryError>) {
    found.sort_by(|a, b| (a.sequence(), a.id()).cmp(&(b.sequence(), b.id())));
    let mut segments: Vec<Segment> = Vec::new();
    let (mut end, mut time) = (base.end(), base.body.captured_at);
    for segment in found {
        let follows = &segment.header.follows;
        let problem = if segment.sequence() <= end.sequence {
            // Which of the two is the right one nobody can tell.
            let twin = segments.pop();
            let twin = twin.as_ref().map_or_else(String::new, |twin| format!(" {}", twin.id()));
            Some(format!("has number {} in its journal, as{twin} has", segment.sequence()))
        } else if follows.sequence > end.sequence {
            let missing = end.sequence + 1;
            Some(format!("follows segment {}, but segment {missing} of the journal is missing", follows.sequence))
        } else if follows.hash != end.hash {
            let before = segments.last().map_or_else(|| &base.header.backup, Segment::id);
            Some(format!("does not follow {before} as it is there: one of the two was exchanged"))
        } else if segment.header.time < time {
            Some("is earlier than what it follows".to_owned())
        } else {
            None
        };
        if let Some(problem) = problem {
            let object = layout::segment(&database.name, segment.id());
            return (segments, Some(RepositoryError::damage(&object, problem)));
        }
        (end, time) = (segment.end(), segment.header.time);
        segments.push(segment);
    }
    (segments, None)
}
