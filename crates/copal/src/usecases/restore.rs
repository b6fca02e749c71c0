//! Restoring a backup.

mod command;
mod place;
mod plan;

use copal_core::{Context, Engine, RestoreRequest, Source};

use copal_repository::Summary;
pub use place::RestorePlace;
pub use plan::PlanOptions;

use super::find::Found;
use super::list::marked;
use super::{Copal, RestoreOptions, blocking};
use crate::outcome::{segment, summary};
use crate::{CopalError, ErrorKind, RestoreOutcome, Result};

impl Copal {
    /// Restores one backup, with its journal up to the moment that is meant. What is at the target is replaced only if asked for, in one step and after the new
    /// database was checked; whatever fails, what was there is still there.
    pub async fn restore(&self, database: &str, options: RestoreOptions, context: &Context) -> Result<RestoreOutcome> {
        let repository = self.repository().await?;
        let Found { database, record_damage } = self.found(repository, database).await?;
        if let Some(error) = record_damage {
            context.warn(format!("{error}; the backup itself can be read"));
        }
        let point = self.point(repository, &database, &options.backup).await?;
        let manifest = &point.manifest;
        let engine = self.engines.named(&manifest.body.engine)?;
        if let Some(name) = &options.as_snapshot {
            refuse_impossible(&*engine, &options)?;
            if !point.segments.is_empty() {
                let (base, count) = (&manifest.header.backup, point.segments.len());
                let message =
                    format!("a snapshot is made of a backup alone, and this state is {base} with {count} segments");
                return Err(
                    CopalError::new(ErrorKind::Usage, message).with_hint(format!("the backup alone has the id {base}"))
                );
            }
            return self.restore_as_snapshot(name, engine, repository, &database, point.manifest, context).await;
        }
        let target = match options.to.as_deref() {
            Some(target) => parse(target)?,
            None => self.source_of(manifest)?,
        };
        refuse_foreign(&*engine, &target)?;
        refuse_impossible(&*engine, &options)?;
        let brief = marked(repository, &database, Summary::of(manifest)).await?;
        let request = RestoreRequest {
            replace: options.replace,
            check: options.check,
            dry_run: options.dry_run,
            keep_old: options.keep_old,
            objects: options.objects.clone(),
            expected: Some(point.inventory().clone()),
            ..RestoreRequest::new(target)
        };
        context.phase("restoring", Some(point.logical_bytes()));
        let until = point.segments.last().map(segment);
        let content = point.content(repository, &database);
        let for_engine = context.clone();
        let restored = blocking(move || engine.restore(&content, &request, &for_engine)).await??;
        Ok(RestoreOutcome {
            backup: summary(&database.name, &brief),
            segment: until,
            target: restored.target,
            replaced: restored.replaced,
            dry_run: options.dry_run,
            checks: restored.check.ran,
            notes: [restored.notes, restored.check.impossible].concat(),
        })
    }
}

fn parse(target: &str) -> Result<Source> {
    Source::parse(target).map_err(|e| CopalError::new(ErrorKind::Usage, e.to_string()))
}

/// Refuses a target that is none of this engine's.
fn refuse_foreign(engine: &dyn Engine, target: &Source) -> Result<()> {
    let can = engine.capabilities();
    let fits = match target.scheme() {
        Some("file") => can.archives,
        Some(scheme) => can.schemes.contains(&scheme),
        None => can.is_file,
    };
    if fits {
        return Ok(());
    }
    let message = format!("a backup of {} cannot be restored to {target}", engine.name());
    let error = CopalError::new(ErrorKind::Usage, message);
    Err(match can.archives {
        true => error.with_hint(format!("write {}://… or, for an archive, file:PATH", engine.name())),
        false => error,
    })
}

/// Refuses what this engine cannot do, before anything is done.
fn refuse_impossible(engine: &dyn Engine, options: &RestoreOptions) -> Result<()> {
    let can = engine.capabilities();
    let refuse = |message: String| Err(CopalError::new(ErrorKind::Usage, message));
    if !options.objects.is_empty() && !can.objects {
        return refuse(format!("a backup of {} can only be restored as a whole", engine.name()));
    }
    if !options.objects.is_empty() && options.replace {
        return refuse(
            "tables are restored into the database that is there; --replace is for whole databases".to_owned(),
        );
    }
    let is_partial = options.to.is_some() || options.replace || options.keep_old || !options.objects.is_empty();
    if options.as_snapshot.is_some() && (is_partial || options.dry_run) {
        return refuse("a backup becomes a snapshot as a whole, beside its database".to_owned());
    }
    if options.keep_old && !can.keep_old {
        return refuse(format!("{} cannot keep the old database; restore to another place with --to", engine.name()));
    }
    Ok(())
}
