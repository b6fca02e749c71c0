//! Dropping backups that no rule wants, and everything that no backup needs; docs/format.md, "Plans and pruning".

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use copal_core::{BackupId, Candidate, Context, Decision, Keep, PackId, RetentionError, decide};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::catalog::{Catalog, Database, Manifest};
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::journal::Segment;
use crate::layout;
use crate::listing::DamagedBackup;
use crate::operation::Operation;
use crate::plan::{self, Plan};
use crate::repository::Repository;

/// Tombstones stay this long, so that no late answer or retry can bring a pruned manifest back.
const TOMBSTONE_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The newest backup may be dated so much later than the store's clock says before rules of time are in doubt.
const AHEAD_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// What to keep.
#[derive(Clone, Debug)]
pub struct PruneRules {
    /// The rules.
    pub keep: Keep,
    /// The zone in which days, weeks … begin.
    pub zone: TimeZone,
    /// Apply rules of time although the clock is in doubt.
    pub trust_clock: bool,
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// What became of every backup, oldest first.
    pub decisions: Vec<Decision>,
    /// Packs deleted.
    pub packs: usize,
    /// Bytes of packs freed.
    pub bytes: u64,
    /// Segments of journals that went with their backups, oldest first.
    pub segments: Vec<BackupId>,
}

impl Repository {
    /// Says what a prune would do. Takes no lease.
    pub async fn plan_prune(&self, database: &Database, rules: &PruneRules) -> Result<Pruned> {
        let planned = plan::planned(self, database).await?.require_readable()?;
        let mut catalog = self.catalog(&database.name).await?;
        catalog.backups.retain(|id, _| !planned.manifests.contains(id));
        self.refuse_rolled_back(database, &catalog).await?;
        let now = self.options.clock.wall();
        let (_, pruned) = self.draft(database, &catalog, rules, now).await?;
        Ok(pruned)
    }

    /// Drops what no rule wants, with its journal, and what nothing needs. Errors: `Busy`; damage if a manifest, or a segment
    /// of a backup that stays, cannot be read.
    pub async fn prune(&self, database: &Database, rules: &PruneRules, context: &Context) -> Result<Pruned> {
        self.prune_within(database, rules, None, context).await
    }

    /// The same if no other backups would go than `only`, which somebody has seen; else `Busy`, and nothing goes.
    pub async fn prune_only(
        &self,
        database: &Database,
        rules: &PruneRules,
        only: &BTreeSet<BackupId>,
        context: &Context,
    ) -> Result<Pruned> {
        self.prune_within(database, rules, Some(only), context).await
    }

    async fn prune_within(
        &self,
        database: &Database,
        rules: &PruneRules,
        only: Option<&BTreeSet<BackupId>>,
        context: &Context,
    ) -> Result<Pruned> {
        let id = BackupId::new(self.options.clock.wall());
        let commit = layout::plan(&database.name, &id);
        let operation = Operation::begin(&self.ground(), &database.name, "prune", commit, context).await?;
        let result = match self.prune_holding(database, rules, only, &id, &operation, context).await {
            Ok(pruned) => Ok(pruned),
            Err(error) => Err(operation.explain(error).await),
        };
        operation.release().await;
        result
    }

    async fn prune_holding(
        &self,
        database: &Database,
        rules: &PruneRules,
        only: Option<&BTreeSet<BackupId>>,
        id: &BackupId,
        operation: &Operation,
        context: &Context,
    ) -> Result<Pruned> {
        let blocked = plan::finish_all(self, database, operation, context).await?.require_readable()?;
        if let Some(error) = blocked.refused {
            return Err(error.hint("a prune needs the right to delete; nothing new was planned"));
        }
        let catalog = self.catalog(&database.name).await?;
        self.refuse_rolled_back(database, &catalog).await?;
        // The store's own clock, as the lease that we have just written tells it.
        let now = self.storage.head(&layout::lease(&database.name)).await?.modified;
        let (plan, pruned) = self.draft(database, &catalog, rules, now).await?;
        // With the lease in our hand: nothing comes between this look and what is done.
        if let Some(only) = only {
            refuse_others(&plan, only).map_err(|error| error.about(&database.name, None))?;
        }
        if !plan.is_empty() {
            context.cancel.check()?;
            operation.commit(plan.encode(self, database, id)?).await?;
            plan::execute(self, database, id, &plan, operation).await?;
        }
        // We hold the lease: whoever left staging files here is dead or can no longer commit.
        self.storage.sweep_staging(&layout::database_folder(&database.name), Duration::ZERO).await?;
        Ok(pruned)
    }

    /// While the newest backup, or the end of its journal, is missing, what it needs looks like garbage.
    async fn refuse_rolled_back(&self, database: &Database, catalog: &Catalog) -> Result<()> {
        let at_the_end = |missing: &DamagedBackup| missing.backup.as_ref() == catalog.newest();
        let of_journal = self.journal_rollback(database, catalog).await?.filter(at_the_end);
        let missing = match self.rollback(database, catalog) {
            // What is remembered may be younger than the catalog, if nobody holds the lease.
            Some(missing) if !self.exists(&missing.object).await? => Some(missing),
            _ => of_journal,
        };
        let Some(missing) = missing else { return Ok(()) };
        let message = format!("{}: {}", missing.object, missing.problem);
        let hint = "nothing was deleted; bring the object back from another copy, or make a backup: \
                    from then on that one counts as the newest";
        let mut error = RepositoryError::new(RepositoryErrorKind::Rollback, message).hint(hint);
        error.object = Some(missing.object);
        Err(error.about(&database.name, missing.backup.as_ref()))
    }

    /// The decisions and the plan for them: everything listed that no remaining backup needs.
    async fn draft(
        &self,
        database: &Database,
        catalog: &Catalog,
        rules: &PruneRules,
        now: Timestamp,
    ) -> Result<(Plan, Pruned)> {
        // Without reading anything: rules that cannot be applied need no manifests.
        let mut decisions = decide_all(catalog, rules, now)?;
        let listed = self.storage.list(&layout::packs(&database.name)).await?;
        let sizes: HashMap<&str, u64> = listed.iter().map(|info| (info.path.file_name(), info.size)).collect();
        let mut whole = catalog.clone();
        let mut read = Vec::new();
        let ids: Vec<&BackupId> = catalog.backups.keys().collect();
        for (id, manifest) in self.manifests(database, &ids).await {
            let hint = "nothing was deleted, because nobody can tell what this backup needs; \
                        bring the object back, or remove it by hand if the backup is lost anyway";
            let manifest = manifest.map_err(|error| error.hint(hint))?;
            let packs = manifest.header.packs;
            if packs.iter().any(|(pack, size)| sizes.get(pack.as_str()) != Some(size)) {
                whole.backups.remove(&id);
            }
            read.push((id, manifest.hash, packs));
        }
        if whole.backups.len() < catalog.backups.len() {
            keep_for_broken(&mut decisions, &whole, rules, now)?;
        }
        let dropped: BTreeSet<&BackupId> = decisions.iter().filter(|d| d.reasons.is_empty()).map(|d| &d.id).collect();
        let mut needed: HashSet<PackId> = HashSet::new();
        let mut manifests = Vec::new();
        for (id, hash, packs) in read {
            if dropped.contains(&id) {
                manifests.push((id, hash));
            } else {
                needed.extend(packs.into_iter().map(|(pack, _)| pack));
            }
        }
        manifests.sort();
        let mut segments = Vec::new();
        for (id, segment) in self.segments(database, catalog.segments.keys().cloned().collect()).await {
            let segment = match segment {
                Ok(segment) => segment,
                // It goes with its backup, whatever it was; its packs bear its own name.
                Err(e) if e.is_damage() && goes_unread(&id, catalog, &dropped, now) => {
                    let bytes = self.storage.get(&layout::segment(&database.name, &id)).await?;
                    segments.push((id, blake3::hash(&bytes).to_hex().to_string()));
                    continue;
                }
                Err(error) => {
                    let hint = "nothing was deleted, because nobody can tell what this segment needs; \
                                bring the object back, or remove it by hand if it is lost anyway";
                    return Err(error.about(&database.name, catalog.base_by_order(&id)).hint(hint));
                }
            };
            let base = &segment.header.follows.base;
            if dropped.contains(base) || is_orphaned(&segment, catalog, now) {
                segments.push((id, segment.hash));
            } else {
                needed.extend(segment.header.packs.into_iter().map(|(pack, _)| pack));
            }
        }
        segments.sort();
        let mut plan = Plan {
            created: self.options.clock.wall(),
            manifests,
            packs: Vec::new(),
            marks: Vec::new(),
            tombstones: Vec::new(),
            segments,
        };
        let mut pruned = Pruned::default();
        pruned.segments.extend(plan.segments.iter().map(|(id, _)| id.clone()));
        for info in &listed {
            let Ok(pack) = info.path.file_name().parse::<PackId>() else { continue };
            if !needed.contains(&pack) {
                pruned.packs += 1;
                pruned.bytes += info.size;
                plan.packs.push(pack);
            }
        }
        for (id, mark) in &catalog.marks {
            if dropped.contains(id) || !catalog.backups.contains_key(id) {
                plan.marks.push(layout::mark(&database.name, id, *mark).file_name().to_owned());
            }
        }
        let is_expired = |written: Timestamp| now.duration_since(written) > TOMBSTONE_LIFE;
        let expired = catalog.tombstones.iter().filter(|(_, written)| is_expired(**written));
        plan.tombstones.extend(expired.map(|(id, _)| format!("backups/{id}")));
        let expired = catalog.segment_tombstones.iter().filter(|(_, written)| is_expired(**written));
        plan.tombstones.extend(expired.map(|(id, _)| format!("journal/{id}")));
        for info in self.storage.list(&layout::plans(&database.name)).await? {
            if info.size == 0 && is_expired(info.modified) && info.path.file_name().parse::<BackupId>().is_ok() {
                plan.tombstones.push(format!("plans/{}", info.path.file_name()));
            }
        }
        pruned.decisions = decisions;
        Ok((plan, pruned))
    }

    /// Reads many manifests, several at a time.
    pub(crate) async fn manifests(&self, database: &Database, ids: &[&BackupId]) -> Vec<(BackupId, Result<Manifest>)> {
        use futures::StreamExt;
        // Owned, not borrowed by a lazy iterator: else the compiler cannot tell that the future is `Send`.
        let ids: Vec<BackupId> = ids.iter().copied().cloned().collect();
        futures::stream::iter(ids)
            .map(|id| async move {
                let manifest = self.manifest(database, &id).await;
                (id, manifest)
            })
            .buffer_unordered(16)
            .collect()
            .await
    }
}

/// Whether the backup under a segment is gone for good: removed in the way in which Copal removes, or so long ago that nobody
/// can tell. What is missing otherwise may yet be brought back.
fn is_orphaned(segment: &Segment, catalog: &Catalog, now: Timestamp) -> bool {
    let base = &segment.header.follows.base;
    let written = catalog.segments.get(segment.id()).map_or(now, |info| info.modified);
    let is_gone = !catalog.backups.contains_key(base);
    is_gone && (catalog.tombstones.contains_key(base) || now.duration_since(written) > TOMBSTONE_LIFE)
}

/// Refuses a plan that deletes a backup that nobody was shown.
fn refuse_others(plan: &Plan, only: &BTreeSet<BackupId>) -> Result<()> {
    match plan.manifests.iter().any(|(id, _)| !only.contains(id)) {
        false => Ok(()),
        true => Err(RepositoryError::new(RepositoryErrorKind::Busy, "other backups would go now; look again")
            .hint("nothing was deleted")),
    }
}

/// Whether a segment that cannot be read is of no use to any backup that stays: the only one that it may belong to goes, or
/// all in front of it are gone for good.
fn goes_unread(id: &BackupId, catalog: &Catalog, dropped: &BTreeSet<&BackupId>, now: Timestamp) -> bool {
    if let Some((base, _)) = catalog.backups.range(..id).next_back() {
        return dropped.contains(base);
    }
    let written = catalog.segments.get(id).map_or(now, |info| info.modified);
    catalog.tombstones.range(..id).next().is_some() || now.duration_since(written) > TOMBSTONE_LIFE
}

/// A backup of which packs are missing takes no whole one's place: what would stay without it stays, too.
fn keep_for_broken(decisions: &mut [Decision], whole: &Catalog, rules: &PruneRules, now: Timestamp) -> Result<()> {
    // This only adds reasons to keep, so no doubt about the clock matters.
    let rules = PruneRules { trust_clock: true, ..rules.clone() };
    for more in decide_all(whole, &rules, now)? {
        if let Some(decision) = decisions.iter_mut().find(|d| d.id == more.id) {
            decision.reasons.extend(more.reasons);
            decision.reasons.sort_by_key(|reason| *reason as u8);
            decision.reasons.dedup();
        }
    }
    Ok(())
}

/// Applies the rules to all backups, unless they need dates that nobody should believe.
fn decide_all(catalog: &Catalog, rules: &PruneRules, now: Timestamp) -> Result<Vec<Decision>> {
    let doubtful = |message: String| {
        RepositoryError::new(RepositoryErrorKind::Usage, message)
            .hint("if the dates are right, say so with --trust-clock; --keep-last needs no clock")
    };
    let has_time_rules = Keep { last: None, ..rules.keep.clone() }.has_rules();
    if let Some(newest) = catalog.newest().filter(|_| has_time_rules && !rules.trust_clock)
        && newest.time().duration_since(now) > AHEAD_TOLERANCE
    {
        // A clock that was ahead for one backup dates all later ones right after it: seconds, where days went by.
        let days = newest.time().duration_since(now).as_hours() / 24;
        return Err(doubtful(format!("the newest backup {newest} is dated {days} days ahead: was the clock wrong?")));
    }
    let candidates: Vec<Candidate> = catalog
        .backups
        .keys()
        .map(|id| Candidate {
            id: id.clone(),
            time: id.time(),
            pinned: catalog.pinned.contains(id),
            verified: catalog.verified.contains(id),
        })
        .collect();
    decide(&candidates, &rules.keep, &rules.zone, rules.trust_clock).map_err(|error| match error {
        RetentionError::ClockInDoubt { .. } => doubtful(error.to_string()),
    })
}
