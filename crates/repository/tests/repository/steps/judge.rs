//! What must hold when a schedule has ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use copal_core::{BackupId, Context, Keep, PackId};
use copal_repository::{Mark, PruneRules, Repository, RepositoryErrorKind};
use copal_storage::{ObjectPath, Storage};
use jiff::tz::TimeZone;

use super::clock::LonelyClock;
use super::{Done, Op, World, mark, noon, options};

impl World {
    /// Panics with the story of the schedule if anything is not as it must be.
    pub async fn judge(&mut self) {
        if let Err(problem) = self.try_judge().await {
            panic!("{}", self.told(&problem));
        }
    }

    async fn try_judge(&mut self) -> Result<(), String> {
        self.look();
        let memory = self.memory.fork();
        let clock = Arc::new(LonelyClock::new(noon() + std::time::Duration::from_secs(3600)));
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let repository = Repository::open(storage, None, options(clock)).await.map_err(|e| format!("{e:?}"))?;
        let live = self.live(&repository).await?;
        self.check_outcomes(&live)?;
        self.check_content(&repository, &live).await?;
        self.check_reclaiming(&repository).await
    }

    async fn live(&self, repository: &Repository) -> Result<BTreeSet<BackupId>, String> {
        let catalog = repository.catalog(&self.start.database.name).await.map_err(|e| format!("{e:?}"))?;
        Ok(catalog.backups.into_keys().collect())
    }

    fn holds(&self, path: &str) -> bool {
        self.memory.contents().get(&ObjectPath::parse(path).unwrap()).is_some_and(|bytes| !bytes.is_empty())
    }

    fn has_mark(&self, id: &BackupId) -> bool {
        let path = ObjectPath::parse(&mark(id, Mark::Pinned)).unwrap();
        self.memory.contents().contains_key(&path)
    }

    /// Who reported success was right, and who failed had a reason.
    fn check_outcomes(&self, live: &BTreeSet<BackupId>) -> Result<(), String> {
        let prunes = self.actors.iter().filter(|a| matches!(a.op, Op::Prune { .. })).count();
        if prunes == 0 {
            let lost = self.start.ids.iter().find(|id| !live.contains(*id));
            if let Some(lost) = lost {
                return Err(format!("{lost} is gone, and nobody pruned"));
            }
        }
        let newest_there =
            self.contents.lock().unwrap().keys().filter(|id| self.history.was_there(id.as_str())).max().cloned();
        let mut committed = Vec::new();
        for actor in &self.actors {
            let outcome = actor.outcome.lock().unwrap();
            let (op, result) = match &*outcome {
                Some(result) => (actor.op, result),
                None if actor.is_killed => continue,
                None => return Err("an operation ended without a result".into()),
            };
            match (op, result) {
                (_, Err(error)) => {
                    let is_fair = match error.kind() {
                        RepositoryErrorKind::Busy | RepositoryErrorKind::Pruned => {
                            self.actors.len() > 1 || self.has_faults
                        }
                        RepositoryErrorKind::Gap => op == Op::Append && self.actors.len() > 1,
                        RepositoryErrorKind::Storage(_) => self.has_faults,
                        _ => false,
                    };
                    if !is_fair {
                        return Err(format!("{op:?} failed: {error:?}"));
                    }
                }
                (Op::Backup { pin, .. }, Ok(Done::Backup(id))) => {
                    committed.push(id.clone());
                    if !self.history.was_there(id.as_str()) {
                        return Err(format!("{id} was reported and never existed"));
                    }
                    if !live.contains(id) && (prunes == 0 || pin) {
                        return Err(format!("{id} was reported and is gone"));
                    }
                    if pin && !self.has_mark(id) {
                        return Err(format!("{id} was to be pinned and is not"));
                    }
                }
                (Op::Append, Ok(Done::Appended(id))) => {
                    if !self.history.was_appended(id.as_str()) {
                        return Err(format!("segment {id} was reported and never existed"));
                    }
                    // It goes with its backup only, which was the newest one before it.
                    let base = self
                        .contents
                        .lock()
                        .unwrap()
                        .keys()
                        .filter(|b| *b < id)
                        .rev()
                        .find_map(|b| self.history.was_there(b.as_str()).then(|| b.clone()));
                    let is_there = self.holds(&format!("databases/db/journal/{id}"));
                    if base.is_none_or(|base| live.contains(&base) && !is_there) {
                        return Err(format!("segment {id} was reported and is gone, and its backup is there"));
                    }
                }
                (Op::Prune { .. }, Ok(Done::Pruned(pruned))) => {
                    for decision in &pruned.decisions {
                        let is_there = live.contains(&decision.id);
                        if decision.reasons.is_empty() && is_there {
                            return Err(format!("{} was reported as pruned and is there", decision.id));
                        }
                        if !decision.reasons.is_empty() && !is_there && prunes == 1 {
                            return Err(format!("{} was reported as kept and is gone", decision.id));
                        }
                    }
                }
                (Op::Pin(which), Ok(Done::Marked)) => {
                    let id = &self.start.ids[which];
                    let undone = self.actors.iter().any(|a| a.op == Op::Unpin(which));
                    let is_kept = live.contains(id) && self.has_mark(id);
                    if !undone && !is_kept {
                        return Err(format!("{id} was pinned and is gone or not pinned"));
                    }
                }
                (Op::Unpin(which), Ok(Done::Marked)) => {
                    let id = &self.start.ids[which];
                    let redone = self.actors.iter().any(|a| a.op == Op::Pin(which));
                    if !redone && self.has_mark(id) {
                        return Err(format!("{id} was unpinned and is pinned"));
                    }
                }
                (op, Ok(done)) => return Err(format!("{op:?} answered {done:?}")),
            }
        }
        if newest_there.is_none_or(|newest| !live.contains(&newest)) {
            return Err("the newest backup is gone".into());
        }
        Ok(())
    }

    /// Everything that exists restores, byte for byte.
    async fn check_content(&self, repository: &Repository, live: &BTreeSet<BackupId>) -> Result<(), String> {
        let database = &self.start.database;
        for id in live {
            let wanted = self.contents.lock().unwrap().get(id).cloned();
            let manifest = repository.manifest(database, id).await.map_err(|e| format!("{id}: {e:?}"))?;
            self.check_journal(repository, &manifest).await?;
            let found = crate::common::restore(repository, database, manifest).await;
            let found = found.map_err(|e| format!("{id} does not restore: {e:?}"))?;
            if Some(found) != wanted {
                return Err(format!("{id} restores to something else"));
            }
        }
        Ok(())
    }

    /// The next prune finishes every plan, leaves what is needed and nothing else, and harms nobody.
    async fn check_reclaiming(&self, repository: &Repository) -> Result<(), String> {
        let database = &self.start.database;
        let rules = PruneRules { keep: Keep::default(), zone: TimeZone::UTC, trust_clock: false };
        let pruned = repository.prune(database, &rules, &Context::silent()).await;
        pruned.map_err(|e| format!("the next prune: {e:?}"))?;
        let live = self.live(repository).await?;
        let (mut needed, mut segments) = (BTreeSet::new(), BTreeSet::new());
        for id in &live {
            let manifest = repository.manifest(database, id).await.map_err(|e| format!("{e:?}"))?;
            let verified = repository.verify(database, manifest.clone(), &Context::silent()).await;
            let damaged = verified.map_err(|e| format!("{id}: {e:?}"))?;
            if !damaged.is_empty() {
                return Err(format!("{id} is damaged after the next prune: {damaged:?}"));
            }
            let journal = repository.journal(database, &manifest).await.map_err(|e| format!("{id}: {e:?}"))?;
            segments.extend(journal.segments.iter().map(|segment| segment.id().clone()));
            let of_segments = journal.segments.into_iter().flat_map(|segment| segment.header.packs);
            needed.extend(manifest.header.packs.into_iter().chain(of_segments).map(|(pack, _)| pack));
        }
        let list = |folder: &str| {
            let folder = ObjectPath::parse(&format!("databases/db/{folder}")).unwrap();
            let storage = Arc::clone(repository.storage());
            async move { storage.list(&folder).await.unwrap() }
        };
        let packs: BTreeSet<PackId> =
            list("packs").await.iter().map(|info| info.path.file_name().parse().unwrap()).collect();
        if packs != needed {
            return Err(format!("after the next prune there are {packs:?}, and {needed:?} are needed"));
        }
        let left = list("journal").await;
        let left = left.iter().filter(|info| info.size > 0).map(|info| info.path.file_name().parse().unwrap());
        if left.collect::<BTreeSet<BackupId>>() != segments {
            return Err("after the next prune there are segments of no journal".into());
        }
        if let Some(open) = list("plans").await.iter().find(|info| info.size > 0) {
            return Err(format!("{} was not finished", open.path));
        }
        let stray = list("marks").await;
        let stray = stray.iter().find(|info| !live.iter().any(|id| info.path.file_name().starts_with(id.as_str())));
        stray.map_or(Ok(()), |info| Err(format!("{} marks nothing", info.path)))
    }
}
