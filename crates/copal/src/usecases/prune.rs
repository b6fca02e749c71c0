//! Dropping backups that no rule wants.

use copal_core::Context;
use copal_repository::PruneRules;

use super::{Copal, PruneOptions};
use crate::{KeptBackup, PruneOutcome, Result};

impl Copal {
    /// Drops the backups of one database that no rule wants, and frees what no backup needs. Without rules, all backups stay.
    pub async fn prune(&self, database: &str, options: PruneOptions, context: &Context) -> Result<PruneOutcome> {
        let repository = self.repository().await?;
        let stored = self.stored(repository, database).await?;
        let policy = self.policy(database).or_else(|| self.policy(stored.name.as_str()));
        let rules = PruneRules {
            keep: options.keep.or_else(|| policy.map(|p| p.keep.clone())).unwrap_or_default(),
            zone: self.settings.timezone.clone(),
            trust_clock: options.trust_clock,
        };
        context.phase("pruning", None);
        let pruned = match options.dry_run {
            true => repository.plan_prune(&stored, &rules).await?,
            false => repository.prune(&stored, &rules, context).await?,
        };
        let (kept, deleted): (Vec<_>, Vec<_>) = pruned.decisions.into_iter().partition(|d| !d.reasons.is_empty());
        Ok(PruneOutcome {
            database: stored.name,
            dry_run: options.dry_run,
            kept: kept.into_iter().map(|d| KeptBackup { id: d.id, reasons: d.reasons }).collect(),
            deleted: deleted.into_iter().map(|d| d.id).collect(),
            deleted_segments: pruned.segments,
            deleted_packs: pruned.packs,
            freed_bytes: pruned.bytes,
        })
    }
}
