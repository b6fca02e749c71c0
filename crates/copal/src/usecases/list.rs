//! Listing and showing backups, and pinning them.

use copal_core::Context;
use copal_repository::{Database, Mark, Repository, Summary};

use super::{BackupChoice, Copal};
use crate::outcome::{damaged_objects, summary};
use crate::{BackupDetails, BackupSummary, DatabaseListing, ErrorKind, Result};

impl Copal {
    /// Lists the backups of one database or of all. Cheap: content is not read. Damage is in the answer, not an error.
    pub async fn list(&self, database: Option<&str>) -> Result<Vec<DatabaseListing>> {
        let repository = self.repository().await?;
        let mut listings = Vec::new();
        match database {
            Some(name) => listings.push(listing(repository, &self.stored(repository, name).await?).await?),
            None => {
                for name in repository.database_names().await? {
                    match repository.database(&name).await {
                        Ok(Some(database)) => listings.push(listing(repository, &database).await?),
                        Ok(None) => {}
                        Err(error) if error.is_damage() => listings.push(DatabaseListing {
                            name: name.to_string(),
                            source: String::new(),
                            backups: Vec::new(),
                            damaged: crate::outcome::damaged_object(&name, None, &error).into_iter().collect(),
                            database: name,
                        }),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(listings)
    }

    /// Tells everything about one backup.
    pub async fn show(&self, database: &str, backup: BackupChoice) -> Result<BackupDetails> {
        let repository = self.repository().await?;
        let database = self.stored(repository, database).await?;
        let manifest = self.choose(repository, &database, &backup).await?;
        let brief = marked(repository, &database, Summary::of(&manifest)).await?;
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

async fn listing(repository: &Repository, database: &Database) -> Result<DatabaseListing> {
    let listing = repository.listing(database).await?;
    Ok(DatabaseListing {
        database: database.name.clone(),
        name: database.record.name.clone(),
        source: listing.backups.last().map_or(&database.record.source, |newest| &newest.source).clone(),
        backups: listing.backups.iter().map(|brief| summary(&database.name, brief)).collect(),
        damaged: damaged_objects(&database.name, listing.damaged),
    })
}

/// Adds what the marks say.
pub(super) async fn marked(repository: &Repository, database: &Database, mut brief: Summary) -> Result<Summary> {
    let catalog = repository.catalog(&database.name).await?;
    brief.pinned = catalog.has(&brief.id, Mark::Pinned);
    brief.verified = catalog.has(&brief.id, Mark::Verified);
    Ok(brief)
}
