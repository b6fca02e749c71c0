//! Listing and showing backups, and pinning them.

use std::collections::BTreeMap;

use copal_core::Context;
use copal_repository::{Database, JournalListing, Mark, Repository, Summary};

use super::find::{Found, open_or_salvage};
use super::{BackupChoice, Copal};
use crate::outcome::{damaged_object, damaged_objects, listed_segment, summary};
use crate::{BackupDetails, BackupSummary, CopalError, DamagedObject, DatabaseListing, ErrorKind, FolderName, Result};

impl Copal {
    /// Lists the backups of one database or of all. Cheap: content is not read. Damage is in the answer, not an error.
    pub async fn list(&self, database: Option<&str>) -> Result<Vec<DatabaseListing>> {
        let repository = self.repository().await?;
        let mut listings = Vec::new();
        match database {
            Some(name) => listings.push(listing(repository, &self.found(repository, name).await?).await?),
            None => {
                for name in repository.database_names().await? {
                    match open_or_salvage(repository, &name).await {
                        Ok(Some(found)) => listings.push(listing(repository, &found).await?),
                        Ok(None) => {}
                        Err(error) if error.kind().exit_code() == DAMAGE => listings.push(unreadable(name, &error)),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(listings)
    }

    /// Tells everything about one backup.
    pub async fn show(&self, database: &str, backup: BackupChoice) -> Result<BackupDetails> {
        let repository = self.repository().await?;
        let database = self.found(repository, database).await?.database;
        let manifest = self.choose(repository, &database, &backup).await?;
        let brief = marked(repository, &database, Summary::of(&manifest)).await?;
        let journal = journals(repository, &database).await?.journals.remove(&manifest.header.backup);
        let (header, body) = (manifest.header, manifest.body);
        Ok(BackupDetails {
            summary: summary(&database.name, &brief),
            source: body.source,
            host: body.host,
            engine_version: body.engine_version,
            copal_version: body.copal_version,
            captured_at: body.captured_at,
            predecessor: header.predecessor,
            files: body.files.iter().map(|f| (f.name().to_owned(), f.length())).collect(),
            packs: header.packs.len(),
            inventory: body.inventory,
            position: body.position,
            notes: body.notes.into_iter().chain(body.warnings).collect(),
            journal: journal.unwrap_or_default().iter().map(listed_segment).collect(),
        })
    }

    /// Keeps a backup for ever, or no longer.
    pub async fn set_pinned(&self, database: &str, backup: BackupChoice, pinned: bool) -> Result<BackupSummary> {
        let repository = self.repository().await?;
        let database = self.stored(repository, database).await?;
        let manifest = self.choose(repository, &database, &backup).await?;
        repository.set_pinned(&database, &manifest.header.backup, pinned, &Context::silent()).await?;
        let brief = marked(repository, &database, Summary::of(&manifest)).await?;
        Ok(summary(&database.name, &brief))
    }

    /// Names of all databases: configured ones and those in the repository. Without a repository, the configured ones.
    pub async fn database_names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.settings.databases.keys().cloned().collect();
        match self.repository().await {
            Ok(repository) => {
                for name in repository.database_names().await? {
                    if !names.iter().any(|n| *n == name.to_string()) {
                        names.push(name.to_string());
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        names.sort();
        Ok(names)
    }
}

/// The exit code of everything that means damage.
const DAMAGE: u8 = ErrorKind::Damage.exit_code();

/// A database of which nothing can be read.
fn unreadable(name: FolderName, error: &CopalError) -> DatabaseListing {
    let damaged = DamagedObject {
        database: name.clone(),
        backup: None,
        object: format!("databases/{name}/database"),
        problem: error.to_string(),
    };
    let (source, backups, journal) = (String::new(), Vec::new(), BTreeMap::new());
    DatabaseListing { name: name.to_string(), database: name, source, backups, journal, damaged: vec![damaged] }
}

async fn listing(repository: &Repository, found: &Found) -> Result<DatabaseListing> {
    let database = &found.database;
    let listing = repository.listing(database).await?;
    let journals = journals(repository, database).await?;
    let mut damaged = damaged_objects(&database.name, listing.damaged);
    for object in damaged_objects(&database.name, journals.damaged) {
        if !damaged.contains(&object) {
            damaged.push(object);
        }
    }
    let record = found.record_damage.as_ref().and_then(|e| damaged_object(&database.name, None, e));
    damaged.extend(record.filter(|record| !damaged.iter().any(|d| d.object == record.object)));
    Ok(DatabaseListing {
        database: database.name.clone(),
        name: database.record.name.clone(),
        source: listing.backups.last().map_or(&database.record.source, |newest| &newest.source).clone(),
        backups: listing.backups.iter().map(|brief| summary(&database.name, brief)).collect(),
        journal: journals
            .journals
            .into_iter()
            .map(|(base, segments)| (base, segments.iter().map(listed_segment).collect()))
            .collect(),
        damaged,
    })
}

/// The journals of a database; most have none.
pub(super) async fn journals(repository: &Repository, database: &Database) -> Result<JournalListing> {
    Ok(repository.journal_listing(database).await?)
}

/// Adds what the marks say.
pub(super) async fn marked(repository: &Repository, database: &Database, mut brief: Summary) -> Result<Summary> {
    let catalog = repository.catalog(&database.name).await?;
    brief.pinned = catalog.has(&brief.id, Mark::Pinned);
    brief.verified = catalog.has(&brief.id, Mark::Verified);
    Ok(brief)
}
