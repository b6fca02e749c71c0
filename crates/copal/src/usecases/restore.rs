//! Restoring a backup.

use copal_core::{Context, RestoreRequest, Source};
use copal_repository::Summary;

use super::find::Found;
use super::list::marked;
use super::{Copal, RestoreOptions, blocking};
use crate::outcome::summary;
use crate::{CopalError, ErrorKind, RestoreOutcome, Result};

impl Copal {
    /// Restores one backup. What is at the target is replaced only if asked for, in one step and after the new
    /// database was checked; whatever fails, what was there is still there.
    pub async fn restore(&self, database: &str, options: RestoreOptions, context: &Context) -> Result<RestoreOutcome> {
        let repository = self.repository().await?;
        let Found { database, record_damage } = self.found(repository, database).await?;
        if let Some(error) = record_damage {
            context.warn(format!("{error}; the backup itself can be read"));
        }
        let manifest = self.choose(repository, &database, &options.backup).await?;
        let engine = self.engines.named(&manifest.body.engine)?;
        let target = match options.to.as_deref() {
            Some(target) => Source::parse(target).map_err(|e| CopalError::new(ErrorKind::Usage, e.to_string()))?,
            None => self.source_of(&manifest)?,
        };
        let fits = target.scheme().is_none_or(|scheme| engine.capabilities().schemes.contains(&scheme));
        if !fits {
            let message = format!("a backup of {} cannot be restored to {target}", engine.name());
            return Err(CopalError::new(ErrorKind::Usage, message));
        }
        let brief = marked(repository, &database, Summary::of(&manifest)).await?;
        let request = RestoreRequest {
            replace: options.replace,
            check: options.check,
            dry_run: options.dry_run,
            ..RestoreRequest::new(target)
        };
        context.phase("restoring", Some(manifest.body.logical_bytes));
        let content = repository.content(&database, manifest);
        let for_engine = context.clone();
        let restored = blocking(move || engine.restore(&content, &request, &for_engine)).await??;
        Ok(RestoreOutcome {
            backup: summary(&database.name, &brief),
            target: restored.target,
            replaced: restored.replaced,
            dry_run: options.dry_run,
            checks: restored.check.ran,
            notes: [restored.notes, restored.check.impossible].concat(),
        })
    }
}
