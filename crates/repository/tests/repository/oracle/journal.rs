//! Journals as they ought to be: appending, and what a restore up to any moment gives.

use std::collections::BTreeSet;

use copal_core::{BackupId, Context};
use copal_repository::{Repository, RepositoryError, SegmentFacts, WriteOptions};
use copal_storage::Clock;
use jiff::{SignedDuration, Timestamp};

use super::{Fate, World};
use crate::common::file_bytes;
use crate::common::journal::read_segments;
use crate::common::streams::push_stream;

/// A segment that exists, or whose backup went.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) id: BackupId,
    time: Timestamp,
    bytes: Vec<u8>,
}

impl World {
    /// Appends to the newest backup, if there is one that no plan names.
    pub(super) async fn append(&mut self, which: usize, length: u16, fate: Fate) {
        let model = &self.models[which];
        let Some(base) = model.backups.keys().next_back().filter(|id| !model.leaving.contains(*id)).cloned() else {
            return;
        };
        let manifest = self.repository.manifest(&model.database, &base).await.unwrap();
        let follows = self.repository.journal(&model.database, &manifest).await.unwrap().end();
        assert_eq!(follows.sequence as usize, model.journals.get(&base).map_or(0, Vec::len));
        let (open_before, time) = (self.open_plans(which), self.clock.wall());
        let bytes = file_bytes(self.seed << 24, length.into());
        let options = WriteOptions { workers: Some(1), ..WriteOptions::default() };
        let pushed = bytes.clone();
        let mut id = None;
        self.fault(fate);
        let result: Result<(), RepositoryError> = async {
            let context = Context::silent();
            let database = &self.models[which].database;
            let (session, mut sink) = self.repository.begin_segment(database, &follows, &options, &context).await?;
            id = Some(session.id().clone());
            let pushing = tokio::task::spawn_blocking(move || (push_stream(&mut sink, "delta", &pushed, 1000), sink));
            let (pushed, sink) = pushing.await.unwrap();
            if let Err(error) = pushed {
                session.abandon(Some(sink)).await;
                return Err(*error.downcast::<RepositoryError>().unwrap());
            }
            let facts = SegmentFacts { captured_at: time, ..SegmentFacts::default() };
            session.commit(sink, facts, &context).await.map(|_| ())
        }
        .await;
        assert!(result.is_ok() || self.faults.is_killed(), "{result:?}");
        self.restart().await;
        // Who was killed may have committed, and only then does the segment exist.
        let is_there = id
            .as_ref()
            .is_some_and(|id| self.object(which, "journal", id.as_str()).is_some_and(|bytes| !bytes.is_empty()));
        assert!(is_there || result.is_err());
        let model = &mut self.models[which];
        if let Some(id) = id {
            // The session began, so the plans were finished.
            let gone = std::mem::take(&mut model.leaving);
            model.backups.retain(|id, _| !gone.contains(id));
            assert!(model.newest.as_ref().is_none_or(|newest| *newest < id));
            if is_there {
                model.newest = Some(id.clone());
                model.journals.entry(base).or_default().push(Saved { id, time, bytes });
            }
        }
        if result.is_err() {
            self.settle(which, &open_before, BTreeSet::new());
        }
    }

    /// After a prune that succeeded there are the segments of the backups that are there, and no others.
    pub(super) fn check_segments(&self, which: usize) {
        let model = &self.models[which];
        let expected = model.backups.keys().flat_map(|id| model.journals.get(id)).flatten().map(|s| s.id.to_string());
        let there = self.folder(which, "journal").into_iter().filter(|(_, bytes)| !bytes.is_empty());
        assert_eq!(there.map(|(name, _)| name).collect::<BTreeSet<_>>(), expected.collect());
    }

    /// The journals are listed as the oracle has them, and one restores up to any moment.
    pub(super) async fn check_journals(&self, which: usize, dice: usize) {
        let model = &self.models[which];
        let listed = self.repository.journal_listing(&model.database).await.unwrap();
        assert!(listed.damaged.is_empty(), "{:?}", listed.damaged);
        let staying: Vec<&BackupId> = model.backups.keys().filter(|id| !model.leaving.contains(*id)).collect();
        for id in &staying {
            let saved = model.journals.get(*id).into_iter().flatten();
            let expected: Vec<_> = saved.map(|s| (&s.id, s.time, s.bytes.len() as u64)).collect();
            let found = listed.journals.get(*id).into_iter().flatten();
            assert_eq!(found.map(|s| (&s.id, s.time, s.logical_bytes)).collect::<Vec<_>>(), expected);
        }
        let with_journal: Vec<_> = staying.into_iter().filter(|id| model.journals.contains_key(*id)).collect();
        if let Some(id) = with_journal.get(dice % with_journal.len().max(1)) {
            self.check_journal(&self.repository, which, id, Some(dice)).await;
        }
    }

    /// A backup and its journal up to a moment that the dice say, or up to the end, give what was saved.
    pub(super) async fn check_journal(
        &self,
        repository: &Repository,
        which: usize,
        id: &BackupId,
        dice: Option<usize>,
    ) {
        let model = &self.models[which];
        let Some(saved) = model.journals.get(id) else { return };
        let manifest = repository.manifest(&model.database, id).await.unwrap();
        let mut journal = repository.journal(&model.database, &manifest).await.unwrap();
        assert_eq!(repository.missing_after(&model.database, &journal).await.unwrap(), None);
        let moment = match dice {
            Some(dice) => saved[dice % saved.len()].time - SignedDuration::from_secs((dice / 7 % 2) as i64),
            None => Timestamp::MAX,
        };
        let until = journal.until(moment).len();
        let expected: Vec<&[u8]> = saved.iter().filter(|s| s.time <= moment).map(|s| &s.bytes[..]).collect();
        assert_eq!(until, expected.len());
        journal.segments.truncate(until);
        let read = read_segments(repository, &model.database, &manifest, &journal).await.unwrap();
        assert!(read.concat() == expected, "the journal of {id} restores to something else");
    }
}
