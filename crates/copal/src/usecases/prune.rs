//! Dropping backups that no rule wants.

use copal_core::{Context, Keep};
use copal_repository::PruneRules;

use super::{Copal, PruneOptions};
use crate::{KeptBackup, PruneOutcome, Result};

impl Copal {
    /// The rules of a database's retention: its own, or those of the server that it is on. `None` if it is not configured.
    pub fn keep(&self, database: &str) -> Option<&Keep> {
        self.policy(database).map(|policy| &policy.keep)
    }

    /// Drops the backups of one database that no rule wants, and frees what no backup needs. Without rules, all backups stay.
    /// Errors: `Busy` also if others than `options.only` would go.
    pub async fn prune(&self, database: &str, options: PruneOptions, context: &Context) -> Result<PruneOutcome> {
        let repository = self.repository().await?;
        let stored = self.stored(repository, database).await?;
        let policy = self.keep(database).or_else(|| self.keep(stored.name.as_str()));
        let rules = PruneRules {
            keep: options.keep.or_else(|| policy.cloned()).unwrap_or_default(),
            zone: self.settings.timezone.clone(),
            trust_clock: options.trust_clock,
        };
        context.phase("pruning", None);
        let pruned = match (options.dry_run, &options.only) {
            (true, _) => repository.plan_prune(&stored, &rules).await?,
            (false, Some(only)) => repository.prune_only(&stored, &rules, only, context).await?,
            (false, None) => repository.prune(&stored, &rules, context).await?,
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
