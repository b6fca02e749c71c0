//! Appending a segment: lease, end of the journal, content, segment; docs/format.md, "Journal".
//!
//! A segment is small and comes often. So nothing of earlier backups is loaded, and of the journal only its last segment is
//! read: that it is the one which the caller goes on from says its digest, and that none is missing in front of it their count.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use copal_core::{BackupId, Context, FORMAT_VERSION, FileEntry, Follows, Inventory, SegmentBody, SegmentHeader};
use jiff::Timestamp;

use super::{Segment, is_gone};
use crate::backup::BackupSink;
use crate::catalog::{Catalog, Database};
use crate::document;
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::Kind;
use crate::operation::Operation;
use crate::plan::{self, Blocked};
use crate::repository::Repository;
use crate::session::{self, CLOCK_TOLERANCE, Making};
use crate::state::KnownEnd;
use crate::writer::{WriteOptions, Writer, Written};

/// Threads that compress a segment, unless it is said how many.
const WORKERS: usize = 2;

/// What the engine and the caller know about a finished segment.
#[derive(Clone, Debug, Default)]
pub struct SegmentFacts {
    /// The engine's name.
    pub engine: String,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// Version of the program.
    pub copal_version: String,
    /// This machine.
    pub host: String,
    /// When the captured view was opened.
    pub captured_at: Timestamp,
    /// What the database contained then.
    pub inventory: Inventory,
    /// Where the segment ends in the database's own history.
    pub position: Option<String>,
    /// Remarks of the engine.
    pub notes: Vec<String>,
}

/// A segment under way: the lease is held, nothing exists yet.
pub struct SegmentSession {
    repository: Repository,
    database: Database,
    operation: Arc<Operation>,
    id: BackupId,
    follows: Follows,
    /// The time of the state that it follows.
    not_before: Timestamp,
}

/// What a committed segment is.
#[derive(Debug)]
pub struct CommittedSegment {
    /// The segment as it was written.
    pub segment: Segment,
    /// The end of the journal now.
    pub end: Follows,
}

impl Repository {
    /// Takes the lease of a database and prepares a segment that goes on from `follows`; its content is streams.
    ///
    /// Errors: `Gap` if that is not the end of the newest backup's journal, so that only a backup helps; `Busy`; storage errors.
    pub async fn begin_segment(
        &self,
        database: &Database,
        follows: &Follows,
        options: &WriteOptions,
        context: &Context,
    ) -> Result<(SegmentSession, BackupSink)> {
        let (operation, id, catalog) = self.begin_with_id(&database.name, Making::Segment, context).await?;
        let (repository, database, follows) = (self.clone(), database.clone(), follows.clone());
        let not_before = Timestamp::UNIX_EPOCH;
        let mut session = SegmentSession { repository, database, operation, id, follows, not_before };
        match session.prepare(&catalog, options, context).await {
            Ok(sink) => Ok((session, sink)),
            Err(error) => {
                let error = session.operation.explain(error).await;
                session::release(session.operation).await;
                Err(error)
            }
        }
    }

    /// Fails unless this state is the newest that is saved; gives its time.
    async fn require_end(
        &self,
        database: &Database,
        catalog: &Catalog,
        blocked: &Blocked,
        follows: &Follows,
    ) -> Result<Timestamp> {
        let base = &follows.base;
        let gap = |why: String| {
            let message = format!("the journal of {} cannot go on: {why}", database.name);
            RepositoryError::new(RepositoryErrorKind::Gap, message)
                .hint("make a backup; from there the journal goes on")
                .about(&database.name, Some(base))
        };
        let unreadable = |error: RepositoryError| match error.is_damage() || is_gone(&error) {
            true => gap(error.to_string()).because(error),
            false => error,
        };
        if catalog.newest() != Some(base) || blocked.manifests.contains(base) {
            return Err(gap(format!("backup {base} is not the newest one")));
        }
        // Ids grow, so all segments behind the newest backup are its own.
        let mut segments = catalog.segments.range((Bound::Excluded(base), Bound::Unbounded)).map(|(id, _)| id);
        let (count, last) = (segments.clone().count() as u64, segments.next_back());
        if count != follows.sequence {
            return Err(gap(format!("it has {count} segments after backup {base}, not {}", follows.sequence)));
        }
        let (end, time) = match last {
            None => {
                let manifest = self.manifest(database, base).await.map_err(unreadable)?;
                (manifest.end(), manifest.body.captured_at)
            }
            Some(last) => {
                let segment = self.segment(database, last).await.map_err(unreadable)?;
                (segment.end(), segment.header.time)
            }
        };
        if end == *follows { Ok(time) } else { Err(gap("its end is another state than the one to go on from".into())) }
    }

    /// Remembers the newest segment that this machine has seen.
    pub(super) fn remember_end(&self, database: &Database, segment: Option<&Segment>) {
        let Some(segment) = segment else { return };
        let state = self.database_state(database);
        if state.journal_end().is_none_or(|known| known.segment < *segment.id()) {
            state.remember_journal_end(&KnownEnd { segment: segment.id().clone(), end: segment.end() });
        }
    }
}

impl SegmentSession {
    /// The id that the segment will have.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// Waits for the content to be durable, looks that all of it is there, and creates the segment.
    pub async fn commit(self, sink: BackupSink, facts: SegmentFacts, context: &Context) -> Result<CommittedSegment> {
        let result = match self.try_commit(sink, facts, context).await {
            Ok(committed) => Ok(committed),
            Err(error) => Err(self.operation.explain(error).await),
        };
        session::release(self.operation).await;
        result
    }

    /// Gives up; nothing exists, and what was stored goes with the next prune.
    pub async fn abandon(self, sink: Option<BackupSink>) {
        drop(sink);
        session::release(self.operation).await;
    }

    async fn prepare(&mut self, catalog: &Catalog, options: &WriteOptions, context: &Context) -> Result<BackupSink> {
        let (repository, database) = (&self.repository, &self.database);
        let blocked = plan::finish_all(repository, database, &self.operation, context).await?;
        let catalog = if blocked.did_something { &repository.catalog(&database.name).await? } else { catalog };
        self.not_before = repository.require_end(database, catalog, &blocked, &self.follows).await?;
        context.cancel.check()?;
        let options = WriteOptions { workers: options.workers.or(Some(WORKERS)), ..options.clone() };
        let (operation, avoid) = (Arc::clone(&self.operation), HashSet::new());
        let writer = Writer::start(repository, database, &self.id, None, &avoid, operation, &options, context)?;
        Ok(BackupSink::new(writer))
    }

    async fn try_commit(&self, sink: BackupSink, facts: SegmentFacts, context: &Context) -> Result<CommittedSegment> {
        let (repository, database) = (&self.repository, &self.database);
        let written = sink.close().await?;
        context.cancel.check()?;
        if let Some(file) = written.files.iter().find(|file| !file.is_stream()) {
            let message = format!("a segment of the journal consists of streams, and {} is none", file.name());
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, message));
        }
        if self.not_before.duration_since(facts.captured_at) > CLOCK_TOLERANCE {
            context.warn(format!(
                "the clock of this machine says {:.0}, but what was saved of {} before is from {:.0}: one of them is \
                 wrong; this segment of the journal is dated like that",
                facts.captured_at, database.name, self.not_before
            ));
        }
        let (header, body) = self.document(&written, facts);
        repository.require_packs(database, &header.packs).await?;
        let cipher = repository.keys.segment(&database.id, &self.id);
        let bytes = document::encode(Kind::Segment, &header, &body, &cipher)?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        self.operation.commit(bytes).await?;
        let segment = Segment { header, body, hash };
        let end = segment.end();
        let known = KnownEnd { segment: self.id.clone(), end: end.clone() };
        repository.database_state(database).remember_journal_end(&known);
        Ok(CommittedSegment { segment, end })
    }

    fn document(&self, written: &Written, facts: SegmentFacts) -> (SegmentHeader, SegmentBody) {
        let used: Vec<_> = written.packs.iter().filter(|p| p.r#use.used_bytes > 0).collect();
        let header = SegmentHeader {
            format: FORMAT_VERSION,
            database: self.database.id,
            segment: self.id.clone(),
            time: facts.captured_at.max(self.not_before),
            follows: self.follows.clone(),
            packs: used.iter().map(|p| (p.id.clone(), p.size)).collect(),
        };
        let body = SegmentBody {
            engine: facts.engine,
            engine_version: facts.engine_version,
            copal_version: facts.copal_version,
            host: facts.host,
            files: written.files.clone(),
            pack_use: used.iter().map(|p| p.r#use).collect(),
            logical_bytes: written.files.iter().map(FileEntry::length).sum(),
            added_bytes: written.added_bytes,
            inventory: facts.inventory,
            position: facts.position,
            notes: facts.notes,
        };
        (header, body)
    }
}
