//! Reading a backup back, all content, and remembering what came of it.

use copal_core::{BackupId, Context, PackId};

use crate::catalog::{Database, Manifest};
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::journal::Segment;
use crate::layout::{self, Mark};
use crate::operation::Operation;
use crate::plan;
use crate::reader::{BackupContent, Damaged};
use crate::repository::Repository;

impl Repository {
    /// Opens a backup for reading.
    pub fn content(&self, database: &Database, manifest: Manifest) -> BackupContent {
        BackupContent::new(self, database, manifest)
    }

    /// Opens a backup with these segments of its journal for reading.
    pub fn content_with(&self, database: &Database, manifest: Manifest, segments: &[Segment]) -> BackupContent {
        BackupContent::with_segments(self, database, manifest, segments)
    }

    /// Reads all content of a backup and of its journal back and authenticates it. Gives what is damaged; a backup without
    /// damage of its own is marked as verified, where that is allowed. Packs found damaged are remembered: later backups
    /// share nothing with them.
    pub async fn verify(&self, database: &Database, manifest: Manifest, context: &Context) -> Result<Vec<Damaged>> {
        let id = manifest.header.backup.clone();
        let (journal, problems) = self.sound_journal(database, &manifest).await?;
        let missing = self.missing_after(database, &journal).await?;
        let content = self.content_with(database, manifest, &journal.segments);
        let for_thread = context.clone();
        let verified = tokio::task::spawn_blocking(move || content.verify_apart(&for_thread)).await;
        let (mut damaged, of_journal) = verified.map_err(|e| {
            RepositoryError::new(RepositoryErrorKind::Local, "the verification could not be completed").because(e)
        })??;
        // Its journal may be gone with it.
        self.require_backup(database, &id).await?;
        if damaged.is_empty() {
            if let Err(error) = self.set_mark(&database.name, &id, Mark::Verified).await {
                context.note(format!("the backup is sound, but that could not be written down: {error}"));
            }
        } else {
            // Retention must not count on this backup any more; where deleting is not allowed, the report has to do.
            if let Err(error) = self.storage.delete(&layout::mark(&database.name, &id, Mark::Verified)).await {
                context.note(format!("the backup is still marked as verified: {error}"));
            }
            let packs = damaged.iter().filter_map(|d| d.object.file_name().parse::<PackId>().ok());
            self.database_state(database).remember_damaged_packs(packs);
        }
        damaged.extend(problems.iter().filter_map(Damaged::of));
        damaged.extend(of_journal);
        damaged.extend(
            missing
                .filter(|_| problems.is_empty())
                .map(|missing| Damaged { object: layout::journal(&database.name), problem: missing.to_string() }),
        );
        damaged.sort();
        damaged.dedup_by(|a, b| a.object == b.object);
        Ok(damaged)
    }

    /// Keeps a backup for ever, or no longer. Errors: `Busy`, `NotFound`, `Pruned`.
    pub async fn set_pinned(&self, database: &Database, id: &BackupId, pinned: bool, context: &Context) -> Result<()> {
        // A prune that begins meanwhile would not see the mark; so this is an operation too, though nothing commits it.
        let own = layout::plan(&database.name, &BackupId::new(self.options.clock.wall()));
        let operation = Operation::begin(&self.ground(), &database.name, "pin", own, context).await?;
        let result = match self.set_pinned_holding(database, id, pinned, &operation, context).await {
            Ok(()) => Ok(()),
            Err(error) => Err(operation.explain(error).await),
        };
        operation.release().await;
        result
    }

    async fn set_pinned_holding(
        &self,
        database: &Database,
        id: &BackupId,
        pinned: bool,
        operation: &Operation,
        context: &Context,
    ) -> Result<()> {
        let blocked = plan::finish_all(self, database, operation, context).await?.require_readable()?;
        if blocked.manifests.contains(id) {
            let message = format!("backup {id} of {} is being pruned", database.name);
            return Err(RepositoryError::new(RepositoryErrorKind::Pruned, message));
        }
        self.manifest(database, id).await?;
        operation.check()?;
        if !pinned {
            return Ok(self.storage.delete(&layout::mark(&database.name, id, Mark::Pinned)).await?);
        }
        self.set_mark(&database.name, id, Mark::Pinned).await?;
        // Whoever took over while we slept may have planned without the mark, however little time our clock shows.
        operation.require_not_cancelled().await
    }
}
