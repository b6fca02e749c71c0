//! Making a backup.

use std::sync::{Arc, Mutex, PoisonError};

use copal_core::{Context, DatabaseRecord, Engine, Event, Follows, Progress, Promise};
use copal_repository::{BackupFacts, CommittedBackup, Database, Repository, Summary, WriteOptions};
use copal_storage::StorageUrl;
use jiff::Timestamp;

use super::find::{Subject, host_name};
use super::{BackupOptions, CLOCK_TOLERANCE, Copal, blocking, on_own_thread};
use crate::outcome::{damaged_objects, summary};
use crate::{BackupOutcome, Compression, CopalError, ErrorKind, JournalEnd, Result};

/// What is known of the state that was saved before.
#[derive(Default)]
struct Before {
    /// A backup from then on makes another unnecessary.
    since: Option<Timestamp>,
    /// The end of the journal.
    follows: Option<Follows>,
}

/// Passes events on and keeps the warnings.
struct Recorder {
    inner: Arc<dyn Progress>,
    warnings: Mutex<Vec<String>>,
}

impl Progress for Recorder {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = &event {
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        }
        self.inner.event(event);
    }
}

impl Copal {
    /// Backs up one database: a configured name, a URL or a path. The backup exists when this returns, and not otherwise.
    pub async fn backup(&self, database: &str, options: BackupOptions, context: &Context) -> Result<BackupOutcome> {
        let made = self.make(database, None, Before::default(), options, context).await?;
        // Only a moment to compare with makes it unnecessary.
        made.ok_or_else(|| CopalError::new(ErrorKind::Failed, "no backup was made"))
    }

    /// The same, read from a copy (a URL or path) that somebody else made of it. The backup is one of the database all the same.
    pub async fn backup_copy(
        &self,
        database: &str,
        copy: &str,
        options: BackupOptions,
        context: &Context,
    ) -> Result<BackupOutcome> {
        let made = self.make(database, Some(copy), Before::default(), options, context).await?;
        made.ok_or_else(|| CopalError::new(ErrorKind::Failed, "no backup was made"))
    }

    /// The same, but makes none (`None`) if there is one whose view was opened at `since` or later: somebody else was there first.
    ///
    /// This is looked at under the database's lease, so of several programs with one schedule exactly one makes the backup.
    pub async fn backup_unless_since(
        &self,
        database: &str,
        since: Timestamp,
        options: BackupOptions,
        context: &Context,
    ) -> Result<Option<BackupOutcome>> {
        self.make(database, None, Before { since: Some(since), follows: None }, options, context).await
    }

    /// The same as [`backup`](Self::backup), made by who knows the state that was saved before: should segments of that journal be lost, the
    /// backup says that they were there.
    pub async fn backup_following(
        &self,
        database: &str,
        end: &JournalEnd,
        options: BackupOptions,
        context: &Context,
    ) -> Result<BackupOutcome> {
        let before = Before { since: None, follows: Some(end.follows.clone()) };
        let made = self.make(database, None, before, options, context).await?;
        made.ok_or_else(|| CopalError::new(ErrorKind::Failed, "no backup was made"))
    }

    async fn make(
        &self,
        database: &str,
        copy: Option<&str>,
        before: Before,
        options: BackupOptions,
        context: &Context,
    ) -> Result<Option<BackupOutcome>> {
        let recorder = Arc::new(Recorder { inner: Arc::clone(&context.progress), warnings: Mutex::default() });
        let context = Context { cancel: context.cancel.clone(), progress: recorder.clone() };
        let mut subject = self.subject(database)?;
        if let Some(copy) = copy {
            let Subject { source, engine, .. } = self.subject(copy)?;
            (subject.source, subject.engine) = (source, engine);
        }
        let snapshot = match &options.from_snapshot {
            Some(wanted) => Some(self.snapshot_of(database, wanted, &context).await?),
            None => None,
        };
        // The database itself may be gone, of which its snapshots do not speak.
        let bytes = match &snapshot {
            Some(snapshot) => snapshot.bytes,
            None => {
                let (engine, source) = (Arc::clone(&subject.engine), subject.source.clone());
                blocking(move || engine.identify(&source)).await??.bytes
            }
        };
        let repository = self.repository_or_create().await?;
        let stored = self.database_of(repository, &subject, &options, &context).await?;
        if self.is_done(repository, &stored, before.since).await? {
            return Ok(None);
        }
        context.phase("reading", bytes);
        let (session, mut sink) =
            repository.begin_backup(&stored, &self.write_options(&*subject.engine)?, &context).await?;
        // Somebody may have made it between that look and the lease.
        match self.is_done(repository, &stored, before.since).await {
            Ok(false) => {}
            done => {
                session.abandon(Some(sink)).await;
                return done.map(|_| None);
            }
        }
        let captured_at = snapshot.as_ref().map_or_else(Timestamp::now, |snapshot| snapshot.id.time());
        let (engine, source, for_engine) = (Arc::clone(&subject.engine), subject.source.clone(), context.clone());
        let id = snapshot.as_ref().map(|snapshot| snapshot.id.clone());
        let captured = on_own_thread(move || {
            let capture = match (id, engine.snapshots()) {
                (Some(id), Some(snapshots)) => snapshots.capture(&source, &id, &mut sink, &for_engine),
                _ => engine.capture(&source, &mut sink, &for_engine),
            };
            (capture, sink)
        })
        .await;
        let (mut capture, sink) = match captured {
            Ok((Ok(capture), sink)) => (capture, sink),
            Ok((Err(error), sink)) => {
                session.abandon(Some(sink)).await;
                return Err(error.into());
            }
            Err(error) => {
                session.abandon(None).await;
                return Err(error);
            }
        };
        if let Some(snapshot) = &snapshot {
            capture.notes.push(format!("made from the snapshot {:?} ({})", snapshot.note.name, snapshot.id));
        }
        context.phase("storing", None);
        let policy = self.policy(database);
        let facts = BackupFacts {
            engine: subject.engine.name().to_owned(),
            engine_version: capture.engine_version,
            copal_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host_name(),
            source: subject.place.clone(),
            label: options.label.clone(),
            captured_at,
            inventory: capture.inventory,
            position: capture.position.clone(),
            follows: before.follows,
            notes: capture.notes,
            warnings: recorder.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            promise: Promise {
                schedule: policy.and_then(|p| p.schedule.clone()),
                max_age_seconds: policy.and_then(|p| p.max_age).map(|age| age.as_secs()),
            },
            pin: options.pin,
        };
        let committed = session.commit(sink, facts, &context).await?;
        let end = JournalEnd { follows: committed.end(), position: capture.position };
        let CommittedBackup { manifest, damaged } = committed;
        let mut brief = Summary::of(&manifest);
        brief.pinned = options.pin;
        Ok(Some(BackupOutcome {
            backup: summary(&stored.name, &brief),
            damaged: damaged_objects(&stored.name, damaged),
            end,
            held: self.engines.held(&subject.source),
        }))
    }

    /// Whether there is a backup whose view was opened then or later. One of the future was made by a wrong clock, and says nothing.
    pub(super) async fn is_done(
        &self,
        repository: &Repository,
        database: &Database,
        since: Option<Timestamp>,
    ) -> Result<bool> {
        let Some(since) = since else { return Ok(false) };
        let catalog = repository.catalog(&database.name).await?;
        let Some(newest) = catalog.newest() else { return Ok(false) };
        match repository.manifest(database, newest).await {
            Ok(manifest) => {
                let captured_at = manifest.body.captured_at;
                Ok(captured_at >= since && captured_at.duration_since(Timestamp::now()) <= CLOCK_TOLERANCE)
            }
            // A new one is what helps.
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write_options(&self, engine: &dyn Engine) -> Result<WriteOptions> {
        let remote = self.storage_url().is_ok_and(|url: StorageUrl| url.is_remote());
        // A local disk gains nothing from several writes at a time, and each takes 16 MiB of memory.
        let uploads = if remote { self.settings.uploads } else { 1 };
        let level = match self.settings.compression {
            Compression::Suitable => Some(engine.capabilities().compression),
            Compression::Level(level) if (1..=19).contains(&level) => Some(level),
            Compression::Level(_) => {
                return Err(CopalError::new(
                    ErrorKind::Configuration,
                    "the compression level must be 1 to 19, or none",
                ));
            }
            Compression::None => None,
        };
        Ok(WriteOptions { level, uploads, workers: None, repack_age: self.settings.repack_age })
    }

    /// The database's folder, which is created for a first backup, and refused to another source.
    async fn database_of(
        &self,
        repository: &Repository,
        subject: &Subject,
        options: &BackupOptions,
        context: &Context,
    ) -> Result<Database> {
        let Some(found) = repository.database(&subject.name).await? else {
            let record = DatabaseRecord {
                name: subject.display.clone(),
                source: subject.place.clone(),
                engine: subject.engine.name().to_owned(),
                created: Timestamp::now(),
            };
            return Ok(repository.create_database(&subject.name, &record).await?);
        };
        let catalog = repository.catalog(&subject.name).await?;
        let newest = match catalog.newest() {
            Some(id) => repository.manifest(&found, id).await.ok(),
            None => None,
        };
        let known = newest.as_ref().map_or(&found.record.source, |m| &m.body.source);
        if *known != subject.place && !options.adopt {
            let message = format!("{} stands for {known} in this repository, not for {}", subject.name, subject.place);
            return Err(CopalError::new(ErrorKind::Usage, message).with_hint(
                "if the database has moved, go on with --adopt; if it is another one, give it another name in copal.toml",
            ));
        }
        if let Some(other) = newest.map(|m| m.body.host).filter(|other| *other != host_name()) {
            context.note(format!("the last backup of {} was made on {other}", subject.name));
        }
        Ok(found)
    }
}
