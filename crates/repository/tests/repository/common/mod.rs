//! A repository in memory and a plain "engine": a file of bytes.

pub mod damaged;
pub mod forge;
pub mod frozen;
pub mod journal;
pub mod streams;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{AnyError, Content, Context, DatabaseRecord, PageFileSpec, Secret, Sink, WriteAt};
use copal_repository::{
    BackupFacts, BackupSink, CommittedBackup, Database, Manifest, Repository, RepositoryError, RepositoryOptions,
    StateFolder, Unlock, WriteOptions,
};
use copal_storage::fault::FaultStorage;
use copal_storage::{MemoryStorage, Storage};

pub const PASSPHRASE: &str = "correct horse";

/// Bytes that look like nothing and depend on the seed only.
pub fn file_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub struct Rig {
    pub memory: MemoryStorage,
    pub repository: Repository,
    pub state: tempfile::TempDir,
}

pub fn options(state: &tempfile::TempDir) -> RepositoryOptions {
    RepositoryOptions { state: StateFolder::at(state.path()), lease_ttl: Duration::from_secs(60), ..Default::default() }
}

pub fn unlock() -> Unlock {
    Unlock::Passphrase(Secret::new(PASSPHRASE))
}

impl Rig {
    pub async fn new(encrypted: bool) -> Self {
        let memory = MemoryStorage::new();
        let state = tempfile::tempdir().unwrap();
        let passphrase = encrypted.then(|| Secret::new(PASSPHRASE));
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let repository = Repository::create(storage, passphrase.as_ref(), &[], options(&state)).await.unwrap();
        Self { memory, repository, state }
    }

    pub async fn database(&self, name: &str) -> Database {
        database(&self.repository, name).await
    }

    pub async fn backup(&self, database: &Database, bytes: &[u8], page_size: usize) -> Manifest {
        backup(&self.repository, database, bytes, page_size).await.unwrap().manifest
    }

    pub async fn restore(&self, database: &Database, manifest: &Manifest) -> Vec<u8> {
        restore(&self.repository, database, manifest.clone()).await.unwrap()
    }

    /// Empties the local state.
    pub fn forget(&self) {
        for entry in std::fs::read_dir(self.state.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }
}

/// A repository whose storage does as it is told, with its state folder.
pub async fn with_faults() -> (FaultStorage, Repository, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let storage = FaultStorage::new(Arc::new(MemoryStorage::new()));
    let shared = Arc::new(storage.clone());
    let repository = Repository::create(shared, Some(&Secret::new(PASSPHRASE)), &[], options(&state)).await.unwrap();
    (storage, repository, state)
}

pub fn record(name: &str) -> DatabaseRecord {
    DatabaseRecord {
        name: name.into(),
        source: "memory".into(),
        engine: "bytes".into(),
        created: "2026-11-20T00:00:00Z".parse().unwrap(),
    }
}

pub async fn database(repository: &Repository, name: &str) -> Database {
    let record = record(name);
    let name = name.parse().unwrap();
    match repository.database(&name).await.unwrap() {
        Some(found) => found,
        None => repository.create_database(&name, &record).await.unwrap(),
    }
}

pub fn push(sink: &mut BackupSink, bytes: &[u8], page_size: usize) -> Result<(), AnyError> {
    let spec = PageFileSpec { name: "main.db".into(), page_size: page_size as u32, head_length: 0 };
    let file = sink.begin(&spec)?;
    let run = page_size * 100;
    for (i, chunk) in bytes.chunks(run).enumerate() {
        sink.pages(file, (i * 100) as u64, chunk)?;
    }
    sink.finish(file, bytes.len() as u64, &[])
}

pub async fn backup(
    repository: &Repository,
    database: &Database,
    bytes: &[u8],
    page_size: usize,
) -> Result<CommittedBackup, RepositoryError> {
    backup_with(repository, database, bytes, page_size, BackupFacts::default()).await
}

pub async fn backup_with(
    repository: &Repository,
    database: &Database,
    bytes: &[u8],
    page_size: usize,
    facts: BackupFacts,
) -> Result<CommittedBackup, RepositoryError> {
    backup_under(repository, database, bytes, page_size, facts, &Context::silent()).await
}

pub async fn backup_under(
    repository: &Repository,
    database: &Database,
    bytes: &[u8],
    page_size: usize,
    facts: BackupFacts,
    context: &Context,
) -> Result<CommittedBackup, RepositoryError> {
    let bytes = bytes.to_vec();
    let push = Box::new(move |sink: &mut BackupSink| push(sink, &bytes, page_size));
    let options = WriteOptions { workers: Some(2), ..WriteOptions::default() };
    backup_pushed(repository, database, &options, facts, push, context).await
}

/// What is pushed into a sink.
pub type Push = Box<dyn FnOnce(&mut BackupSink) -> Result<(), AnyError> + Send>;

pub async fn backup_pushed(
    repository: &Repository,
    database: &Database,
    options: &WriteOptions,
    facts: BackupFacts,
    push: Push,
    context: &Context,
) -> Result<CommittedBackup, RepositoryError> {
    let (session, mut sink) = repository.begin_backup(database, options, context).await?;
    let pushed = tokio::task::spawn_blocking(move || (push(&mut sink), sink)).await.unwrap();
    match pushed {
        (Ok(()), sink) => session.commit(sink, facts, context).await,
        (Err(error), sink) => {
            session.abandon(Some(sink)).await;
            Err(*error.downcast::<RepositoryError>().unwrap())
        }
    }
}

pub struct Target(pub Mutex<Vec<u8>>);

impl WriteAt for Target {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut target = self.0.lock().unwrap();
        let end = offset as usize + bytes.len();
        if target.len() < end {
            target.resize(end, 0);
        }
        target[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }
}

pub async fn restore(
    repository: &Repository,
    database: &Database,
    manifest: Manifest,
) -> Result<Vec<u8>, RepositoryError> {
    let content = repository.content(database, manifest);
    tokio::task::spawn_blocking(move || {
        let target = Target(Mutex::new(Vec::new()));
        let length = content.files()[0].length() as usize;
        content
            .write_file("main.db", &target, &Context::silent())
            .map_err(|e| *e.downcast::<RepositoryError>().unwrap())?;
        let bytes = target.0.into_inner().unwrap();
        assert_eq!(bytes.len(), length);
        Ok(bytes)
    })
    .await
    .unwrap()
}

/// A clock on which short waits are over at once, so that giving up on a dead holder takes no time; renewals, which
/// wait longer, keep to real time.
#[derive(Debug, Default)]
pub struct HastyClock {
    ahead: Mutex<Duration>,
    origin: Option<std::time::Instant>,
}

impl HastyClock {
    pub fn shared() -> Arc<Self> {
        Arc::new(Self { ahead: Mutex::default(), origin: Some(std::time::Instant::now()) })
    }
}

#[async_trait::async_trait]
impl copal_storage::Clock for HastyClock {
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        *self.ahead.lock().unwrap() + self.origin.map_or(Duration::ZERO, |o| o.elapsed())
    }

    fn boot(&self) -> Duration {
        self.origin.map_or(Duration::ZERO, |o| o.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        if duration > Duration::from_secs(10) {
            tokio::time::sleep(duration).await;
        } else {
            *self.ahead.lock().unwrap() += duration;
            tokio::task::yield_now().await;
        }
    }
}

/// Options with a [`HastyClock`] and this state folder.
pub fn hasty(state: &std::path::Path) -> RepositoryOptions {
    RepositoryOptions { state: StateFolder::at(state), lease_ttl: Duration::from_secs(60), clock: HastyClock::shared() }
}

/// A recovery key: opens at once, where a passphrase takes a quarter of a second.
pub struct RecoveryKey {
    pub recipient: String,
    pub identity: Secret,
}

impl RecoveryKey {
    pub fn generate() -> Self {
        use age::secrecy::ExposeSecret;
        let identity = age::x25519::Identity::generate();
        let text = identity.to_string().expose_secret().to_owned();
        Self { recipient: identity.to_public().to_string(), identity: Secret::new(text) }
    }

    pub fn unlock(&self) -> Unlock {
        Unlock::Identity(self.identity.clone())
    }
}

/// Copies a folder of state.
pub fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Rules that keep so many backups.
pub fn keep_last(n: u32) -> copal_repository::PruneRules {
    copal_repository::PruneRules {
        keep: copal_core::Keep { last: Some(n), ..Default::default() },
        zone: jiff::tz::TimeZone::UTC,
        trust_clock: true,
    }
}
