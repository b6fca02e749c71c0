//! Making a backup: lease, base, content, manifest; docs/format.md, "What exists".

use std::sync::Arc;

use copal_core::{
    AnyError, BackupId, Context, FORMAT_VERSION, FileHandle, FolderName, Follows, Inventory, ManifestBody,
    ManifestHeader, PageFileSpec, Promise, Sink,
};
use jiff::Timestamp;

use crate::catalog::{Catalog, Database, Manifest};
use crate::document;
use crate::error::{RepositoryError, RepositoryErrorKind, Result, exchanged_record};
use crate::frame::Kind;
use crate::layout::{self, Mark};
use crate::listing::{DamagedBackup, missing_backups};
use crate::operation::Operation;
use crate::plan::{self, Blocked};
use crate::repository::Repository;
use crate::session::{self, CLOCK_TOLERANCE, Making};
use crate::state::KnownNewest;
use crate::writer::{Base, WriteOptions, Writer, Written, save_cache};

/// What the engine and the caller know about a finished backup.
#[derive(Clone, Debug, Default)]
pub struct BackupFacts {
    /// The engine's name.
    pub engine: String,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// Version of the program.
    pub copal_version: String,
    /// This machine.
    pub host: String,
    /// Where the database is, without secrets.
    pub source: String,
    /// The user's label.
    pub label: Option<String>,
    /// When the captured view was opened.
    pub captured_at: Timestamp,
    /// What the database contained.
    pub inventory: Inventory,
    /// Where the backup stands in the database's own history.
    pub position: Option<String>,
    /// The end of the journal that was saved before, if it is known.
    pub follows: Option<Follows>,
    /// Remarks of the engine.
    pub notes: Vec<String>,
    /// Warnings so far.
    pub warnings: Vec<String>,
    /// What the policy promises.
    pub promise: Promise,
    /// Keep it for ever.
    pub pin: bool,
}

/// A backup under way: the lease is held, nothing exists yet.
pub struct BackupSession {
    repository: Repository,
    database: Database,
    operation: Arc<Operation>,
    id: BackupId,
    predecessor: Option<BackupId>,
    base: Option<BackupId>,
    /// Worth telling the user; already in the context's warnings.
    warnings: Vec<String>,
    /// Damage that was met on the way; the new backup does not share it.
    damaged: Vec<DamagedBackup>,
}

/// Takes the content of a backup or a segment; `Send`, and used outside of async code.
pub struct BackupSink(Writer);

impl BackupSink {
    pub(crate) fn new(writer: Writer) -> Self {
        Self(writer)
    }

    /// Waits until everything is stored durably.
    pub(crate) async fn close(self) -> Result<Written> {
        let closed = tokio::task::spawn_blocking(move || self.0.close()).await;
        closed.map_err(|e| {
            RepositoryError::new(RepositoryErrorKind::Local, "what was captured could not be completed").because(e)
        })?
    }
}

impl Sink for BackupSink {
    fn begin(&mut self, spec: &PageFileSpec) -> std::result::Result<FileHandle, AnyError> {
        self.0.begin(spec)
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> std::result::Result<(), AnyError> {
        self.0.pages(file, first, bytes)
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> std::result::Result<(), AnyError> {
        self.0.finish(file, length, head)
    }

    fn withdraw(&mut self, file: FileHandle) -> std::result::Result<(), AnyError> {
        self.0.withdraw(file)
    }

    fn begin_stream(&mut self, name: &str) -> std::result::Result<FileHandle, AnyError> {
        self.0.begin_stream(name)
    }

    fn append(&mut self, stream: FileHandle, bytes: &[u8]) -> std::result::Result<(), AnyError> {
        self.0.append(stream, bytes)
    }

    fn finish_stream(&mut self, stream: FileHandle) -> std::result::Result<(), AnyError> {
        self.0.finish_stream(stream)
    }
}

/// What a committed backup is.
#[derive(Debug)]
pub struct CommittedBackup {
    /// The manifest as it was written.
    pub manifest: Manifest,
    /// Damage that was met on the way.
    pub damaged: Vec<DamagedBackup>,
}

impl CommittedBackup {
    /// The state that the backup saved, for the first segment of its journal.
    pub fn end(&self) -> Follows {
        self.manifest.end()
    }
}

impl Repository {
    /// Takes the lease of a database and prepares a backup. Errors: `Busy`, storage errors.
    pub async fn begin_backup(
        &self,
        database: &Database,
        options: &WriteOptions,
        context: &Context,
    ) -> Result<(BackupSession, BackupSink)> {
        let (operation, id, catalog) = self.begin_with_id(&database.name, Making::Backup, context).await?;
        match self.prepare(database, &operation, &id, &catalog, options, context).await {
            Ok((session, sink)) => Ok((session, sink)),
            Err(error) => {
                let error = operation.explain(error).await;
                session::release(operation).await;
                Err(error)
            }
        }
    }

    async fn prepare(
        &self,
        database: &Database,
        operation: &Arc<Operation>,
        id: &BackupId,
        catalog: &Catalog,
        options: &WriteOptions,
        context: &Context,
    ) -> Result<(BackupSession, BackupSink)> {
        let blocked = plan::finish_all(self, database, operation, context).await?;
        let catalog = if blocked.did_something { &self.catalog(&database.name).await? } else { catalog };
        let mut damaged = Vec::new();
        damaged.extend(self.rollback(database, catalog));
        damaged.extend(blocked.unreadable.iter().filter_map(DamagedBackup::without_id));
        let manifest = self.choose_base(database, catalog, &blocked, &mut damaged).await?;
        self.warn_of_clock(&database.name, id, manifest.as_ref(), context);
        // A plan that cannot be read may name any pack: then nothing is shared.
        let manifest = manifest.filter(|_| blocked.unreadable.is_empty());
        damaged.extend(missing_backups(self, database, catalog).await?);
        let mut base = None;
        let mut avoid = self.database_state(database).damaged_packs();
        if let Some(manifest) = &manifest {
            let broken = self.broken_packs(database, &manifest.header.packs).await?;
            for (pack, problem) in &broken {
                let object = layout::pack(&database.name, pack);
                damaged.push(DamagedBackup {
                    backup: Some(manifest.header.backup.clone()),
                    object,
                    problem: problem.clone(),
                });
                avoid.insert(pack.clone());
            }
            match Base::load(self, database, manifest, context).await {
                Ok(found) => base = Some(found),
                Err(error) if error.is_damage() => damaged.extend(DamagedBackup::of(&error, &manifest.header.backup)),
                Err(error) => return Err(error),
            }
        }
        if !damaged.is_empty() {
            context.warn("parts of earlier backups are damaged or missing; this backup stores anew what it would have shared with them");
        }
        let session = BackupSession {
            repository: self.clone(),
            database: database.clone(),
            operation: Arc::clone(operation),
            id: id.clone(),
            predecessor: catalog.newest().cloned(),
            base: base.as_ref().map(|b| b.backup.clone()),
            warnings: Vec::new(),
            damaged,
        };
        let writer = Writer::start(self, database, id, base, &avoid, Arc::clone(operation), options, context)?;
        Ok((session, BackupSink(writer)))
    }

    /// Ids run ahead of the clock when a clock was wrong, or when there are more backups than seconds; only the former matters.
    fn warn_of_clock(&self, name: &FolderName, id: &BackupId, newest: Option<&Manifest>, context: &Context) {
        let now = self.options.clock.wall();
        let is_ahead = |time: Timestamp| time.duration_since(now) > CLOCK_TOLERANCE;
        let captured = newest.map(|m| m.body.captured_at).filter(|time| *time > Timestamp::UNIX_EPOCH);
        if is_ahead(id.time()) && captured.is_none_or(is_ahead) {
            context.warn(format!(
                "the clock of this machine says {now:.0}, but {name} has a backup from {:.0}: one of them is wrong; \
                 the new backup is dated right after that one",
                captured.unwrap_or(id.time())
            ));
        }
    }

    /// The newest manifest that can be read.
    async fn choose_base(
        &self,
        database: &Database,
        catalog: &Catalog,
        blocked: &Blocked,
        damaged: &mut Vec<DamagedBackup>,
    ) -> Result<Option<Manifest>> {
        let mut others = false;
        for id in catalog.backups.keys().rev().filter(|id| !blocked.manifests.contains(*id)) {
            match self.manifest(database, id).await {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(error) if error.is_damage() => {
                    others |= error.is_other_database();
                    damaged.extend(DamagedBackup::of(&error, id));
                }
                Err(error) => return Err(error),
            }
        }
        // Sealed for that other database, the new backup could not be read once the right record is back.
        if others { Err(exchanged_record(&database.name)) } else { Ok(None) }
    }

    /// Whether this machine remembers a newer backup than there is.
    pub(crate) fn rollback(&self, database: &Database, catalog: &Catalog) -> Option<DamagedBackup> {
        let known = self.database_state(database).newest()?.backup;
        if catalog.newest().is_some_and(|newest| *newest >= known) {
            return None;
        }
        // No prune drops the newest backup, so a tombstone in its place is none of ours.
        let problem = if catalog.tombstones.contains_key(&known) {
            "is empty, though this machine saw it and no prune drops the newest backup"
        } else {
            "is missing, though this machine saw it: the repository was rolled back to an earlier state"
        };
        Some(DamagedBackup {
            object: layout::backup(&database.name, &known),
            problem: problem.into(),
            backup: Some(known),
        })
    }
}

impl BackupSession {
    /// The id that the backup will have.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// Waits for the content to be durable, looks that all of it is there, and creates the manifest.
    pub async fn commit(self, sink: BackupSink, facts: BackupFacts, context: &Context) -> Result<CommittedBackup> {
        let result = match self.try_commit(sink, facts, context).await {
            Ok(committed) => Ok(committed),
            Err(error) => Err(self.operation.explain(error).await),
        };
        session::release(self.operation).await;
        result
    }

    /// Gives up; nothing exists, and what was stored goes with the next prune.
    pub async fn abandon(self, sink: Option<BackupSink>) {
        drop(sink);
        session::release(self.operation).await;
    }

    async fn try_commit(&self, sink: BackupSink, facts: BackupFacts, context: &Context) -> Result<CommittedBackup> {
        let written = sink.close().await?;
        context.cancel.check()?;
        let (header, body) = self.manifest(&written, &facts);
        self.repository.require_packs(&self.database, &header.packs).await?;
        let cipher = self.repository.keys.manifest(&self.database.id, &self.id);
        let bytes = document::encode(Kind::Manifest, &header, &body, &cipher)?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        if facts.pin {
            // Before the manifest: whoever finds the backup finds it pinned, also if this process stands still here.
            self.repository.set_mark(&self.database.name, &self.id, Mark::Pinned).await?;
        }
        self.operation.commit(bytes).await?;
        let state = self.repository.database_state(&self.database);
        state.remember_newest(&KnownNewest { backup: self.id.clone(), manifest_hash: hash.clone() });
        let (id, manifest_hash) = (self.id.clone(), hash.clone());
        let Written { maps, packs, .. } = written;
        let saved = tokio::task::spawn_blocking(move || save_cache(&state, &id, &manifest_hash, &packs, maps));
        if let Err(error) = saved.await {
            tracing::debug!(%error, "the page map could not be cached");
        }
        Ok(CommittedBackup { manifest: Manifest { header, body, hash }, damaged: self.damaged.clone() })
    }

    fn manifest(&self, written: &Written, facts: &BackupFacts) -> (ManifestHeader, ManifestBody) {
        let used: Vec<_> = written.packs.iter().filter(|p| p.r#use.used_bytes > 0).collect();
        let header = ManifestHeader {
            format: FORMAT_VERSION,
            database: self.database.id,
            backup: self.id.clone(),
            time: self.id.time(),
            predecessor: self.predecessor.clone(),
            packs: used.iter().map(|p| (p.id.clone(), p.size)).collect(),
            promise: facts.promise.clone(),
        };
        let body = ManifestBody {
            engine: facts.engine.clone(),
            engine_version: facts.engine_version.clone(),
            copal_version: facts.copal_version.clone(),
            host: facts.host.clone(),
            name: self.database.record.name.clone(),
            source: facts.source.clone(),
            label: facts.label.clone(),
            captured_at: facts.captured_at,
            base: self.base.clone(),
            logical_bytes: written.files.iter().map(copal_core::FileEntry::length).sum(),
            added_bytes: written.added_bytes,
            stored_bytes: used.iter().map(|p| p.size).sum(),
            files: written.files.clone(),
            pack_use: used.iter().map(|p| p.r#use).collect(),
            inventory: facts.inventory.clone(),
            position: facts.position.clone(),
            follows: facts.follows.clone(),
            notes: facts.notes.clone(),
            warnings: facts.warnings.iter().chain(&self.warnings).cloned().collect(),
        };
        (header, body)
    }
}
