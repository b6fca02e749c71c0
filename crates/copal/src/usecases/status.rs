//! Is everything protected: judged by manifests, marks and what is promised. No content is read.
//!
//! What is promised comes from the configuration; about a database that it does not know, from the clear header of the newest
//! manifest, so that one place can watch all hosts that write to one repository.

mod judge;
mod promise;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use copal_core::{BackupId, FolderName};
use copal_repository::{Catalog, Database, Listing, Manifest, Repository, RepositoryErrorKind, SegmentSummary};
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use self::judge::{Judgement, Known, Newest, age_seconds, judge};
use self::promise::Promised;
use super::Copal;
use super::find::{Found, open_or_salvage};
use super::names::member_folder;
use crate::outcome::{damaged_object, damaged_objects};
use crate::{BackupAge, DamagedObject, DatabaseStatus, ErrorKind, Result, StatusProblem, StatusProblemKind};

/// Databases looked at at the same time.
const PARALLEL: usize = 16;

/// What is looked at: folders of the repository, and configured databases that have to be among them.
#[derive(Default)]
struct Wanted {
    folders: BTreeSet<FolderName>,
    expected: BTreeSet<String>,
}

impl Copal {
    /// Tells of every database of the configuration and of the repository (or of those named) whether it is protected, and
    /// why not. A server that is configured as a whole is told by its databases that have backups.
    ///
    /// Errors: `NotFound` for a name that nobody knows, and without a repository if nothing is configured either.
    pub async fn status(&self, databases: &[String]) -> Result<Vec<DatabaseStatus>> {
        let now = Timestamp::now();
        let repository = match self.repository().await {
            Ok(repository) => repository,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let named = databases.iter().map(|name| self.named(name).to_owned());
                let expected: BTreeSet<String> = match databases.is_empty() {
                    true => self.settings.databases.keys().cloned().collect(),
                    false => named.collect(),
                };
                if expected.is_empty() || !expected.iter().all(|name| self.settings.databases.contains_key(name)) {
                    return Err(error);
                }
                let missing = |name: &String| self.without_backups(name, &error.to_string(), now);
                return Ok(expected.iter().map(missing).collect());
            }
            Err(error) => return Err(error),
        };
        let Wanted { folders, expected } = self.wanted(repository, databases).await?;
        let configured = self.settings.databases.keys();
        let configured: BTreeMap<_, _> =
            configured.map(|name| (FolderName::nearest(name, 64), name.as_str())).collect();
        let looks = futures::stream::iter(folders).map(|folder| {
            let name = configured.get(&folder).copied();
            async move { self.look(repository, folder, name, now).await }
        });
        let found: Vec<Option<DatabaseStatus>> = looks.buffer_unordered(PARALLEL).try_collect().await?;
        let mut statuses: Vec<DatabaseStatus> = found.into_iter().flatten().collect();
        let found: BTreeSet<FolderName> = statuses.iter().map(|status| status.database.clone()).collect();
        for name in expected {
            let folder = FolderName::nearest(&name, 64);
            let members = self.is_whole_server(&name).then(|| format!("{folder}."));
            let is_it = |found: &FolderName| {
                *found == folder || members.as_ref().is_some_and(|start| found.as_str().starts_with(start))
            };
            if !found.iter().any(is_it) {
                statuses.push(self.without_backups(&name, "there is no backup yet", now));
            }
        }
        statuses.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(statuses)
    }

    async fn wanted(&self, repository: &Repository, databases: &[String]) -> Result<Wanted> {
        let stored = repository.database_names().await?;
        if databases.is_empty() {
            let expected = self.settings.databases.keys().cloned().collect();
            return Ok(Wanted { folders: stored.into_iter().collect(), expected });
        }
        let mut wanted = Wanted::default();
        for database in databases {
            let name = self.named(database);
            if !self.settings.databases.contains_key(name) {
                wanted.folders.insert(self.found(repository, database).await?.database.name);
                continue;
            }
            let folder = FolderName::nearest(name, 64);
            if self.is_whole_server(name) {
                let start = format!("{folder}.");
                wanted.folders.extend(stored.iter().filter(|stored| stored.as_str().starts_with(&start)).cloned());
            }
            wanted.folders.insert(folder);
            wanted.expected.insert(name.to_owned());
        }
        Ok(wanted)
    }

    /// Looks at one folder of the repository; `None` if there is no database in it.
    async fn look(
        &self,
        repository: &Repository,
        folder: FolderName,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<DatabaseStatus>> {
        let Found { database, record_damage } = match open_or_salvage(repository, &folder).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if error.kind().exit_code() == ErrorKind::Damage.exit_code() => {
                let problem = StatusProblem { kind: StatusProblemKind::Damage, message: error.to_string() };
                let judgement = Judgement { problems: vec![problem], ..Judgement::default() };
                return Ok(Some(blank(folder, name, judgement)));
            }
            Err(error) => return Err(error),
        };
        let (catalog, listing, journals) = futures::try_join!(
            repository.catalog(&folder),
            repository.listing(&database),
            repository.journal_listing(&database)
        )?;
        let mut damaged = damaged_objects(&folder, listing.damaged.clone());
        for object in damaged_objects(&folder, journals.damaged) {
            if !damaged.contains(&object) {
                damaged.push(object);
            }
        }
        damaged.extend(record_damage.as_ref().and_then(|error| damaged_object(&folder, None, error)));
        let manifest = newest_readable(repository, &database, &listing, &mut damaged).await?;

        let is_member = member_folder(&database.record.name) == folder;
        let server = is_member.then(|| self.parent(&database.record.name)).flatten();
        let (shown, settings) = match (name, server) {
            (Some(name), _) => (Some(name), self.settings.databases.get(name)),
            (None, Some((server, _))) => (Some(database.record.name.as_str()), Some(server)),
            (None, None) => (None, None),
        };
        let promised = match (settings, &manifest) {
            (Some(settings), _) => Promised::configured(settings, &self.settings.timezone),
            (None, Some(manifest)) => Promised::recorded(&manifest.header.promise),
            (None, None) => Promised::default(),
        };
        let verified = catalog.verified.last().cloned();
        let since = |id: &&BackupId| verified.as_ref().is_none_or(|verified| *id > verified);
        let known = Known {
            newest: manifest.as_ref().map(|manifest| newest(manifest, &catalog, &journals.journals)),
            // The older of the two; each is sorted.
            unverified: [catalog.backups.keys().find(since), catalog.tombstones.keys().find(since)]
                .into_iter()
                .flatten()
                .min()
                .cloned(),
            verified: verified.clone(),
            damaged,
        };
        let judgement = judge(&known, &promised, now);
        let age = |id: &BackupId, then: Timestamp| BackupAge {
            id: id.clone(),
            time: id.time(),
            age_seconds: age_seconds(then, now),
        };
        let mut status = blank(folder, shown, judgement);
        status.tell_promise(&promised, now);
        status.engine = Some(database.record.engine).filter(|engine| !engine.is_empty());
        status.source = Some(database.record.source).filter(|source| !source.is_empty());
        status.backups = listing.backups.len();
        status.last_verified = verified.map(|id| age(&id, id.time()));
        let saved_at = known.newest.as_ref().map(|newest| newest.captured_at);
        if let (Some(Manifest { header, body, .. }), Some(saved_at)) = (manifest, saved_at) {
            status.last_backup = Some(age(&header.backup, saved_at));
            status.engine = Some(body.engine);
            status.source = Some(body.source);
            status.host = Some(body.host);
        }
        Ok(Some(status))
    }

    /// A configured database of which the repository has nothing.
    fn without_backups(&self, name: &str, why: &str, now: Timestamp) -> DatabaseStatus {
        let problem = StatusProblem { kind: StatusProblemKind::NoBackup, message: why.to_owned() };
        let judgement = Judgement { problems: vec![problem], ..Judgement::default() };
        let mut status = blank(FolderName::nearest(name, 64), Some(name), judgement);
        if let Some(settings) = self.settings.databases.get(name) {
            status.tell_promise(&Promised::configured(settings, &self.settings.timezone), now);
            status.source = copal_core::Source::parse(&settings.url).ok().map(|source| source.redacted());
        }
        status
    }
}

impl DatabaseStatus {
    fn tell_promise(&mut self, promised: &Promised, now: Timestamp) {
        let schedule = promised.schedule.as_ref().map(|timetable| timetable.schedule.as_str().to_owned());
        self.schedule = schedule.or_else(|| promised.unreadable.clone());
        self.max_age_seconds = promised.max_age.map(|age| age.as_secs());
        self.next_run = promised.next_run(&self.name, now);
    }
}

/// A status of which only the judgement is known.
fn blank(folder: FolderName, configured: Option<&str>, judgement: Judgement) -> DatabaseStatus {
    DatabaseStatus {
        name: configured.map_or_else(|| folder.to_string(), str::to_owned),
        database: folder,
        configured: configured.is_some(),
        protected: judgement.problems.is_empty(),
        problems: judgement.problems,
        notes: judgement.notes,
        stale_after: judgement.stale_after,
        engine: None,
        source: None,
        host: None,
        backups: 0,
        last_backup: None,
        last_verified: None,
        schedule: None,
        max_age_seconds: None,
        next_run: None,
    }
}

/// The newest manifest that can be read. A listing may remember what has been damaged since.
async fn newest_readable(
    repository: &Repository,
    database: &Database,
    listing: &Listing,
    damaged: &mut Vec<DamagedObject>,
) -> Result<Option<Manifest>> {
    for brief in listing.backups.iter().rev() {
        match repository.manifest(database, &brief.id).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(error) if error.is_damage() => {
                damaged.extend(damaged_object(&database.name, Some(&brief.id), &error));
            }
            // Pruned since the listing.
            Err(error) if matches!(error.kind(), RepositoryErrorKind::Pruned | RepositoryErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The newest state that is saved: of the backup, or of the last segment of its journal.
fn newest(manifest: &Manifest, catalog: &Catalog, journals: &BTreeMap<BackupId, Vec<SegmentSummary>>) -> Newest {
    let id = &manifest.header.backup;
    let saved_at = journals.get(id).and_then(|segments| segments.last()).map(|last| last.time);
    let finished = catalog.backups.get(id).map(|info| info.modified);
    Newest {
        id: id.clone(),
        captured_at: saved_at.unwrap_or(manifest.body.captured_at),
        host: manifest.body.host.clone(),
        took: finished.map_or(SignedDuration::ZERO, |time| time.duration_since(manifest.body.captured_at)),
    }
}
