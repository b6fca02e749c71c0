//! Reading backups back, and drills.

use copal_core::{BackupId, CheckLevel, Content, Context, Engine, EngineErrorKind, Inventory, RestoreRequest, Source};
use copal_repository::{Database, Manifest, Repository};

use super::find::{Found, open_or_salvage};
use super::point::Point;
use super::{Copal, VerifyOptions, WhichBackups, blocking};
use crate::outcome::{damaged_object, damaged_objects};
use crate::{CopalError, DamagedObject, DrillOutcome, ErrorKind, Result, VerifyOutcome};

impl Copal {
    /// Reads backups back, all content, and drills them if asked to. Damage is in the outcome, not an error.
    pub async fn verify(
        &self,
        database: Option<&str>,
        options: VerifyOptions,
        context: &Context,
    ) -> Result<Vec<VerifyOutcome>> {
        let repository = self.repository().await?;
        let mut outcomes = Vec::new();
        if let Some(name) = database {
            let found = self.found(repository, name).await?;
            self.verify_database(repository, &found, &options, context, &mut outcomes).await?;
            return Ok(outcomes);
        }
        if let WhichBackups::Id(_) = options.backups {
            return Err(CopalError::new(ErrorKind::Usage, "to verify one backup, name its database too"));
        }
        for name in repository.database_names().await? {
            match open_or_salvage(repository, &name).await {
                Ok(Some(found)) => {
                    self.verify_database(repository, &found, &options, context, &mut outcomes).await?;
                }
                Ok(None) => {}
                Err(error) if error.kind().exit_code() == ErrorKind::Damage.exit_code() => {
                    // No manifest of this database can be opened.
                    let object = |id: &BackupId| DamagedObject {
                        database: name.clone(),
                        backup: Some(id.clone()),
                        object: format!("databases/{name}/database"),
                        problem: error.to_string(),
                    };
                    let ids = repository.catalog(&name).await?.backups.into_keys();
                    outcomes.extend(ids.map(|id| unreadable(&name, id.clone(), vec![object(&id)])));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(outcomes)
    }

    async fn verify_database(
        &self,
        repository: &Repository,
        found: &Found,
        options: &VerifyOptions,
        context: &Context,
        outcomes: &mut Vec<VerifyOutcome>,
    ) -> Result<()> {
        let (database, name) = (&found.database, &found.database.name);
        let listing = repository.listing(database).await?;
        let record = found.record_damage.as_ref().and_then(|e| damaged_object(name, None, e));
        let newest_readable = listing.backups.last().map(|b| b.id.clone());
        // What is missing or cannot be opened concerns the newest state of the database, whichever backup was asked for. What is
        // missing of a journal is found with its backup.
        let of_journals = format!("databases/{name}/journal/");
        let damaged = damaged_objects(name, listing.damaged).into_iter();
        for object in damaged.filter(|object| !object.object.starts_with(&of_journals)) {
            let id = object.backup.clone();
            let is_wanted = match (&options.backups, &id) {
                (WhichBackups::Id(wanted), Some(id)) => wanted == id,
                (WhichBackups::Latest, Some(id)) => newest_readable.as_ref().is_none_or(|newest| id > newest),
                _ => true,
            };
            if let Some(id) = id.filter(|_| is_wanted) {
                outcomes.push(unreadable(name, id, vec![object]));
            }
        }
        let ids: Vec<BackupId> = match &options.backups {
            WhichBackups::Latest => newest_readable.into_iter().collect(),
            WhichBackups::Id(id) if outcomes.iter().any(|o| o.id == *id) => Vec::new(),
            WhichBackups::Id(id) => vec![id.clone()],
            WhichBackups::All => listing.backups.into_iter().map(|b| b.id).collect(),
        };
        for id in ids {
            context.cancel.check()?;
            match repository.manifest(database, &id).await {
                Ok(manifest) => {
                    let mut outcome =
                        self.verify_backup(repository, database, manifest, options.drill, context).await?;
                    // The content is whole, and yet something is damaged: say so with every backup.
                    outcome.damaged.extend(record.clone());
                    outcomes.push(outcome);
                }
                Err(error) if error.is_damage() => {
                    outcomes.push(unreadable(
                        name,
                        id.clone(),
                        damaged_object(name, Some(&id), &error).into_iter().collect(),
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn verify_backup(
        &self,
        repository: &Repository,
        database: &Database,
        manifest: Manifest,
        drill: bool,
        context: &Context,
    ) -> Result<VerifyOutcome> {
        let id = manifest.header.backup.clone();
        // What is damaged in it is found and named below.
        let segments = repository.sound_journal(database, &manifest).await?.0.segments;
        let point = Point { manifest, segments };
        let (bytes, segments) = (point.logical_bytes(), point.segments.len());
        context.phase(format!("verifying {id}"), Some(bytes));
        let found = repository.verify(database, point.manifest.clone(), context).await?;
        let damaged: Vec<DamagedObject> = found
            .into_iter()
            .map(|d| DamagedObject {
                database: database.name.clone(),
                backup: Some(id.clone()),
                object: d.object.to_string(),
                problem: d.problem,
            })
            .collect();
        let drill = match (drill, damaged.is_empty()) {
            (false, _) => None,
            (true, false) => Some(impossible("parts of the backup are damaged".to_owned())),
            (true, true) => Some(self.drill(repository, database, point, context).await?),
        };
        Ok(VerifyOutcome {
            database: database.name.clone(),
            time: Some(id.time()),
            id,
            verified: damaged.is_empty(),
            verified_bytes: bytes,
            segments,
            drill,
            damaged,
        })
    }

    /// Restores the backup and its journal to a scratch place, checks it there and compares it with the newest inventory.
    async fn drill(
        &self,
        repository: &Repository,
        database: &Database,
        point: Point,
        context: &Context,
    ) -> Result<DrillOutcome> {
        let engine = self.engines.named(&point.manifest.body.engine)?;
        let source = self.source_of(&point.manifest)?;
        let inventory = point.inventory().clone();
        context.phase("restoring for the drill", Some(point.logical_bytes()));
        let content = point.content(repository, database);
        let context = context.clone();
        let drilled = blocking(move || {
            let folder = tempfile::Builder::new().prefix("copal-drill-").tempdir().map_err(|e| {
                CopalError::new(ErrorKind::Failed, "no temporary folder could be made for the drill").because(e)
            })?;
            let scratch = engine.scratch(&source, folder.path())?;
            let drilled = drill_at(&*engine, &scratch.source, &content, &inventory, &context);
            let discarded = (scratch.discard)();
            let drilled = drilled?;
            discarded?;
            Ok(drilled)
        });
        drilled.await?
    }
}

/// Restores to a scratch place and compares what is there with the inventory.
fn drill_at(
    engine: &dyn Engine,
    target: &Source,
    content: &dyn Content,
    inventory: &Inventory,
    context: &Context,
) -> Result<DrillOutcome> {
    let request = RestoreRequest { check: CheckLevel::Full, ..RestoreRequest::new(target.clone()) };
    let restored = match engine.restore(content, &request, context) {
        Ok(restored) => restored,
        // What could not be tried says nothing about the backup; what was tried and is unsound does.
        Err(e) if e.kind() == EngineErrorKind::NoSpace => return Ok(impossible(full_text(&e))),
        Err(e) if e.kind() == EngineErrorKind::Corrupt => {
            let problems = vec![full_text(&e)];
            return Ok(DrillOutcome { performed: true, checks: Vec::new(), problems, differences: Vec::new() });
        }
        Err(e) => return Err(CopalError::from(e)),
    };
    let found = engine.inventory(target, context)?;
    let differences = inventory.compare(&found);
    // What was checked was found sound, but a drill is the whole of it; a difference is one in any case.
    let performed = restored.check.impossible.is_empty() || !differences.is_empty();
    let problems = [restored.check.problems, restored.check.impossible].concat();
    Ok(DrillOutcome { performed, checks: restored.check.ran, problems, differences })
}

fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn impossible(why: String) -> DrillOutcome {
    DrillOutcome { performed: false, checks: Vec::new(), problems: vec![why], differences: Vec::new() }
}

fn unreadable(database: &copal_core::FolderName, id: BackupId, damaged: Vec<DamagedObject>) -> VerifyOutcome {
    VerifyOutcome {
        database: database.clone(),
        id,
        time: None,
        verified: false,
        verified_bytes: 0,
        segments: 0,
        drill: None,
        damaged,
    }
}
