//! Listing backups quickly: what their manifests say in short, kept in the local state once it was read.

use std::collections::BTreeMap;

use copal_core::{BackupId, ManifestBody};
use copal_storage::ObjectPath;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Database, Manifest};
use crate::error::{RepositoryError, Result, exchanged_record};
use crate::layout;
use crate::plan;
use crate::repository::Repository;
use crate::state::KnownNewest;

const CACHE: &str = "summaries.json";
/// Manifests read at the same time.
const PARALLEL: usize = 32;
/// How long the absence of a predecessor can be told from its removal: tombstones live 30 days.
const CHAIN_MEMORY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// An object of a backup that is missing or not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBackup {
    /// The backup.
    pub backup: Option<BackupId>,
    /// The object.
    pub object: ObjectPath,
    /// What is wrong with it.
    pub problem: String,
}

impl DamagedBackup {
    pub(crate) fn of(error: &RepositoryError, backup: &BackupId) -> Option<Self> {
        Some(Self { backup: Some(backup.clone()), ..Self::without_id(error)? })
    }

    /// Damage that is of no backup in particular.
    pub(crate) fn without_id(error: &RepositoryError) -> Option<Self> {
        let object = error.object.clone()?;
        let prefix = format!("{object}: ");
        let problem = error.message.strip_prefix(&prefix).unwrap_or(&error.message).to_owned();
        Some(Self { backup: None, object, problem })
    }
}

/// What a listing says about one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: BackupId,
    /// The engine's name.
    pub engine: String,
    /// The user's label.
    pub label: Option<String>,
    /// Where the database was.
    pub source: String,
    /// When the captured view was opened.
    pub captured_at: Timestamp,
    /// Size of the database.
    pub logical_bytes: u64,
    /// Bytes that this backup added.
    pub added_bytes: u64,
    /// Bytes of all packs that it needs.
    pub stored_bytes: u64,
    /// The backup before it.
    pub predecessor: Option<BackupId>,
    /// Kept for ever. Not part of the manifest.
    #[serde(skip)]
    pub pinned: bool,
    /// All content was read back. Not part of the manifest.
    #[serde(skip)]
    pub verified: bool,
}

impl Summary {
    /// The summary of a manifest, marks not considered.
    pub fn of(manifest: &Manifest) -> Self {
        let ManifestBody { engine, label, source, captured_at, .. } = &manifest.body;
        let ManifestBody { logical_bytes, added_bytes, stored_bytes, .. } = &manifest.body;
        Self {
            id: manifest.header.backup.clone(),
            engine: engine.clone(),
            label: label.clone(),
            source: source.clone(),
            captured_at: *captured_at,
            logical_bytes: *logical_bytes,
            added_bytes: *added_bytes,
            stored_bytes: *stored_bytes,
            predecessor: manifest.header.predecessor.clone(),
            pinned: false,
            verified: false,
        }
    }
}

/// All backups of a database, oldest first, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The backups whose manifests can be read.
    pub backups: Vec<Summary>,
    /// Manifests that cannot be read, backups that are missing.
    pub damaged: Vec<DamagedBackup>,
}

#[derive(Default, Serialize, Deserialize)]
struct Cache {
    /// By id: size of the manifest object and what it says.
    summaries: BTreeMap<BackupId, (u64, Summary)>,
}

impl Repository {
    /// Lists the backups of a database. Content is not read; damage of manifests is part of the answer.
    pub async fn listing(&self, database: &Database) -> Result<Listing> {
        let catalog = self.catalog(&database.name).await?;
        let state = self.database_state(database);
        let mut cache: Cache = state.read(CACHE).unwrap_or_default();
        let before = cache.summaries.len();
        cache.summaries.retain(|id, (size, _)| catalog.backups.get(id).is_some_and(|info| info.size == *size));
        let mut changed = cache.summaries.len() != before;
        let missing: Vec<BackupId> =
            catalog.backups.keys().filter(|id| !cache.summaries.contains_key(*id)).cloned().collect();
        let mut listing = Listing::default();
        let read = futures::stream::iter(missing).map(|id| async move {
            let manifest = self.manifest(database, &id).await;
            (id, manifest)
        });
        let mut read = read.buffer_unordered(PARALLEL);
        let mut others = false;
        while let Some((id, manifest)) = read.next().await {
            match manifest {
                Ok(manifest) => {
                    let size = catalog.backups.get(&id).map_or(0, |info| info.size);
                    cache.summaries.insert(id, (size, Summary::of(&manifest)));
                    changed = true;
                }
                Err(e) if e.is_damage() => {
                    others |= e.is_other_database();
                    listing.damaged.extend(DamagedBackup::of(&e, &id));
                }
                // Pruned since the listing.
                Err(e) if e.kind() == crate::RepositoryErrorKind::Pruned => {}
                Err(e) if e.kind() == crate::RepositoryErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if others && cache.summaries.is_empty() {
            // What this machine remembers is about the other database, too.
            listing.damaged.extend(DamagedBackup::without_id(&exchanged_record(&database.name)));
            return Ok(listing);
        }
        if changed {
            state.write(CACHE, &cache);
        }
        // What is remembered may be younger than the catalog.
        if let Some(missing) = self.rollback(database, &catalog)
            && !self.exists(&missing.object).await?
        {
            listing.damaged.push(missing);
        }
        listing.damaged.extend(self.journal_rollback(database, &catalog).await?);
        let predecessors = cache.summaries.values().map(|(_, s)| (s.id.clone(), s.predecessor.clone()));
        let lost = self.lost(database, &catalog, predecessors.collect()).await?;
        listing.damaged.extend(lost);
        listing.backups = cache.summaries.into_values().map(|(_, summary)| summary).collect();
        for summary in &mut listing.backups {
            summary.pinned = catalog.pinned.contains(&summary.id);
            summary.verified = catalog.verified.contains(&summary.id);
        }
        if let Some(newest) = listing.backups.last().filter(|n| Some(&n.id) == catalog.newest())
            && listing.damaged.is_empty()
            && state.newest().is_none_or(|known| known.backup < newest.id)
        {
            state.remember_newest(&KnownNewest { backup: newest.id.clone(), manifest_hash: String::new() });
        }
        Ok(listing)
    }

    /// Predecessors that are neither there nor removed in the way in which Copal removes.
    async fn lost(
        &self,
        database: &Database,
        catalog: &Catalog,
        predecessors: Vec<(BackupId, Option<BackupId>)>,
    ) -> Result<Vec<DamagedBackup>> {
        let now = self.options.clock.wall();
        let is_recent = |time: Timestamp| now.duration_since(time) < CHAIN_MEMORY;
        let candidates: Vec<BackupId> = predecessors
            .into_iter()
            .filter(|(id, _)| is_recent(id.time()) && catalog.backups.get(id).is_some_and(|i| is_recent(i.modified)))
            .filter_map(|(_, predecessor)| predecessor)
            .filter(|id| !catalog.backups.contains_key(id) && !catalog.tombstones.contains_key(id))
            .collect();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let planned = plan::planned(self, database).await?;
        let lost = candidates.into_iter().filter(|id| !planned.manifests.contains(id));
        let lost = lost.map(|id| DamagedBackup {
            object: layout::backup(&database.name, &id),
            problem: "is missing: a later backup names it, and no prune removed it".into(),
            backup: Some(id),
        });
        Ok(planned.unreadable.iter().filter_map(DamagedBackup::without_id).chain(lost).collect())
    }
}

/// Backups that the newest manifests name and that are missing; for whoever has a catalog but wants no listing.
pub(crate) async fn missing_backups(
    repository: &Repository,
    database: &Database,
    catalog: &Catalog,
) -> Result<Vec<DamagedBackup>> {
    let Some(newest) = catalog.newest() else { return Ok(Vec::new()) };
    let predecessor = match repository.manifest(database, newest).await {
        Ok(manifest) => manifest.header.predecessor,
        Err(e) if e.is_damage() => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    repository.lost(database, catalog, vec![(newest.clone(), predecessor)]).await
}
